"""INT8 only where bytes cost no kernel: the same numbers within rounding."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from samkr_edge.builder.tensorrt.edits import prepare
from samkr_edge.builder.tensorrt.fused_int8 import fuse_int8
from samkr_edge.builder.tensorrt.half import bake
from samkr_edge.onnx_graph.graph import Graph
from samkr_edge.onnx_graph.onnx_reading import decode_onnx

if TYPE_CHECKING:
    pass

CHANNELS, SIZE = 16, 12
STEP = np.float32(np.float16(0.05))  # as FP16 has it


class Writer:
    """Nodes of a quantized network of one width, (1, 16, 12, 12) in and out if that is 16."""

    def __init__(self, channels: int = CHANNELS) -> None:
        self.channels = channels
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {"step": STEP, "zero": np.int8(0)}
        self.random = np.random.default_rng(0)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def pair(self, x: str, step: str = "step") -> str:
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, step, "zero"), step, "zero")

    def conv(self, x: str, per_channel: bool = False, bias: bool = True, quantized: bool = True) -> str:
        """A 3x3 convolution with quantized weights; the name of its output."""
        name = f"weight_{len(self.nodes)}"
        weight = self.random.normal(0, 0.15, (self.channels, self.channels, 3, 3)).astype(np.float32)
        largest = np.abs(weight).max(axis=(1, 2, 3)) if per_channel else np.abs(weight).max()
        self.constants[name] = weight
        self.constants[f"{name}_step"] = (largest / 127).astype(np.float32)
        self.constants[f"{name}_zero"] = np.zeros(largest.shape, np.int8)
        steps = f"{name}_step", f"{name}_zero"
        across = {"axis": 0} if per_channel else {}
        if quantized:
            name = self.op(
                "DequantizeLinear", self.op("QuantizeLinear", name, *steps, **across), *steps, **across
            )
        self.constants[f"bias_{name}"] = self.random.normal(0, 0.3, self.channels).astype(np.float32)
        return self.op(
            "Conv", x, name, *([f"bias_{name}"] if bias else []), kernel_shape=[3, 3], pads=[1] * 4
        )

    def block(self, x: str, **second: Any) -> str:
        """A basic block as the exporter writes it: both convolutions and the block's input quantized."""
        inside = self.op("Relu", self.conv(self.pair(x)))
        return self.op("Relu", self.op("Add", self.conv(self.pair(inside), **second), self.pair(x)))

    def model(self, y: str) -> onnx.ModelProto:
        used = {name for node in self.nodes for name in node.input}
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, self.channels, SIZE, SIZE))
            for name in ("x", y)
        ]
        constants = [
            numpy_helper.from_array(np.asarray(v), n) for n, v in self.constants.items() if n in used
        ]
        graph = helper.make_graph(self.nodes, "test", ends[:1], ends[1:], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model, full_check=True)
        return model


def run(model: onnx.ModelProto, seed: int = 0) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = np.random.default_rng(seed).normal(0, 1, (1, CHANNELS, SIZE, SIZE)).astype(np.float32)
    result: np.ndarray = session.run(None, {"x": x})[0]
    return result


class Found(NamedTuple):
    """INT8 convolutions that are left, and those that write bytes."""

    kept: int
    truncated: int


def fused(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Found]:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = Graph(copy)
    kept = fuse_int8(graph)
    result = graph.write()
    onnx.checker.check_model(result, full_check=True)
    return result, Found(kept, operators(result)["Clip"])


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def test_bytes_inside_a_block_are_those_its_quantizer_would_have_made() -> None:
    written = Writer()
    # The block as it is to be: only the second convolution quantized, by QuantizeLinear.
    inside = written.op("Relu", written.conv("x", quantized=False))
    y = written.op("Relu", written.op("Add", written.conv(written.pair(inside)), "x"))
    expected = written.model(y)
    model, found = fused(expected)
    assert (found.kept, found.truncated) == (1, 1)
    assert operators(model)["QuantizeLinear"] == 1  # the weights' own
    assert operators(model)["Cast"] == operators(model)["Clip"] == 1
    for seed in range(3):
        # Ties alone may round another way, and random numbers have none.
        np.testing.assert_allclose(run(model, seed), run(expected, seed), rtol=0, atol=1e-4)


def test_a_tie_is_rounded_up_and_values_out_of_range_are_cut() -> None:
    steps = np.array([-300, -0.5, 0.49, 0.5, 1.5, 2.5, 126.4, 127.6, 4000], np.float32)
    expected = np.array([0, 0, 0, 1, 2, 3, 126, 127, 127], np.float32)
    written = Writer()
    name = "identity"
    written.constants[name] = np.eye(CHANNELS, dtype=np.float32).reshape(CHANNELS, CHANNELS, 1, 1)
    inside = written.op("Relu", written.op("Conv", "x", name))
    y = written.pair(inside)
    written.constants |= {"ws": np.float32(1 / 127), "wz": np.int8(0), "step": np.float32(0.5)}
    weight = written.op("DequantizeLinear", written.op("QuantizeLinear", name, "ws", "wz"), "ws", "wz")
    model, found = fused(written.model(written.op("Conv", y, weight)))
    assert found.truncated == 1
    x = np.zeros((1, CHANNELS, SIZE, SIZE), np.float32)
    x[0, 0, 0, : len(steps)] = steps * 0.5
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": x})
    np.testing.assert_allclose(result[0, 0, 0, : len(steps)], expected * 0.5, rtol=1e-6)


