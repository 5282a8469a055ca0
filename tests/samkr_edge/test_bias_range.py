"""Integer convolutions add their biases whole, however small their weights are."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from samkr_edge.build.bias_range import LARGEST, fit_biases
from samkr_edge.build.graph import Graph

CHANNELS = 6


def convolution(seed: int, *, folded: bool = False, per_tensor: bool = False) -> onnx.ModelProto:
    """INT8 convolution and ReLU, quantized again, with weights between 1 and 1e-9 beside biases of about 1."""
    rng = np.random.default_rng(seed)
    sizes = (10.0 ** rng.uniform(-9, 0, CHANNELS)).astype(np.float32)
    weight = (rng.normal(size=(CHANNELS, 4, 3, 3)) * sizes[:, None, None, None]).astype(np.float32)
    largest = np.abs(weight).max(axis=(1, 2, 3))
    scale = np.maximum(largest.max() if per_tensor else largest, 1e-6).astype(np.float32) / np.float32(127)
    zeros = np.zeros(scale.shape, np.int8)
    steps = np.rint(weight / scale.reshape(-1, 1, 1, 1)).astype(np.int8)
    constants = {
        "s": np.float32(0.02), "o": np.float32(0.05), "zero": np.int8(0),
        "ws": scale, "wz": zeros, "w": weight,
        "b": rng.normal(size=CHANNELS).astype(np.float32) * 3,
    }  # fmt: skip
    weights = [helper.make_node("QuantizeLinear", ["w", "ws", "wz"], ["wq"], axis=0)]
    if folded:
        weights, constants["wq"] = [], steps
        del constants["w"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "zero"], ["xd"]),
        *weights,
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("Conv", ["xd", "wd", "b"], ["c"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "o", "zero"], ["rq"]),
        helper.make_node("DequantizeLinear", ["rq", "o", "zero"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, CHANNELS, 6, 6))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def run(model: onnx.ModelProto, *, fused: bool) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if fused else level.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    image = np.random.default_rng(0).normal(size=(1, 4, 8, 8)).astype(np.float32)
    return np.asarray(session.run(None, {"x": image})[0])


@pytest.mark.parametrize("folded", [False, True], ids=["float weights", "int8 weights"])
@pytest.mark.parametrize("per_tensor", [False, True], ids=["per channel", "per tensor"])
@pytest.mark.parametrize("seed", range(6))
def test_the_fused_kernel_computes_what_the_graph_says(seed: int, folded: bool, per_tensor: bool) -> None:
    model = convolution(seed, folded=folded, per_tensor=per_tensor)
    said = run(model, fused=False)
    graph = Graph(model)
    fit_biases(graph)
    built = graph.write()
    onnx.checker.check_model(built)
    np.testing.assert_allclose(
        run(built, fused=True), said, atol=0.0501
    )  # one step: a half rounds either way


def test_only_channels_that_would_be_clipped_get_other_scales() -> None:
    model = convolution(1)
    before = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    clipped = np.abs(before["b"].astype(np.float64)) > LARGEST * 0.02 * before["ws"]
    assert 0 < clipped.sum() < CHANNELS
    graph = Graph(model)
    assert fit_biases(graph) == clipped.sum()
    (weights,) = (graph.producer[n.input[1]] for n in graph.nodes if n.op_type == "Conv")
    after = graph.constants[weights.input[1]]
    assert ((after > before["ws"]) == clipped).all()
    assert (np.abs(before["b"]) <= LARGEST * 0.02 * after * (1 + 1e-6)).all()
