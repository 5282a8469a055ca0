"""What layers must move, in graphs of a few nodes, counted by hand."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from samkr_edge.onnx_graph.graph import Graph
from samkr_edge.roofline.graph_work import GraphWork, work_of

SIDE = 8
MAP = 4 * SIDE * SIDE  # values of the maps: 4 channels
WEIGHTS = 4 * 4 * 3 * 3


def conv(name: str, source: str, **attributes: Any) -> Any:
    return helper.make_node(
        "Conv", [source, "w"], [name], name=f"/net/{name}/Conv", pads=[1, 1, 1, 1], **attributes
    )


def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs, [output], name=f"/net/{output}/{kind}", **attributes)


def quantize(source: str, output: str) -> list[Any]:
    return [
        node("QuantizeLinear", [source, "scale", "zero"], f"{output}_q"),
        node("DequantizeLinear", [f"{output}_q", "scale", "zero"], output),
    ]


def counted(nodes: list[Any], outputs: list[str], floats: str = "fp32", **options: Any) -> GraphWork:
    constants = {
        "w": np.ones((4, 4, 3, 3), np.float32),
        "scale": np.float32(1),
        "zero": np.int8(0),
        "sizes": np.array([1, 4, 2 * SIDE, 2 * SIDE], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4, SIDE, SIDE))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return work_of(Graph(onnx.shape_inference.infer_shapes(model)), floats, **options)


def by_module(work: GraphWork) -> dict[str, tuple[int, int]]:
    """module -> (read, written), in values of FP32."""
    return {layer.module: (layer.read // 4, layer.written // 4) for layer in work.layers}


def test_a_convolution_moves_its_maps_and_its_weights_once() -> None:
    for floats, size in (("fp32", 4), ("fp16", 2)):
        (layer,) = counted([conv("a", "x")], ["a"], floats).layers
        assert (layer.module, layer.precision, layer.macs) == ("a", floats, WEIGHTS * SIDE * SIDE)
        assert (layer.read, layer.written, layer.weights) == (MAP * size, MAP * size, WEIGHTS * size)


def test_what_is_fused_moves_nothing() -> None:
    chain = [conv("a", "x"), node("Mul", ["a", "scale"], "m"), node("Relu", ["m"], "r"), conv("b", "r")]
    assert by_module(counted(chain, ["b"])) == {"a": (MAP, MAP), "b": (MAP, MAP)}


def test_a_residual_sum_reads_its_other_addend_only() -> None:
    block = [
        conv("a", "x"),
        node("Relu", ["a"], "r"),
        conv("b", "r"),
        node("Add", ["b", "r"], "s"),
        conv("c", "s"),
    ]
    assert by_module(counted(block, ["c"])) == {"a": (MAP, MAP), "b": (MAP, MAP), "c": (MAP, MAP)}
    identity = [conv("a", "x"), conv("b", "a"), node("Add", ["b", "x"], "s"), conv("c", "s")]
    assert by_module(counted(identity, ["c"])) == {"a": (MAP, MAP), "b": (2 * MAP, MAP), "c": (MAP, MAP)}


def test_a_resized_map_is_read_at_its_own_size() -> None:
    larger = [conv("a", "x"), node("Resize", ["a", "", "", "sizes"], "r", mode="linear"), conv("b", "r")]
    assert by_module(counted(larger, ["b"])) == {"a": (MAP, MAP), "b": (MAP, 4 * MAP)}


def test_a_pooled_map_is_written_pooled() -> None:
    pooled = [
        conv("a", "x"),
        node("MaxPool", ["a"], "p", kernel_shape=[2, 2], strides=[2, 2]),
        conv("b", "p"),
    ]
    assert by_module(counted(pooled, ["b"])) == {"a": (MAP, MAP // 4), "b": (MAP // 4, MAP // 4)}


def test_concatenated_maps_are_read_where_they_are() -> None:
    both = [
        conv("a", "x"),
        conv("b", "x"),
        node("Concat", ["a", "b"], "c", axis=1),
        node("Split", ["c"], "s", axis=1),
    ]
    both[-1].output.append("t")
    work = counted([*both, conv("d", "s")], ["d"])
    # A half of the concatenation is not known to be one of the two, but it is no larger.
    assert by_module(work)["d"] == (MAP, MAP)


def test_quantized_layers_move_bytes() -> None:
    weights = quantize("w", "wq")
    nodes = [*weights, *quantize("x", "xq"), conv("a", "xq"), node("Relu", ["a"], "r"), *quantize("r", "rq")]
    nodes += [conv("b", "rq")]
    for layer in nodes:
        if layer.op_type == "Conv":
            layer.input[1] = "wq"
    a, b = counted(nodes, ["b"]).layers
    assert (a.precision, a.read, a.written, a.weights) == ("int8", MAP, MAP, WEIGHTS)
    assert (b.precision, b.read, b.written, b.weights) == ("int8", MAP, 4 * MAP, WEIGHTS)
    for layer in counted(nodes, ["b"], "fp16", quantized=False).layers:
        assert layer.precision == "fp16"
        assert (layer.read, layer.written, layer.weights) == (2 * MAP, 2 * MAP, 2 * WEIGHTS)


def test_a_float_reader_beside_a_quantized_one_wants_floats() -> None:
    nodes = [conv("a", "x"), *quantize("a", "aq"), conv("b", "aq"), conv("c", "a")]
    work = by_module(counted(nodes, ["b", "c"]))
    assert work["a"] == (MAP, MAP)
    assert work["b"] == (MAP // 4, MAP)
    assert work["c"] == (MAP, MAP)


def test_the_most_maps_that_wait_at_one_time() -> None:
    chain = [conv("a", "x"), conv("b", "a"), conv("c", "b")]
    assert counted(chain, ["c"]).live == 2 * 4 * MAP
    fork = [conv("a", "x"), conv("b", "x"), conv("c", "b"), node("Add", ["c", "a"], "s")]
    # While c runs, a waits for the sum.
    assert counted(fork, ["s"]).live == 3 * 4 * MAP


def test_what_is_fused_is_known_by_the_layer_that_does_it() -> None:
    chain = [conv("a", "x"), node("Relu", ["a"], "r"), conv("b", "r"), node("Add", ["b", "r"], "s")]
    fused = counted(chain, ["s"]).fused
    assert (fused["r"], fused["/net/r/Relu"], fused["s"]) == ("a", "a", "b")


@pytest.mark.parametrize("floats", ["fp32", "fp16"])
def test_the_bytes_of_an_image_are_bytes(floats: str) -> None:
    nodes = [node("Cast", ["x"], "f", to=TensorProto.FLOAT), conv("a", "f")]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, (1, 4, SIDE, SIDE))],
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((4, 4, 3, 3), np.float32), "w")],
    )
    (layer,) = work_of(Graph(helper.make_model(graph)), floats).layers
    assert layer.read == MAP