def test_what_does_not_fuse_computes_what_it_did_before_it_was_quantized() -> None:
    written = Writer()
    y = written.block("x", per_channel=True)  # a scale a channel makes a convolution write FP32
    quantized = written.model(y)
    model, found = fused(quantized)
    assert (found.kept, found.truncated) == (0, 0)
    assert set(operators(model)) == {"Conv", "Relu", "Add"}
    plain = Writer()
    inside = plain.op("Relu", plain.conv("x", quantized=False))
    y = plain.op("Relu", plain.op("Add", plain.conv(inside, quantized=False), "x"))
    floats = {v.name: numpy_helper.to_array(v) for v in quantized.graph.initializer}
    for name, value in zip(
        [
            n
            for n in plain.constants
            if n.startswith(("weight", "bias")) and not n.endswith(("_step", "_zero"))
        ],
        [
            v
            for n, v in floats.items()
            if n.startswith(("weight", "bias")) and not n.endswith(("_step", "_zero"))
        ],
        strict=True,
    ):
        plain.constants[name] = value
    np.testing.assert_allclose(run(model), run(plain.model(y)), rtol=0, atol=1e-5)


def test_in_a_row_of_blocks_every_second_convolution_stays_int8_and_no_sum_is_quantized() -> None:
    written = Writer()
    x = "x"
    for _ in range(3):
        x = written.block(x)
    model, found = fused(written.model(x))
    assert (found.kept, found.truncated) == (3, 3)
    made = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type == "Add":
            assert not any(made[n].op_type == "DequantizeLinear" for n in node.input if n in made)


@pytest.mark.parametrize(("channels", "kept"), [(16, 1), (18, 0), (36, 1)])
def test_bytes_whose_channels_the_builder_would_have_to_pad_are_not_written(channels: int, kept: int) -> None:
    written = Writer(channels)
    _, found = fused(written.model(written.block("x")))
    assert (found.kept, found.truncated) == (kept, kept)


def test_a_chain_alternates_and_a_result_with_other_readers_stays_float() -> None:
    written = Writer()
    x = "x"
    for _ in range(4):
        x = written.op("Relu", written.conv(written.pair(x)))
    _, found = fused(written.model(x))
    assert (found.kept, found.truncated) == (2, 2)
    written = Writer()
    inside = written.op("Relu", written.conv("x", quantized=False))
    y = written.op("Add", written.conv(written.pair(inside)), inside)  # the sum reads the float result too
    _, found = fused(written.model(y))
    assert found.kept == 0


def test_readers_of_one_tensor_share_its_bytes_unless_their_scales_differ() -> None:
    for other, kept in (("step", 2), ("half_step", 0)):
        written = Writer()
        written.constants["half_step"] = np.asarray(STEP / 2, np.float32)
        inside = written.op("Relu", written.conv("x", quantized=False))
        branches = [written.conv(written.pair(inside)), written.conv(written.pair(inside, other))]
        model, found = fused(written.model(written.op("Add", *branches)))
        assert found.kept == kept
        assert operators(model)["Cast"] == (kept > 0)


def test_a_convolution_without_bias_gets_the_half_alone() -> None:
    written = Writer()
    inside = written.op("Relu", written.conv("x", quantized=False, bias=False))
    expected = written.model(written.conv(written.pair(inside)))
    model, found = fused(expected)
    assert found.truncated == 1
    np.testing.assert_allclose(run(model), run(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("weight", "bias", "kept"), [(1, 1, 1), (1, 1e3, 0), (1e5, 1, 0)])
def test_a_convolution_whose_steps_fp16_cannot_hold_stays_float(
    weight: float, bias: float, kept: int
) -> None:
    """Behind a bias of 1023 steps FP16 has no halves left, and at 65504 it ends."""
    written = Writer()
    inside = written.op("Relu", written.conv("x", quantized=False))
    written.constants["weight_0"] = written.constants["weight_0"] * np.float32(weight)
    written.constants["bias_weight_0"] = written.constants["bias_weight_0"] * np.float32(bias)
    model, found = fused(written.model(written.conv(written.pair(inside))))
    assert (found.kept, found.truncated) == (kept, kept)
    bake(model.SerializeToString())  # is not refused


def maps(model: bytes, image: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return list(session.run(["heatmap", "offset"], {session.get_inputs()[0].name: image}))


def test_a_network_in_this_form_is_nearer_to_the_float_one_than_the_quantized_one_is(
    per_tensor_onnx: Path, float_onnx: Path
) -> None:
    image = np.random.default_rng(3).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    expected = maps(float_onnx.read_bytes(), image)
    errors = {}
    quantized = per_tensor_onnx.read_bytes()
    for name, steps in (("all", ["bake_fp16"]), ("fused", ["fuse_int8", "bake_fp16"])):
        data = prepare(decode_onnx(quantized), steps)
        errors[name] = [
            np.linalg.norm(a - b) / np.linalg.norm(b)
            for a, b in zip(maps(data, image), expected, strict=True)
        ]
    assert max(errors["fused"]) > 0
    assert sum(errors["fused"]) < sum(errors["all"])
