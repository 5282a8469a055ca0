"""NVIDIA's parser takes every graph that we export, its builder makes an engine of it, and no convolution is lost.

64x64 pixels, and trunks that do not repeat themselves: what is new to a parser is all there.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from conftest import Build
from engine_types import LAST, check_full_precision, convolution_types, nodes_of, quantized_convolutions
from small_exports import export, quantized, shallow_network

from samkr_edge.build.engine_bytes import SerializedEngine, build_bytes
from samkr_edge.build.features import Features
from samkr_edge.build.onnx_file import read_onnx
from samkr_edge.build.plan import plan_build
from samkr_edge.build.tensorrt_graph import facts_of
from samkr_edge.build.wishes import Wishes
from targets.profile import load_target
from training.models.pose_net import PoseNet
from training.models.zoo import model_names


@pytest.fixture(scope="module")
def tiny() -> PoseNet:
    return shallow_network("samkr_tiny")


@pytest.fixture(scope="module")
def float_onnx(tiny: PoseNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tiny, tmp_path_factory.mktemp("float") / "tiny.onnx")


@pytest.fixture(scope="module")
def int8_onnx(tiny: PoseNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(quantized(tiny, "default"), tmp_path_factory.mktemp("int8") / "tiny.onnx", "int8")


def check(engine: SerializedEngine, source: Path, precision: str) -> None:
    """The engine holds every convolution of the graph, those meant INT8 as INT8, and FP32 what must be."""
    types = convolution_types(engine)
    assert types.keys() == nodes_of(source, "Conv")
    assert {kind for node, kind in types.items() if "/backbone/" in node} == {precision}
    if precision == "int8":
        meant = {node for node in quantized_convolutions(source) if not node.endswith(LAST)}
        assert {node for node, kind in types.items() if kind == "int8"} == meant
    check_full_precision(engine, source)


@pytest.mark.parametrize("name", model_names())
def test_every_network_of_the_zoo(build: Build, tmp_path: Path, name: str) -> None:
    source = export(shallow_network(name), tmp_path / "model.onnx")
    assert ("GridSample" in source.read_bytes().decode("latin-1")) is ("nodc" not in name)
    check(build(source), source, "fp16")


@pytest.mark.parametrize(
    ("keypoints", "options"),
    [
        (17, {"opset": 16, "batch": 3}),
        (14, {"opset": 18}),
        (17, {"opset": 19, "decode": "graph"}),
        (14, {"decode": "graph"}),
        (17, {"half": True}),
    ],
    ids=str,
)
def test_float_graphs_of_every_kind(
    build: Build, tmp_path: Path, keypoints: int, options: dict[str, Any]
) -> None:
    source = export(shallow_network("samkr_tiny", keypoints), tmp_path / "model.onnx", **options)
    for precision in ("fp16",) if "half" in options else ("fp32", "fp16"):
        check(build(source, precision=precision), source, precision)


# Not every choice with every other, which takes minutes: each is in one row, and none has a row of its own.
@pytest.mark.parametrize(
    ("policy", "keypoints", "options"),
    [
        ("everything", 14, {"opset": 16}),
        ("trunk_only", 17, {"opset": 18, "batch": 3, "decode": "graph"}),
        ("default", 14, {"opset": 19, "decode": "graph"}),
        ("default", 17, {"opset": 19, "half": True}),
    ],
    ids=str,
)
def test_quantized_graphs_of_every_kind(
    build: Build, tmp_path: Path, policy: str, keypoints: int, options: dict[str, Any]
) -> None:
    network = quantized(shallow_network("samkr_tiny", keypoints), policy)
    source = export(network, tmp_path / "model.onnx", "int8", **options)
    check(build(source), source, "int8")
    check(build(source, precision="fp16"), source, "fp16")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_float_and_quantized_graphs_of_opset_17_in_every_precision(
    build: Build, float_onnx: Path, int8_onnx: Path, precision: str
) -> None:
    """The quantized one without its quantizers."""
    check(build(float_onnx, precision=precision), float_onnx, precision)
    check(build(int8_onnx, precision=precision), int8_onnx, precision)


@pytest.mark.parametrize("target", ["rtx-3060", "rtx-4090", "rtx-5090", "rtx-30-and-up"])
def test_int8_for_one_card_and_for_many(build: Build, int8_onnx: Path, target: str) -> None:
    check(build(int8_onnx, target), int8_onnx, "int8")


@pytest.mark.parametrize("capabilities", [("7.5",), ("7.5", "8.9")], ids=str)
def test_int8_becomes_fp16_for_turing_and_for_every_card_beside_it(
    build: Build, features: Features, int8_onnx: Path, capabilities: tuple[str, ...]
) -> None:
    """Why the plan for these takes FP16. Where a newer builder fails this, that decision can go."""
    plan = plan_build(load_target("rtx-4090"), features, facts_of(read_onnx(int8_onnx)), Wishes())
    engine = build_bytes(int8_onnx, replace(plan, compute_capabilities=capabilities))
    assert set(convolution_types(engine).values()) == {"fp16", "fp32"}
    check(build(int8_onnx, "rtx-2080"), int8_onnx, "fp16")


def test_an_open_batch_is_built_for_the_batch_asked_for(build: Build, tmp_path: Path) -> None:
    source = export(shallow_network("dekr_w32_nodc"), tmp_path / "open.onnx")
    model = onnx.load(source)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.save(model, source)
    engine = build(source, batch=3)
    check(engine, source, "fp16")
    assert "MinShape: [3,64,64,3], OptShape: [3,64,64,3], MaxShape: [3,64,64,3]" in (engine.listing or "")
