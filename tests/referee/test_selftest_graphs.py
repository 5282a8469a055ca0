"""NVIDIA's parser and builder take every graph of the self-test's first stages, in every form that this flavour has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.selftest import operator_graphs as graphs
from benchmarks.selftest.engine_of import FP32, STRONG_FP16, Form, plan_of
from benchmarks.selftest.operators import BYTES, HALF
from benchmarks.selftest.sampling import MAPS
from samkr_edge.builder.tensorrt.engine_bytes import build_bytes
from samkr_edge.builder.tensorrt.features import Features
from samkr_edge.builder.tensorrt.sampling_trial import sampling_graph
from samkr_edge.onnx_graph.onnx_reading import decode_onnx


def build(graph: bytes, form: Form) -> int:
    """Bytes of the engine, for one card."""
    plan = replace(plan_of(graph, form, "rtx"), compute_capabilities=("8.9",))
    return len(build_bytes(Path("operator.onnx"), plan, graph=decode_onnx(graph)).data)


@pytest.mark.parametrize("form", [FP32, STRONG_FP16], ids=lambda form: form.title)
@pytest.mark.parametrize("sizes", MAPS, ids=str)
def test_sampling(features: Features, sizes: tuple[int, int, int, int], form: Form) -> None:
    assert build(sampling_graph(*sizes, "fp32"), form) > 100_000


def test_every_type_and_image_bytes(features: Features) -> None:
    assert build(graphs.every_type(with_bytes=features.uint8)[0].graph, HALF) > 100_000
    assert build(graphs.image_bytes().graph, BYTES) > 100_000


def test_operators(features: Features) -> None:
    for factor in (2, 4, 8):
        build(graphs.resize(factor).graph, FP32)
    for sizes in graphs.CONVOLUTIONS:
        build(graphs.convolution(*sizes).graph, FP32)
        build(graphs.convolution(*sizes, half=True).graph, HALF)
    build(graphs.softmax().graph, FP32)
    build(graphs.softmax(half=True).graph, HALF)
    build(graphs.decode_tail().graph, FP32)
