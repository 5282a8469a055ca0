"""Passes over any graph end and compute what it did: Q/DQ at odd places, among them on the outputs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from samkr_edge.builder.cpu.idle_quantizers import drop_idle_quantizers
from samkr_edge.builder.cpu.retarget import retarget
from samkr_edge.onnx_graph.graph import Graph

SHAPE = (1, 4, 8, 8)


def random_graph(seed: int, steps: int = 30) -> onnx.ModelProto:
    """Float in and out (1, 4, 8, 8): random operations, most of them read again, quantized as `quantize` does it."""
    random = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, np.ndarray] = {"zero": np.int8(0)}
    tensors = ["x"]

    def add(op: str, inputs: list[str], **attributes: object) -> str:
        name = f"t{len(nodes)}"
        nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def pair(tensor: str, largest: float) -> str:
        scale = f"scale{len(constants)}"
        constants[scale] = np.float32(largest / 127)
        return add("DequantizeLinear", [add("QuantizeLinear", [tensor, scale, "zero"]), scale, "zero"])

    for _ in range(steps):
        # Few are old: long chains, with a quantizer here and there that nobody needs.
        read = tensors[-1 - min(int(random.exponential(2)), len(tensors) - 1)]
        kind = random.choice(["Conv", "ConvInt8", "Relu", "Add", "Pair", "Pair", "MaxPool", "Neg", "Diamond"])
        if kind in ("Conv", "ConvInt8"):
            weight = f"weight{len(constants)}"
            constants[weight] = random.normal(0, 0.3, (4, 4, 1, 1)).astype(np.float32)
            inputs = [pair(read, 4), pair(weight, 1)] if kind == "ConvInt8" else [read, weight]
            tensors.append(add("Conv", inputs))
        elif kind == "Add":
            other = str(random.choice(tensors))
            tensors.append(add("Add", [pair(read, 8), other] if random.random() < 0.5 else [read, other]))
        elif (
            kind == "Diamond"
        ):  # two ways to one node: to follow each of them doubles the work with every one
            tensors.append(add("Add", [add("Relu", [read]), add("Relu", [read])]))
        elif kind == "Pair":
            tensors.append(pair(read, 8))
        elif kind == "MaxPool":
            tensors.append(add("MaxPool", [read], kernel_shape=[1, 1]))
        else:
            tensors.append(add(str(kind), [read]))
    used = {name for node in nodes for name in node.input}
    ends = [
        node.output[0] for node in nodes if node.output[0] not in used and node.op_type != "QuantizeLinear"
    ]
    # A quantizer on an output is what tools of others leave there.
    ends += [str(random.choice([n.output[0] for n in nodes if n.op_type == "DequantizeLinear"] or ends[:1]))]
    graph = helper.make_graph(
        nodes,
        "random",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in sorted(set(ends))],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items() if n in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def outputs(model: onnx.ModelProto) -> list[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    image = np.random.default_rng(0).uniform(-1, 1, SHAPE).astype(np.float32)
    names = sorted(output.name for output in model.graph.output)
    return list(session.run(names, {"x": image}))


@pytest.mark.parametrize("seed", range(25))
def test_all_passes_end_and_keep_the_function(seed: int) -> None:
    source = random_graph(seed)
    expected = outputs(source)
    changed, _ = retarget(source)
    for left, right in zip(expected, outputs(changed), strict=True):
        step = 8 / 127  # of the coarsest quantizer, which an idle one no longer rounds to
        assert np.abs(left - right).mean() < step + 0.25 * np.abs(left).max()


@pytest.mark.parametrize("seed", range(25))
def test_idle_quantizers_go_and_no_other_node_comes(seed: int) -> None:
    graph = Graph(random_graph(seed))
    before, kinds = len(graph.nodes), {node.op_type for node in graph.nodes}
    dropped = drop_idle_quantizers(graph)
    assert len(graph.nodes) <= before - 2 * dropped
    assert {node.op_type for node in graph.nodes} <= kinds
    assert drop_idle_quantizers(graph) == 0


def test_a_chain_of_diamonds_is_looked_over_once() -> None:
    """Followed path by path, 200 of them would never end; called by itself, a function would be 1,000 deep."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d0"]),
    ]
    for index in range(400):
        sides = [f"left{index}", f"right{index}"]
        nodes += [helper.make_node("Relu", [f"d{index}"], [side]) for side in sides]
        nodes.append(helper.make_node("Add", sides, [f"d{index + 1}"]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("x", "d400")]
    values = {"s": np.float32(0.1), "z": np.int8(0)}
    graph = helper.make_graph(
        nodes, "d", ends[:1], ends[1:], [numpy_helper.from_array(np.asarray(v), n) for n, v in values.items()]
    )
    assert drop_idle_quantizers(Graph(helper.make_model(graph))) == 1
