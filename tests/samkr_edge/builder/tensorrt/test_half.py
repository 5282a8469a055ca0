"""FP16 where it is safe, FP32 where sixteen bits lose joints; ONNX Runtime runs the result and torch agrees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, version_converter

from samkr_edge.builder.tensorrt.half import SMALLEST_SCALE, bake, half_scale, to_half
from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from samkr_edge.pose_model import load_model
from samkr_edge.runtime.onnx_runtime import rounds_by_half_scales

SIZE = (64, 64)
FP32, FP16 = TensorProto.FLOAT, TensorProto.FLOAT16


@pytest.fixture(scope="module")
def mixed_onnx(exported_once: Callable[..., Path]) -> Path:
    return exported_once("mixed.onnx", "int8_network", precision="int8", half=True, opset=19)


def types_of(path: Path) -> dict[str, int]:
    model = onnx.load(path)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {i.name: i.data_type for i in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        types[value.name] = value.type.tensor_type.elem_type
    return types


@pytest.mark.parametrize("which", ["half_onnx", "mixed_onnx"])
def test_sampling_attention_and_last_convolutions_stay_fp32_and_the_rest_is_fp16(
    which: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(which)
    types, graph = types_of(path), onnx.load(path).graph
    outputs = {output.name for output in graph.output}
    halves = 0
    for node in graph.node:
        kinds = {types[name] for name in (*node.input[:2], *node.output) if name in types}
        if node.op_type in ("GridSample", "Softmax"):
            assert kinds == {FP32}
        if node.op_type == "Conv":
            last = bool(outputs & set(node.output)) or "/final/" in node.name
            assert kinds == ({FP32} if last else {FP16}), node.name
            halves += not last
    assert halves > 50
    assert all(types[name] == FP32 for name in outputs)


def test_every_quantizer_has_fp16_scales_that_are_positive(mixed_onnx: Path) -> None:
    model = onnx.load(mixed_onnx)
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    scales = [constants[n.input[1]] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert len(scales) > 100
    assert all(scale.dtype == np.float16 and (scale > 0).all() for scale in scales)


def test_fp16_computes_what_fp32_does_within_two_hundredths(half_onnx: Path, float_onnx: Path) -> None:
    image = np.random.default_rng(9).integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)
    half, whole = load_model(half_onnx), load_model(float_onnx)
    assert half.card.precision == "fp16"
    for found, expected in zip(half.runner.run(image), whole.runner.run(image), strict=True):
        assert found.dtype == np.float32
        error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
        assert 0 < error < 2e-2
    assert half_onnx.stat().st_size < 0.6 * float_onnx.stat().st_size


@pytest.mark.skipif(
    not rounds_by_half_scales(onnxruntime.__version__),
    reason="this ONNX Runtime cuts off what it should round",
)
def test_fp16_beside_int8_is_as_close_to_fp32_as_int8_itself(
    mixed_onnx: Path, int8_onnx: Path, float_onnx: Path
) -> None:
    image = np.random.default_rng(9).integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)
    expected, int8, mixed = (load_model(p).runner.run(image) for p in (float_onnx, int8_onnx, mixed_onnx))
    assert load_model(mixed_onnx).card.precision == "int8"
    for exact, one, other in zip(expected, int8, mixed, strict=True):
        assert np.linalg.norm(other - exact) < 1.5 * np.linalg.norm(one - exact)


@pytest.mark.parametrize(("version", "loads"), [("1.23.2", False), ("1.29.0", False), ("1.30.0", True)])
def test_an_onnx_runtime_that_cuts_off_by_fp16_scales_does_not_load_fp16_beside_int8(
    mixed_onnx: Path, half_onnx: Path, monkeypatch: pytest.MonkeyPatch, version: str, loads: bool
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", version)
    load_model(half_onnx)
    if loads:
        load_model(mixed_onnx)
        return
    with pytest.raises(SamkrError) as caught:
        load_model(mixed_onnx)
    assert caught.value.code == "SE-A98"
    assert f"onnxruntime {version}" in str(caught.value)


def test_the_versions_that_round_by_fp16_scales_are_known() -> None:
    # Steps of 1/64, which FP16 holds: 0.7 steps and -0.7 steps round to 1 and -1, and are cut to 0.
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=FP16),
        helper.make_node("QuantizeLinear", ["half", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        helper.make_node("Cast", ["dq"], ["y"], to=FP32),
    ]
    constants = {"scale": np.float16(1 / 64), "zero": np.int8(0)}
    graph = helper.make_graph(
        nodes,
        "rounding",
        [helper.make_tensor_value_info("x", FP32, [2])],
        [helper.make_tensor_value_info("y", FP32, [2])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": np.array([0.7, -0.7], np.float32) / 64})[0] * 64
    step = 1 if rounds_by_half_scales(onnxruntime.__version__) else 0
    np.testing.assert_array_equal(found, [step, -step])


def test_a_softmax_over_128_by_128_positions_is_not_flushed() -> None:
    peak, elsewhere = 17.0, 1000.0  # weights beside the peak are 4e-8, below the smallest number of FP16
    values = np.full((1, 1, 128 * 128), elsewhere, np.float32)
    values[..., 0] = 0
    constants = {
        "one": np.ones((1, 1, 1, 1), np.float32),
        "flat": np.array([1, 1, -1], np.int64),
        "map": np.array([1, 1, 128, 128], np.int64),
        "values": values,
        "sum": np.ones((1, 1, 128, 128), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "one"], ["logits"]),
        helper.make_node("Reshape", ["logits", "flat"], ["flattened"]),
        helper.make_node("Softmax", ["flattened"], ["weights"], axis=2),
        helper.make_node("Mul", ["weights", "values"], ["weighted"]),
        helper.make_node("Reshape", ["weighted", "map"], ["as_map"]),
        helper.make_node("Conv", ["as_map", "sum"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info("x", FP32, [1, 1, 128, 128])],
        [helper.make_tensor_value_info("y", FP32, [1, 1, 1, 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    logits = np.zeros((1, 1, 128, 128), np.float32)
    logits[..., 0, 0] = peak
    others = 128 * 128 - 1
    expected = elsewhere * others / (others + np.exp(peak))
    session = onnxruntime.InferenceSession(
        to_half(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert session.run(None, {"x": logits})[0].item() == pytest.approx(expected, rel=1e-3)
    assert any(i.data_type == FP16 for i in model.graph.initializer)


def test_a_scale_in_fp16_never_clips_what_it_did_not() -> None:
    scale = np.float32(10.0) ** np.linspace(-6, 2, 400, dtype=np.float32)
    rounded = half_scale(scale).astype(np.float32)
    assert (rounded >= scale).all()
    normal = scale > 2.0**-14
    assert (rounded[normal] <= scale[normal] * (1 + 2.0**-10)).all()
    assert half_scale(np.zeros(1, np.float32)) == SMALLEST_SCALE


def test_a_weight_beyond_fp16_is_named(float_onnx: Path) -> None:
    model = onnx.load(float_onnx)
    big = next(i for i in model.graph.initializer if i.name == "net.backbone.conv2.weight")
    big.CopyFrom(numpy_helper.from_array(1e6 * np.ones(big.dims, np.float32), big.name))
    with pytest.raises(SamkrError, match="larger than FP16") as caught:
        to_half(model)
    assert caught.value.code == "SE-B85"
    assert "net.backbone.conv2.weight" in str(caught.value)


def test_fp16_scales_below_opset_19_are_refused(int8_onnx: Path) -> None:
    with pytest.raises(SamkrError) as caught:
        to_half(onnx.load(int8_onnx))
    assert caught.value.code == "SE-B86"


def test_baking_raises_the_opset_without_changing_what_is_computed(int8_onnx: Path, mixed_onnx: Path) -> None:
    model = onnx.load(int8_onnx)
    image = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)

    def outputs(model: onnx.ModelProto) -> list[np.ndarray]:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return [np.asarray(output) for output in session.run(None, {"image": image})]

    raised = version_converter.convert_version(model, 19)
    for before, after in zip(outputs(model), outputs(raised), strict=True):
        np.testing.assert_array_equal(before, after)
    baked = onnx.load_from_string(bake(model.SerializeToString()))
    kinds = [{i.data_type for i in graph.initializer} for graph in (baked.graph, onnx.load(mixed_onnx).graph)]
    assert kinds[0] == kinds[1]
    assert baked.opset_import[0].version == 19
    assert baked.metadata_props[0].value == model.metadata_props[0].value


def quantized_last(shared: bool) -> onnx.ModelProto:
    """x -> convolution -> quantized -> last convolution, quantized too; ``shared``: and to another convolution."""
    constants = {
        "w": np.full((4, 4, 1, 1), 0.25, np.float32),
        "s": np.float32(0.013),
        "z": np.int8(0),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("QuantizeLinear", ["a", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("QuantizeLinear", ["w", "s", "z"], ["wq"]),
        helper.make_node("DequantizeLinear", ["wq", "s", "z"], ["wd"]),
        helper.make_node("Conv", ["d", "wd"], ["y"], name="last"),
    ]
    if shared:
        nodes.append(helper.make_node("Conv", ["d", "w"], ["b"], name="inner"))
        nodes.append(helper.make_node("Conv", ["b", "w"], ["y2"], name="last2"))
    names = ["y", "y2"] if shared else ["y"]
    graph = helper.make_graph(
        nodes,
        "last",
        [helper.make_tensor_value_info("x", FP32, [1, 4, 8, 8])],
        [helper.make_tensor_value_info(name, FP32, [1, 4, 8, 8]) for name in names],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


@pytest.mark.parametrize("shared", [False, True])
def test_a_quantized_last_convolution_reads_fp32_from_its_quantizers_without_a_cast(shared: bool) -> None:
    model = to_half(quantized_last(shared))
    makers = {name: node for node in model.graph.node for name in node.output}
    types = {
        v.name: v.type.tensor_type.elem_type
        for v in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    last = next(node for node in model.graph.node if node.name == "last")
    for name in last.input[:2]:
        assert makers[name].op_type == "DequantizeLinear"
        assert types[name] == FP32
    # It is dequantized by the very scale that it was quantized by in FP16.
    dequantize = makers[last.input[0]]
    quantize = makers[dequantize.input[0]]
    assert constants[quantize.input[1]].dtype == np.float16
    assert constants[dequantize.input[1]] == constants[quantize.input[1]].astype(np.float32)
    if shared:
        inner = next(node for node in model.graph.node if node.name == "inner")
        assert types[inner.input[0]] == FP16
        assert makers[inner.input[0]].op_type == "DequantizeLinear"


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_dequantized_into_an_output_keeps_its_type(shared: bool) -> None:
    model = quantized_last(shared)
    outputs = model.graph.output
    outputs.append(helper.make_tensor_value_info("d", FP32, [1, 4, 8, 8]))
    baked = to_half(model)  # and onnx's checker passes it
    makers = {name: node for node in baked.graph.node for name in node.output}
    assert makers["d"].op_type == "DequantizeLinear"
    inner = next((node for node in baked.graph.node if node.name == "inner"), None)
    if inner is not None:  # INT8 still meets it, in its own precision
        assert makers[inner.input[0]].op_type == "DequantizeLinear"
        assert inner.input[0] != "d"


def test_adaptive_blocks_can_be_fp32_whole(float_onnx: Path) -> None:
    """The convolutions above a sampling and the one below it, and all between; the trunk stays FP16."""
    baked = onnx.load_from_string(bake(float_onnx.read_bytes(), wide_sampling=True))
    inferred = onnx.shape_inference.infer_shapes(baked).graph
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    kinds = {node.name: types.get(node.output[0]) for node in inferred.node if node.op_type == "Conv"}
    block = {name: kind for name, kind in kinds.items() if "/offset_head/blocks/" in name}
    assert len(block) == 2
    assert set(block.values()) == {FP32}
    assert {kind for name, kind in kinds.items() if "/backbone/" in name} == {FP16}
    for node in inferred.node:
        if node.op_type == "GridSample":
            maker = next(one for one in inferred.node if node.input[0] in one.output)
            assert maker.op_type != "Cast"


def test_joints_decoded_in_the_graph_are_not_rounded(decoding_onnx: Path) -> None:
    """In FP16 they would be, to a quarter of a pixel at 512."""
    image = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)
    found = []
    for data in (decoding_onnx.read_bytes(), bake(decoding_onnx.read_bytes())):
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        found.append(np.asarray(session.run(["poses"], {"image": image})[0]))
    # The strongest candidate; behind it FP16 weights may change the order.
    apart = np.abs(found[0][0, 0] - found[1][0, 0]).max()
    assert 0 < apart < 0.02


def test_the_command_exports_fp16_and_refuses_what_it_does_not_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "h.onnx"
    arguments = ["export", "samkr_tiny", "--untrained", "--size", "64x64", "-o", str(out), "--precision"]
    assert run([*arguments, "fp16"]) == 0
    assert "fp16" in capsys.readouterr().out
    assert any(i.data_type == FP16 for i in onnx.load(out).graph.initializer)
    assert run([*arguments, "int4"]) == 2
    assert "fix: leave --precision out" in capsys.readouterr().err
    assert run([*arguments, "fp8"]) == 2
    shown = capsys.readouterr().err
    assert "error SE-U84" in shown
    assert "samkr-edge quantize samkr_tiny --untrained --random-images 8 --format fp8 -o ptq.pt" in shown


def test_what_is_no_valid_onnx_is_refused_before_it_is_changed(float_onnx: Path) -> None:
    model = onnx.load(float_onnx)
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.op_type = "Frobnicate"
    with pytest.raises(SamkrError) as caught:
        bake(model.SerializeToString())
    assert caught.value.code == "SE-B84"
    assert node.name in caught.value.facts["reason"]
