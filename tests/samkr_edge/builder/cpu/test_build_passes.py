"""Every pass over the graph against ONNX Runtime: exact where its docstring says so, close where it does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from samkr_edge.builder import enlarge
from samkr_edge.builder.cpu import deform, matrix_products, thin_convolutions
from samkr_edge.builder.cpu.absorbed_relus import absorb_relus
from samkr_edge.builder.cpu.branches import take_apart
from samkr_edge.builder.cpu.byte_enlargements import enlarge_bytes
from samkr_edge.builder.cpu.folded_weights import fold_weights
from samkr_edge.builder.cpu.hoisted_quantizers import hoist_quantizers
from samkr_edge.builder.cpu.idle_quantizers import drop_idle_quantizers
from samkr_edge.builder.cpu.image_bytes import take_image_bytes
from samkr_edge.builder.cpu.interleaved_bytes import interleave_bytes
from samkr_edge.builder.cpu.merged_quantizers import merge_quantizers
from samkr_edge.builder.cpu.quantized_sums import quantize_intermediate_sums
from samkr_edge.builder.cpu.retarget import retarget
from samkr_edge.builder.cpu.unsigned_activations import make_unsigned
from samkr_edge.onnx_graph.graph import Graph

SHAPE = (1, 4, 6, 5)
Pass = Callable[[Graph], int]


def model_of(
    nodes: list[Any],
    constants: dict[str, np.ndarray],
    image: tuple[int, ...] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """A model with float input ``x`` (1, 4, 6, 5), or a uint8 ``image`` of that shape, and float output ``y``."""
    shape, kind, name = (image, TensorProto.UINT8, "image") if image else (SHAPE, TensorProto.FLOAT, "x")
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def pair(tensor: str, scale: str, zero: str = "zero") -> list[Any]:
    return [
        helper.make_node("QuantizeLinear", [tensor, scale, zero], [f"{tensor}_{scale}_q"]),
        helper.make_node("DequantizeLinear", [f"{tensor}_{scale}_q", scale, zero], [f"{tensor}_{scale}_dq"]),
    ]


def run(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    """Node by node: fusions round differently from the nodes that they replace."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: x})


def data(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1.5, SHAPE).astype(np.float32)


def changed(model: onnx.ModelProto, *passes: Pass) -> tuple[onnx.ModelProto, int]:
    """The model as the passes leave it, and how many rewrites the last one made."""
    copied, made = onnx.ModelProto(), 0
    copied.CopyFrom(model)
    graph = Graph(copied)
    for one in passes:
        made = one(graph)
    result = graph.write()
    onnx.checker.check_model(result)
    return result, made


