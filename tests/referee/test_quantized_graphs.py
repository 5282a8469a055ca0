"""NVIDIA's parser takes every kind of quantized graph that we export, and its builder makes of it what the plan says.

One file, so that one worker of pytest-xdist imports ModelOpt and quantizes what several tests share.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_types import Build, check_promises, check_types, convolution_types, layers_of, nodes_of
from small_exports import SIZE, export, heads_network, quantized, shallow_network

from samkr_edge.builder.inspect.engine_measures import EngineMeasures, measure
from samkr_edge.builder.tensorrt.engine_bytes import SerializedEngine, build_bytes
from samkr_edge.builder.tensorrt.features import Features
from samkr_edge.builder.tensorrt.plan import plan_build
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from targets.profile import load_target
from training.models.pose_net import PoseNet


@pytest.fixture(scope="module")
def int8_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = quantized(shallow_network("samkr_tiny"), "default")
    return export(network, tmp_path_factory.mktemp("int8") / "tiny.onnx", "int8")


@pytest.fixture(scope="module")
def without_quantizers(build: Build, int8_onnx: Path) -> SerializedEngine:
    return build(int8_onnx, precision="fp16")


@pytest.fixture(scope="module")
def rtx_network() -> PoseNet:
    return quantized(shallow_network("samkr_tiny"), "rtx")


@pytest.fixture(scope="module")
def rtx_onnx(rtx_network: PoseNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(rtx_network, tmp_path_factory.mktemp("rtx") / "tiny.onnx", "int8")


def measured(engine: SerializedEngine) -> EngineMeasures:
    return measure(layers_of(engine))


# Not every choice with every other, which takes minutes: each is in one row, and none has a row of its own.
@pytest.mark.parametrize(
    ("name", "policy", "keypoints", "options"),
    [
        ("samkr_tiny", "everything", 14, {"opset": 16}),
        ("samkr_tiny", "trunk_only", 17, {"opset": 18, "batch": 3, "decode": "graph"}),
        ("samkr_tiny", "default", 17, {"opset": 19, "half": True}),
        ("samkr_w32_nodc", "default", 14, {"opset": 19, "decode": "graph"}),
        ("dekr_w32", "default", 17, {"opset": 17}),
        ("swahr_tiny", "default", 14, {"opset": 17}),
    ],
    ids=str,
)
def test_int8_graphs_of_every_kind(
    build: Build, tmp_path: Path, name: str, policy: str, keypoints: int, options: dict[str, Any]
) -> None:
    # Where the trunk is most of what is INT8 it must be most of the network, or the plan takes the graph for FP16.
    trunk_matters = policy == "trunk_only" or name == "swahr_tiny"
    build_network = shallow_network if trunk_matters else heads_network
    network = quantized(build_network(name, keypoints), policy)
    source = export(network, tmp_path / "model.onnx", "int8", **options)
    check_types(build(source), source, "int8")


class OneImage:
    """Calibration data for onnxruntime.quantization."""

    def __init__(self) -> None:
        self._left = [np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return {"image": self._left.pop()} if self._left else None


def test_symmetric_int8_of_another_tool(build: Build, tmp_path: Path) -> None:
    """Biases are int32 behind a DequantizeLinear, which TensorRT has not, and outputs come from one."""
    from onnxruntime import quantization as tool

    source, out = export(shallow_network("samkr_tiny"), tmp_path / "float.onnx"), tmp_path / "foreign.onnx"
    tool.quantize_static(
        source,
        out,
        OneImage(),
        per_channel=True,
        activation_type=tool.QuantType.QInt8,
        weight_type=tool.QuantType.QInt8,
        op_types_to_quantize=["Conv"],
        extra_options={"ActivationSymmetric": True},
    )
    assert set(convolution_types(build(out)).values()) == {"int8"}


def test_fp8(build: Build, tmp_path: Path) -> None:
    network = quantized(heads_network("samkr_tiny"), "default", format="fp8")
    source = export(network, tmp_path / "model.onnx", "fp8", opset=19)
    engine = build(source)
    check_types(engine, source, "fp8")
    assert "int8" not in convolution_types(engine).values()


def test_int8_without_its_quantizers(
    build: Build, int8_onnx: Path, without_quantizers: SerializedEngine
) -> None:
    check_types(without_quantizers, int8_onnx, "fp16")
    check_types(build(int8_onnx, precision="fp32"), int8_onnx, "fp32")


@pytest.mark.parametrize("target", ["rtx-3060", "rtx-5090", "rtx-30-and-up"])
def test_int8_for_one_card_and_for_many(build: Build, int8_onnx: Path, target: str) -> None:
    check_types(build(int8_onnx, target), int8_onnx, "int8")


@pytest.mark.parametrize("capabilities", [("7.5",), ("7.5", "8.9")], ids=str)
def test_int8_becomes_fp16_for_turing_and_for_every_card_beside_it(
    features: Features, int8_onnx: Path, capabilities: tuple[str, ...]
) -> None:
    """Why the plan for these takes FP16. Where a newer builder fails this, that decision can go."""
    plan = plan_build(load_target("rtx-4090"), features, facts_of(read_onnx(int8_onnx)), Wishes())
    engine = build_bytes(int8_onnx, replace(plan, compute_capabilities=capabilities))
    assert set(convolution_types(engine).values()) == {"fp16", "fp32"}


def test_turing_gets_fp16(build: Build, int8_onnx: Path) -> None:
    check_types(build(int8_onnx, "rtx-2080"), int8_onnx, "fp16")


def check_fused(build: Build, source: Path) -> None:
    """INT8 in the form that fuses: fewer bytes than FP16, in about as many kernels, and none of it writes FP32."""
    half, engine = measured(build(source, precision="fp16")), build(source)
    form = measured(engine)
    assert form.bytes_moved < 0.9 * half.bytes_moved
    assert form.kernels <= half.kernels + 3
    assert form.int8_share > 0.4
    assert form.int8_writing_float == 0
    # An FP16 convolution writes the bytes that the next one reads.
    assert form.convolutions["fp16", "int8"] > 0
    assert convolution_types(engine).keys() == nodes_of(source, "Conv")
    check_promises(engine, source)


def test_int8_by_the_policy_for_these_cards(build: Build, rtx_onnx: Path) -> None:
    check_fused(build, rtx_onnx)


def test_int8_by_the_policy_for_these_cards_with_14_keypoints_decoded_in_the_graph(
    build: Build, tmp_path: Path
) -> None:
    network = quantized(heads_network("samkr_tiny", 14), "rtx")
    check_fused(build, export(network, tmp_path / "tiny.onnx", "int8", decode="graph"))


def test_int8_by_the_policy_for_these_cards_beside_fp16_of_the_export(
    build: Build, rtx_network: PoseNet, tmp_path: Path
) -> None:
    """The plan leaves the types of such a graph alone: every quantized convolution is INT8, and none writes FP32."""
    source = export(rtx_network, tmp_path / "half.onnx", "int8", opset=19, half=True)
    half, engine = measured(build(source, precision="fp16")), build(source)
    check_types(engine, source, "int8")
    form = measured(engine)
    assert form.int8_writing_float == 0
    assert form.bytes_moved < half.bytes_moved


def test_int8_by_the_policy_for_these_cards_of_a_network_with_tags(build: Build, tmp_path: Path) -> None:
    source = export(quantized(shallow_network("swahr_tiny"), "rtx"), tmp_path / "tags.onnx", "int8")
    half, engine = measured(build(source, precision="fp16")), build(source)
    form = measured(engine)
    assert form.bytes_moved < half.bytes_moved
    assert form.kernels <= half.kernels
    assert form.int8_writing_float == 0 < form.convolutions["fp16", "int8"]
    check_promises(engine, source)


def test_no_kernel_pads_what_a_convolution_wrote_for_the_next(build: Build, tmp_path: Path) -> None:
    """Behind 90 channels, a third of HRNet-W18's 270, as behind the 18 of its branch at stride 4."""
    source = export(quantized(heads_network("samkr_w18", 14), "rtx"), tmp_path / "narrow.onnx", "int8")
    engine = build(source)
    layers = layers_of(engine)
    bytes_of_convolutions = {
        tensor.name
        for layer in layers
        if layer.role == "conv"
        for tensor in layer.outputs
        if tensor.dtype == "int8"
    }
    readers = [layer for layer in layers if bytes_of_convolutions & {tensor.name for tensor in layer.inputs}]
    assert {layer.role for layer in readers} == {"conv"}
    check_promises(engine, source)


def test_a_scale_for_every_channel_moves_more_than_fp16(
    build: Build, int8_onnx: Path, without_quantizers: SerializedEngine
) -> None:
    """Why there is a policy for these cards. Where a newer builder fails this, the default one will do."""
    channels, half = measured(build(int8_onnx)), measured(without_quantizers)
    assert channels.int8_writing_float == channels.computed_in("int8") > 0
    assert channels.bytes_moved > half.bytes_moved
    assert channels.elementwise > 2 * half.elementwise
