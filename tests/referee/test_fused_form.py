"""INT8 by the policy for these cards, in the form that fuses: fewer bytes than FP16, in about as many kernels."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from engine_types import Build, check_full_precision, layers_of
from small_exports import export, quantized, shallow_network

from samkr_edge.build.engine_bytes import SerializedEngine
from samkr_edge.build.engine_measures import EngineMeasures, measure
from samkr_edge.build.engine_promises import broken_promises, promises_of
from samkr_edge.build.graph import Graph


@pytest.fixture(scope="module")
def rtx_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = quantized(shallow_network("samkr_tiny"), "rtx")
    return export(network, tmp_path_factory.mktemp("rtx") / "tiny.onnx", "int8")


def measured(engine: SerializedEngine) -> EngineMeasures:
    return measure(layers_of(engine))


def test_int8_moves_fewer_bytes_than_fp16_and_none_of_it_writes_fp32(build: Build, rtx_onnx: Path) -> None:
    half, engine = measured(build(rtx_onnx, precision="fp16")), build(rtx_onnx)
    form = measured(engine)
    assert form.bytes_moved < 0.9 * half.bytes_moved
    assert form.kernels <= half.kernels + 3
    assert form.int8_share > 0.4
    assert form.int8_writing_float == 0
    # An FP16 convolution writes the bytes that the next one reads.
    assert form.convolutions["fp16", "int8"] > 0
    check_full_precision(engine, rtx_onnx)
    assert not broken_promises(layers_of(engine), promises_of(Graph(onnx.load_from_string(engine.parsed))))


def test_a_scale_for_every_channel_moves_more_than_fp16(build: Build, rtx_onnx: Path, tmp_path: Path) -> None:
    """Why there is a policy for these cards. Where a newer builder fails this, the default one will do."""
    source = export(quantized(shallow_network("samkr_tiny"), "default"), tmp_path / "tiny.onnx", "int8")
    channels, half = measured(build(source)), measured(build(source, precision="fp16"))
    assert channels.int8_writing_float == channels.computed_in("int8") > 0
    assert channels.bytes_moved > half.bytes_moved
    assert channels.elementwise > 2 * half.elementwise