def operations(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


SCALES = {"zero": np.int8(0), "s": np.float32(0.03), "wide": np.float32(0.04)}
CONSTANTS = {name: np.asarray(value) for name, value in SCALES.items()}


def test_a_tensor_quantized_twice_alike_is_quantized_once_exactly() -> None:
    again = [
        helper.make_node("QuantizeLinear", ["x", "s", "zero"], ["again_q"]),
        helper.make_node("DequantizeLinear", ["again_q", "s", "zero"], ["again_dq"]),
    ]
    model = model_of(
        [*pair("x", "s"), *again, helper.make_node("Mul", ["x_s_dq", "again_dq"], ["y"])], CONSTANTS
    )
    merged, made = changed(model, merge_quantizers)
    assert operations(merged)["QuantizeLinear"] == 1
    assert made == 1
    np.testing.assert_array_equal(run(model, data())[0], run(merged, data())[0])


def test_of_two_ranges_the_wider_is_kept_so_that_nothing_clips() -> None:
    nodes = [*pair("x", "s"), *pair("x", "wide"), helper.make_node("Add", ["x_s_dq", "x_wide_dq"], ["y"])]
    merged, _ = changed(model_of(nodes, CONSTANTS), merge_quantizers)
    x = np.full(SHAPE, 0.04 * 127, np.float32)  # beyond the narrow range
    np.testing.assert_allclose(run(merged, x)[0], 2 * x, rtol=1e-6)


def test_a_float_reader_of_a_quantized_tensor_is_half_a_step_off_at_most() -> None:
    nodes = [*pair("x", "wide"), helper.make_node("Sub", ["x", "x_wide_dq"], ["y"])]
    model = model_of(nodes, CONSTANTS)
    merged, _ = changed(model, merge_quantizers)
    assert np.abs(run(model, data())[0]).max() <= 0.02 + 1e-6
    assert not run(merged, data())[0].any()  # both inputs are the quantized value now


def test_signed_activations_become_unsigned_with_the_same_values() -> None:
    nodes = [
        helper.make_node("Neg", ["x"], ["n"]),
        *pair("n", "s"),
        helper.make_node("Identity", ["n_s_dq"], ["y"]),
    ]
    model = model_of(nodes, CONSTANTS)
    unsigned, made = changed(model, make_unsigned)
    zeros = [
        numpy_helper.to_array(i)
        for i in unsigned.graph.initializer
        if numpy_helper.to_array(i).dtype == np.uint8
    ]
    assert [int(zero) for zero in zeros] == [128]
    assert made == 1
    x = np.linspace(-6, 6, 120, dtype=np.float32).reshape(SHAPE)  # clips at both ends
    np.testing.assert_array_equal(run(model, x)[0], run(unsigned, x)[0])


def relu_model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        *pair("r", "s"),
        helper.make_node("Identity", ["r_s_dq"], ["y"]),
    ]
    return model_of(nodes, CONSTANTS)


def test_behind_a_relu_all_255_steps_serve_the_same_range() -> None:
    unsigned, made = changed(relu_model(), make_unsigned)
    assert made == 1
    x = np.linspace(-1, 4.5, 120, dtype=np.float32).reshape(SHAPE)
    found = run(unsigned, x)[0]
    step = 0.03 * 127 / 255
    np.testing.assert_allclose(found, np.clip(x, 0, 0.03 * 127), atol=step / 2 + 1e-6)


def test_a_quantizer_at_zero_does_the_work_of_a_relu_exactly() -> None:
    unsigned, _ = changed(relu_model(), make_unsigned)
    absorbed, made = changed(unsigned, absorb_relus)
    assert made == 1
    assert "Relu" not in operations(absorbed)
    np.testing.assert_array_equal(run(unsigned, data())[0], run(absorbed, data())[0])


def test_a_relu_that_is_an_output_or_read_by_floats_stays() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        *pair("r", "s"),
        helper.make_node("Sub", ["r", "r_s_dq"], ["y"]),
    ]
    kept, made = changed(model_of(nodes, CONSTANTS), make_unsigned, absorb_relus)
    assert made == 0
    assert "Relu" in operations(kept)


@pytest.mark.parametrize("axis", [0, 1])
def test_weights_are_stored_as_int8_exactly(axis: int) -> None:
    weight = np.random.default_rng(3).normal(0, 0.2, (4, 4, 1, 1)).astype(np.float32)
    scale = np.abs(weight).max(axis=tuple(a for a in range(4) if a != axis)) / np.float32(100)  # some clip
    constants = {**CONSTANTS, "w": weight, "ws": scale.astype(np.float32), "wz": np.zeros(4, np.int8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["w", "ws", "wz"], ["wq"], axis=axis),
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], axis=axis),
        helper.make_node("Conv", ["x", "wd"], ["y"]),
    ]
    model = model_of(nodes, constants)
    folded, made = changed(model, fold_weights)
    assert made == 1
    assert "QuantizeLinear" not in operations(folded)
    np.testing.assert_array_equal(run(model, data())[0], run(folded, data())[0])


