"""NVIDIA's parser takes every kind of graph that we export, and its builder makes of it what the plan says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine_types import Build, check_types, convolution_types
from small_exports import export, quantized, shallow_network

from samkr_edge.build.engine_bytes import build_bytes
from samkr_edge.build.features import Features
from samkr_edge.build.onnx_file import read_onnx
from samkr_edge.build.plan import plan_build
from samkr_edge.build.tensorrt_graph import facts_of
from samkr_edge.build.wishes import Wishes
from targets.profile import load_target
from training.models.pose_net import PoseNet


@pytest.fixture(scope="module")
def tiny() -> PoseNet:
    return shallow_network("samkr_tiny")


@pytest.fixture(scope="module")
def float_onnx(tiny: PoseNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tiny, tmp_path_factory.mktemp("float") / "tiny.onnx")


@pytest.fixture(scope="module")
def int8_onnx(tiny: PoseNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(quantized(tiny, "default"), tmp_path_factory.mktemp("int8") / "tiny.onnx", "int8")


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
        check_types(build(source, precision=precision), source, precision)


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
    check_types(build(source), source, "int8")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_float_and_quantized_graphs_of_opset_17_in_every_precision(
    build: Build, float_onnx: Path, int8_onnx: Path, precision: str
) -> None:
    """The quantized one without its quantizers."""
    check_types(build(float_onnx, precision=precision), float_onnx, precision)
    check_types(build(int8_onnx, precision=precision), int8_onnx, precision)


@pytest.mark.parametrize("target", ["rtx-3060", "rtx-5090", "rtx-30-and-up"])
def test_int8_for_one_card_and_for_many(build: Build, int8_onnx: Path, target: str) -> None:
    check_types(build(int8_onnx, target), int8_onnx, "int8")


@pytest.mark.parametrize("capabilities", [("7.5",), ("7.5", "8.9")], ids=str)
def test_int8_becomes_fp16_for_turing_and_for_every_card_beside_it(
    build: Build, features: Features, int8_onnx: Path, capabilities: tuple[str, ...]
) -> None:
    """Why the plan for these takes FP16. Where a newer builder fails this, that decision can go."""
    plan = plan_build(load_target("rtx-4090"), features, facts_of(read_onnx(int8_onnx)), Wishes())
    engine = build_bytes(int8_onnx, replace(plan, compute_capabilities=capabilities))
    assert set(convolution_types(engine).values()) == {"fp16", "fp32"}
    check_types(build(int8_onnx, "rtx-2080"), int8_onnx, "fp16")