def test_partial_sums_get_a_range_that_cannot_clip() -> None:
    nodes = [
        helper.make_node("Neg", ["x"], ["n"]),
        *pair("x", "s"),
        *pair("n", "wide"),
        helper.make_node("Sub", ["x_s_dq", "n_wide_dq"], ["d"]),
        helper.make_node("Add", ["x_s_dq", "x_s_dq"], ["twice"]),
        helper.make_node("Add", ["twice", "n_wide_dq"], ["t"]),
        helper.make_node("Add", ["t", "d"], ["y"]),
    ]
    model = model_of(nodes, CONSTANTS)
    summed, made = changed(model, quantize_intermediate_sums)
    assert made == 2  # `twice` and `t`; the last sum has a float addend
    x = np.linspace(-3.8, 3.8, 120, dtype=np.float32).reshape(SHAPE)
    half_steps = (2 * 0.03 + (2 * 0.03 + 0.04)) / 2
    np.testing.assert_allclose(run(summed, x)[0], run(model, x)[0], atol=half_steps + 1e-6)


@pytest.mark.parametrize("mover", ["nearest", "pool", "concat"])
def test_quantizers_move_before_what_only_moves_values_exactly(mover: str) -> None:
    constants = dict(CONSTANTS)
    if mover == "nearest":
        constants["sizes"] = np.array([1, 1, 2, 2], np.float32)
        move = helper.make_node("Resize", ["n", "", "sizes"], ["m"], mode="nearest", nearest_mode="floor")
    elif mover == "pool":
        move = helper.make_node("MaxPool", ["n"], ["m"], kernel_shape=[3, 3])
    else:
        move = helper.make_node("Concat", ["n", "a"], ["m"], axis=1)
    nodes = [
        helper.make_node("Neg", ["x"], ["n"]),
        *([helper.make_node("Abs", ["x"], ["a"])] if mover == "concat" else []),
        move,
        *pair("m", "s"),
        helper.make_node("Identity", ["m_s_dq"], ["y"]),
    ]
    model = model_of(nodes, constants)
    hoisted, made = changed(model, hoist_quantizers)
    assert made == (2 if mover == "concat" else 1)
    moved = next(n for n in hoisted.graph.node if n.op_type in ("Resize", "MaxPool", "Concat"))
    makers = {output: n.op_type for n in hoisted.graph.node for output in n.output}
    assert makers[moved.input[0]] == "DequantizeLinear"
    np.testing.assert_array_equal(run(model, data())[0], run(hoisted, data())[0])


def test_a_tensor_that_something_else_reads_is_not_quantized_on_its_behalf() -> None:
    nodes = [
        helper.make_node("Neg", ["x"], ["n"]),
        helper.make_node("MaxPool", ["n"], ["m"], kernel_shape=[1, 1]),
        *pair("m", "s"),
        helper.make_node("Sub", ["n", "m_s_dq"], ["y"]),
    ]
    _, made = changed(model_of(nodes, CONSTANTS), hoist_quantizers)
    assert made == 0


def test_writing_a_graph_sorts_it_drops_the_dead_and_keeps_scalars_scalar() -> None:
    nodes = [*pair("x", "s"), helper.make_node("Relu", ["x_s_dq"], ["y"])]
    model = model_of(nodes, CONSTANTS)
    graph = Graph(model)
    graph.nodes.reverse()
    graph.nodes.append(helper.make_node("Neg", ["x"], ["nobody"]))
    written = graph.write()
    onnx.checker.check_model(written)  # refuses an unsorted graph
    assert [node.op_type for node in written.graph.node] == ["QuantizeLinear", "DequantizeLinear", "Relu"]
    # ONNX Runtime fuses quantized sums only where scales are scalars, not vectors of one.
    assert all(len(i.dims) == 0 for i in written.graph.initializer)
    assert {i.name for i in written.graph.initializer} == {"s", "zero"}


def test_a_graph_that_was_changed_before_gets_names_that_nothing_has() -> None:
    first = Graph(model_of([helper.make_node("Relu", ["x"], ["y"])], {}))
    (relu,) = first.nodes
    relu.input[0] = first.append("Add", ["x", first.constant(np.float32(2), "Add")])
    again = Graph(first.write())
    assert not {again.constant(np.float32(3), "Add"), again.name("Add")} & {
        i for n in again.nodes for i in n.input
    }
    x = data()
    np.testing.assert_array_equal(run(again.write(), x)[0], np.maximum(x + 2, 0))


def test_the_first_convolution_reads_bytes_and_normalises_by_its_weights() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    factor = np.array([0.0171, 0.0175, 0.0174], np.float32).reshape(1, 3, 1, 1)
    shift = np.array([2.12, 2.04, 1.80], np.float32).reshape(1, 3, 1, 1)
    weight = rng.normal(0, 0.2, (5, 3, 3, 3)).astype(np.float32)
    scale = (np.abs(weight).max(axis=(1, 2, 3)) / 127).astype(np.float32)
    constants = {
        **CONSTANTS, "a": factor, "m": shift, "in": np.asarray(np.float32(2.64 / 127)), "w": weight, "ws": scale,
        "wz": np.zeros(5, np.int8), "b": rng.normal(size=5).astype(np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Transpose", ["image"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["t"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["c", "a"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "m"], ["n"]),
        *pair("n", "in"),
        helper.make_node("QuantizeLinear", ["w", "ws", "wz"], ["wq"], axis=0),
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("Conv", ["n_in_dq", "wd", "b"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    ]
    model = model_of(nodes, constants, image=(1, 8, 9, 3))
    taken, made = changed(model, take_image_bytes, fold_weights)
    assert made == 1
    assert not {"Cast", "Mul", "Sub", "QuantizeLinear"} & set(operations(taken))
    image = rng.integers(0, 256, (1, 8, 9, 3), dtype=np.uint8)
    normal = image.transpose(0, 3, 1, 2) * factor - shift
    exact = torch.nn.functional.conv2d(
        torch.from_numpy(normal), torch.from_numpy(weight), torch.from_numpy(constants["b"]), padding=1
    ).numpy()
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    before, after = run(model, image)[0], run(taken, image)[0]
    # Closer to the float convolution than the quantized normalised image was, except beyond the border.
    assert np.abs(after - exact)[inner].max() < np.abs(before - exact)[inner].max()
    grey = float(np.abs(factor * 116 - shift).max())
    assert np.abs(after - exact).max() < grey * np.abs(weight).sum(axis=(1, 2, 3)).max() / 2


def maps(model: onnx.ModelProto, image: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["heatmap", "offset"], {"image": image})


@pytest.mark.skipif(not deform.runs_here(), reason="this ONNX Runtime has no CPU kernel of DeformConv")
@pytest.mark.parametrize(
    ("largest", "pieces"), [(deform.LARGEST_TAPS, 1), (80_000, 17), (20_000, 17 * 4), (0, 17 * 16)]
)
def test_deform_conv_samples_what_grid_sample_does(
    float_onnx: Path, monkeypatch: pytest.MonkeyPatch, largest: int, pieces: int
) -> None:
    monkeypatch.setattr(deform, "LARGEST_TAPS", largest)  # one branch's are 73,728 bytes
    source = onnx.load(float_onnx)
    built, done = retarget(onnx.load(float_onnx))
    samplings = operations(source)["GridSample"]
    assert samplings > 0
    assert done["deform_convolutions"] == samplings
    assert operations(built)["DeformConv"] == samplings * pieces
    assert "GridSample" not in operations(built)
    image = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    for expected, found in zip(maps(source, image), maps(built, image), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-5 * float(np.abs(expected).max()))


def test_a_sampling_that_is_not_ours_is_left_alone(float_onnx: Path) -> None:
    model = onnx.load(float_onnx)
    for node in model.graph.node:
        if node.op_type == "GridSample":
            (reader,) = (n for n in model.graph.node if node.output[0] in n.input)
            reader.op_type = "Relu"
            del reader.input[1:]
            del reader.attribute[:]
    graph = Graph(model)
    assert deform.use_deform_conv(graph) == 0
    assert any(node.op_type == "GridSample" for node in graph.nodes)


def test_where_deform_conv_has_no_kernel_grid_sample_stays(
    float_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deform, "runs_here", lambda: False)
    built, done = retarget(onnx.load(float_onnx))
    assert done["deform_convolutions"] == 0
    assert "GridSample" in operations(built)


def grouped_constants() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    return {
        **CONSTANTS,
        "gw": rng.normal(size=(4, 2, 1, 1)).astype(np.float32),
        "gb": rng.normal(size=4).astype(np.float32),
        "flat": np.array([1, 4, 30]),
        "map": np.array([0, 4, 6, 5]),
    }


def test_grouped_layers_run_branch_by_branch_exactly() -> None:
    constants = grouped_constants()
    nodes = [
        helper.make_node("Conv", ["x", "gw", "gb"], ["c"], group=2, kernel_shape=[1, 1]),
        helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["p", "flat"], ["f"]),
        helper.make_node("Softmax", ["f"], ["a"], axis=2),
        helper.make_node("Reshape", ["a", "map"], ["m"]),
        helper.make_node("Mul", ["m", "x"], ["y"]),
    ]
    model = model_of(nodes, constants, opset=deform.OPSET)
    apart, _ = changed(model, lambda graph: take_apart(graph, "x", 2))
    assert operations(apart)["Conv"] == 2
    assert operations(apart)["Concat"] == 1
    assert {
        a.i for n in apart.graph.node if n.op_type == "Conv" for a in n.attribute if a.name == "group"
    } == {1}
    np.testing.assert_array_equal(run(apart, data())[0], run(model, data())[0])


@pytest.mark.parametrize("mixing", ["Conv", "Softmax", "Reshape", "Add"])
def test_what_mixes_the_branches_reads_them_joined(mixing: str) -> None:
    constants = grouped_constants()
    constants["gw"] = np.random.default_rng(3).normal(size=(4, 4, 1, 1)).astype(np.float32)
    constants["turned"], constants["per_channel"] = np.array([1, 5, 6, 4]), np.ones((1, 4, 1, 1), np.float32)
    last = {
        "Conv": helper.make_node("Conv", ["r", "gw", "gb"], ["y"], kernel_shape=[1, 1]),
        "Softmax": helper.make_node("Softmax", ["r"], ["y"], axis=1),
        "Reshape": helper.make_node("Reshape", ["r", "turned"], ["y"]),
        "Add": helper.make_node("Add", ["r", "per_channel"], ["y"]),
    }[mixing]
    model = model_of([helper.make_node("Relu", ["x"], ["r"]), last], constants, opset=deform.OPSET)
    apart, _ = changed(model, lambda graph: take_apart(graph, "x", 2))
    assert operations(apart)["Relu"] == 2
    assert operations(apart)[mixing] == 1
    np.testing.assert_array_equal(run(apart, data())[0], run(model, data())[0])


def convolution(outputs: int, size: int = 3, inputs: int = 4, **attributes: Any) -> onnx.ModelProto:
    rng = np.random.default_rng(6)
    constants = {
        "w": rng.normal(size=(outputs, inputs, size, size)).astype(np.float32),
        "b": rng.normal(size=outputs).astype(np.float32),
    }
    return model_of([helper.make_node("Conv", ["x", "w", "b"], ["y"], **attributes)], constants)


@pytest.mark.parametrize(
    ("size", "attributes"),
    [
        (1, {}),
        (3, {"pads": [1, 1, 1, 1]}),
        (3, {"pads": [0, 1, 2, 0], "kernel_shape": [3, 3]}),
        (3, {"pads": [2, 1, 2, 1], "dilations": [2, 1], "strides": [1, 1]}),
    ],
)
def test_a_convolution_with_few_outputs_is_a_transposed_one(size: int, attributes: dict[str, Any]) -> None:
    model = convolution(2, size, **attributes)
    expected = run(model, data())[0]
    graph = Graph(model)
    assert thin_convolutions.transpose_thin_convolutions(graph) == 1
    written = graph.write()
    onnx.checker.check_model(written)
    assert operations(written) == {"ConvTranspose": 1}
    np.testing.assert_allclose(run(written, data())[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("outputs", "inputs", "attributes"),
    [
        (3, 4, {}),  # not few
        (2, 4, {"strides": [2, 1]}),
        (2, 2, {"group": 2}),
        (2, 4, {"pads": [3, 3, 3, 3]}),  # some outputs see nothing of the map
        (2, 4, {"auto_pad": "SAME_UPPER"}),
    ],
)
def test_other_convolutions_stay(outputs: int, inputs: int, attributes: dict[str, Any]) -> None:
    assert (
        thin_convolutions.transpose_thin_convolutions(Graph(convolution(outputs, 3, inputs, **attributes)))
        == 0
    )


def int8_convolution(reader: str, size: int = 1, inputs: int = 4, **attributes: Any) -> onnx.ModelProto:
    """From an unsigned map, with a zero point, and INT8 weights; what ``reader`` reads of it is the output."""
    rng = np.random.default_rng(7)
    constants = {
        **CONSTANTS,
        "grey": np.asarray(np.uint8(128)),
        "w": rng.integers(-127, 128, (6, inputs, size, size)).astype(np.int8),
        "ws": rng.uniform(0.001, 0.01, 6).astype(np.float32),
        "wz": np.zeros(6, np.int8),
        "b": rng.normal(size=6).astype(np.float32),
    }
    nodes = [
        *pair("x", "wide", "grey"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("Conv", ["x_wide_dq", "wd", "b"], ["c"], **attributes),
        *(pair("c", "s") if reader == "quantizer" else []),
        helper.make_node("Relu", ["c_s_dq" if reader == "quantizer" else "c"], ["y"]),
    ]
    return model_of(nodes, constants)


def test_an_int8_convolution_that_floats_read_is_a_matrix_product_without_rounding() -> None:
    model = int8_convolution("relu", pads=[0, 0, 0, 0])
    expected = run(model, data())[0]
    graph = Graph(model)
    assert matrix_products.multiply_to_float(graph) == 1
    written = graph.write()
    onnx.checker.check_model(written)
    assert operations(written)[matrix_products.PRODUCT] == 1
    assert "Conv" not in operations(written)
    np.testing.assert_allclose(run(written, data())[0], expected, rtol=1e-5, atol=1e-5)
    # What counts a built model's operations finds the sizes of all that follows.
    inferred = {value.name: value for value in onnx.shape_inference.infer_shapes(written).graph.value_info}
    assert [axis.dim_value for axis in inferred["c"].type.tensor_type.shape.dim] == [1, 6, 6, 5]


@pytest.mark.parametrize(
    ("reader", "size", "inputs", "attributes"),
    [
        ("quantizer", 1, 4, {}),  # ONNX Runtime fuses it
        ("relu", 3, 4, {}),
        ("relu", 1, 2, {"group": 2}),
        ("relu", 1, 4, {"strides": [2, 2]}),
        ("relu", 1, 4, {"pads": [1, 1, 0, 0]}),
    ],
)
def test_a_convolution_that_is_no_matrix_product_or_fused_stays(
    reader: str, size: int, inputs: int, attributes: dict[str, Any]
) -> None:
    assert matrix_products.multiply_to_float(Graph(int8_convolution(reader, size, inputs, **attributes))) == 0


def up(tensor: str, scales: str, output: str, mode: str = "nearest") -> Any:
    modes = {"nearest_mode": "floor"} if mode == "nearest" else {}
    return helper.make_node(
        "Resize", [tensor, "", scales], [output], mode=mode,
        coordinate_transformation_mode="asymmetric", **modes,
    )  # fmt: skip


def resolution_sum(mode: str = "nearest", *, quantized: bool = False) -> onnx.ModelProto:
    """The fuse layer's sum ``a + up2(b) + up4(c)``, b and c made from a by pooling."""
    constants = {
        **CONSTANTS,
        "two": np.array([1, 1, 2, 2], np.float32),
        "four": np.array([1, 1, 4, 4], np.float32),
        "pads": np.array([0, 0, 0, 0, 0, 0, 2, 3]),  # to 8 x 8
    }
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["a"]),
        helper.make_node("MaxPool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("MaxPool", ["a"], ["c"], kernel_shape=[4, 4], strides=[4, 4]),
        up("b", "two", "b2", mode),
        up("c", "four", "c4", mode),
    ]
    names = ["a", "b2", "c4"]
    if quantized:
        nodes += [node for name in names for node in pair(name, "wide")]
        names = [f"{name}_wide_dq" for name in names]
    nodes += [
        helper.make_node("Add", names[:2], ["partial"]),
        helper.make_node("Add", ["partial", names[2]], ["y"]),
    ]
    return model_of(nodes, constants)


@pytest.mark.parametrize("quantized", [False, True])
def test_sums_over_resolutions_are_added_before_they_are_enlarged(quantized: bool) -> None:
    model = resolution_sum(quantized=quantized)
    graph = Graph(model)
    expected = run(model, data())[0]
    assert enlarge.enlarge_sums(graph) == 1
    summed = graph.write()
    onnx.checker.check_model(summed)
    factors = [
        float(graph.constants[node.input[2]][2]) for node in summed.graph.node if node.op_type == "Resize"
    ]
    assert factors == [2, 2]
    np.testing.assert_allclose(run(summed, data())[0], expected, rtol=1e-6, atol=1e-6)


def test_sums_of_what_is_enlarged_smoothly_stay() -> None:
    assert enlarge.enlarge_sums(Graph(resolution_sum("linear"))) == 0


def test_an_enlarged_partial_sum_is_quantized_on_both_sides() -> None:
    model = resolution_sum(quantized=True)
    expected = run(model, data())[0]
    graph = Graph(model)
    enlarge.enlarge_sums(graph)
    assert quantize_intermediate_sums(graph) == 1
    summed = graph.write()
    graph = Graph(summed)
    resizes = [node for node in graph.nodes if node.op_type == "Resize"]
    assert len(resizes) == 2
    for node in resizes:
        assert graph.producer[node.input[0]].op_type == "DequantizeLinear"
        assert [reader.op_type for reader in graph.consumers[node.output[0]]] == ["QuantizeLinear"]
    assert np.abs(run(summed, data())[0] - expected).max() <= 2 * 0.04 / 2 + 1e-6


@pytest.mark.parametrize("same", [True, False])
def test_bytes_are_enlarged_by_look_ups_exactly_where_no_step_changes(same: bool) -> None:
    constants = {**CONSTANTS, "two": np.array([1, 1, 2, 2], np.float32)}
    nodes = [
        *pair("x", "s"),
        up("x_s_dq", "two", "u"),
        *pair("u", "s" if same else "wide"),
        helper.make_node("Identity", [f"u_{'s' if same else 'wide'}_dq"], ["y"]),
    ]
    model = model_of(nodes, constants)
    expected = run(model, data())[0]
    graph = Graph(model)
    assert enlarge_bytes(graph) == same
    written = graph.write()
    onnx.checker.check_model(written)
    assert ("Resize" in operations(written)) != same
    np.testing.assert_array_equal(run(written, data())[0], expected)


def interleaved(*, cut: str = "rows", read_twice: bool = False, quarters: bool = True) -> onnx.ModelProto:
    """Quarters of the channels of Relu(x) become pixels, a border is cut off, and the rest is quantized."""
    constants = {
        **CONSTANTS,
        "apart": np.array([1, 2, 2, 1, 6, 5]),
        "joined": np.array([1, 1, 12, 10]),
        "one": np.array([1]),
        "last": np.array([-1]),
        "rows": np.array([2]),
        "columns": np.array([3]),
        "channels": np.array([1]),
        "zeroth": np.array([0]),
    }
    start = "zeroth" if cut == "channels" else "one"
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Reshape", ["r", "apart"], ["a"]),
        helper.make_node(
            "Transpose", ["a"], ["m"], perm=[0, 3, 4, 1, 5, 2] if quarters else [0, 3, 4, 2, 5, 1]
        ),
        helper.make_node("Reshape", ["m", "joined"], ["j"]),
        helper.make_node("Slice", ["j", start, "last" if cut != "channels" else "one", cut, "one"], ["c"]),
        helper.make_node("Slice", ["c", "one", "last", "columns"], ["d"]),
        *pair("d", "s"),
        helper.make_node("Concat", ["d_s_dq", "c" if read_twice else "d_s_dq"], ["y"], axis=3),
    ]
    return model_of(nodes, constants)


def test_channels_become_pixels_as_bytes_exactly() -> None:
    model, _ = changed(interleaved(), make_unsigned)
    zeros = [node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    named = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
    assert [(named[zero].dtype, int(named[zero])) for zero in zeros] == [
        (np.uint8, 0)
    ]  # seen to follow a ReLU
    moved, made = changed(model, interleave_bytes, absorb_relus)
    assert made == 1  # the ReLU, now at its quantizer
    assert [node.op_type for node in moved.graph.node][:2] == ["QuantizeLinear", "Transpose"]
    np.testing.assert_array_equal(run(moved, data())[0], run(model, data())[0])


@pytest.mark.parametrize(
    "other",
    [{"cut": "channels"}, {"read_twice": True}, {"quarters": False}],
    ids=lambda other: next(iter(other)),
)
def test_other_moves_of_channels_stay(other: dict[str, Any]) -> None:
    assert changed(interleaved(**other), interleave_bytes)[1] == 0


def test_quantizers_between_float_layers_are_dropped_and_those_of_int8_layers_kept() -> None:
    constants = grouped_constants() | {
        "ws": np.asarray(np.float32(0.02)),
        "wq": np.ones((4, 4, 1, 1), np.int8),
    }
    nodes = [
        *pair("x", "s"),
        helper.make_node("DequantizeLinear", ["wq", "ws", "zero"], ["wd"]),
        helper.make_node("Conv", ["x_s_dq", "wd"], ["int8"], kernel_shape=[1, 1]),
        *pair("int8", "wide"),  # what an INT8 convolution writes
        helper.make_node("Conv", ["int8_wide_dq", "gw", "gb"], ["float"], group=2, kernel_shape=[1, 1]),
        *pair("float", "s"),  # from a float convolution to a sum that nothing in INT8 reads
        helper.make_node("Add", ["float_s_dq", "int8_wide_dq"], ["y"]),
    ]
    model = model_of(nodes, constants)
    dropped, made = changed(model, drop_idle_quantizers)
    assert made == 1
    kept = [node.input[0] for node in dropped.graph.node if node.op_type == "QuantizeLinear"]
    assert sorted(kept) == ["int8", "x"]
    assert np.abs(run(dropped, data())[0] - run(model, data())[0]).max() <= 0.03 / 2 + 1e-6


def int8_to_int8(graph: Graph, node: Any) -> bool:
    makers = [graph.producer.get(name) for name in node.input[:2]]
    readers = graph.consumers[node.output[0]]
    return all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers) and all(
        reader.op_type == "QuantizeLinear" for reader in readers
    )


def test_onnx_runtime_fuses_every_int8_convolution_and_sum(int8_onnx: Path, tmp_path: Path) -> None:
    built, done = retarget(onnx.load(int8_onnx))
    graph = Graph(built)
    expected = Counter(node.op_type for node in graph.nodes if int8_to_int8(graph, node))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(built.SerializeToString(), options, providers=["CPUExecutionProvider"])
    fused = operations(onnx.load(tmp_path / "optimised.onnx"))
    assert expected["Conv"] > 40
    assert expected["Add"] > 10
    assert fused["QLinearConv"] == expected["Conv"]
    assert fused["QLinearAdd"] == expected["Add"]
    # Between the trunk in INT8 and an offset head in float.
    assert fused[matrix_products.PRODUCT] == done["float_products"] == 1
    folded = done["folded_weights"]
    assert folded == expected["Conv"] + done["float_products"]  # none is dequantized to be computed in float
