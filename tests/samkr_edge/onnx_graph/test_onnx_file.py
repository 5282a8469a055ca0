"""Reading and editing ONNX without the onnx package, held against the onnx package and ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tensorrt_graphs import residual_graph, write_residual

from samkr_edge.builder.tensorrt.edits import prepare
from samkr_edge.errors import SamkrError
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_file import with_metadata
from samkr_edge.onnx_graph.onnx_reading import decode_onnx, read_onnx


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_residual(tmp_path_factory.mktemp("graph") / "model.onnx")


def run(model: bytes, image: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(["heatmap"], {"image": image})[0]


def image(dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (1, 8, 8, 3)).astype(dtype)


def test_every_name_type_and_value_is_read_as_the_onnx_package_reads_it(source: Path) -> None:
    ours, theirs = read_onnx(source), onnx.load(source)
    assert [n.name for n in ours.nodes] == [n.name for n in theirs.graph.node]
    assert [(n.op_type, n.inputs, n.outputs) for n in ours.nodes] == [
        (n.op_type, list(n.input), list(n.output)) for n in theirs.graph.node
    ]
    assert ours.opset == 17
    assert ours.metadata["note"] == "café"
    assert ours.inputs[0].shape == (1, 8, 8, 3)
    for initializer in theirs.graph.initializer:
        np.testing.assert_array_equal(
            ours.tensors[initializer.name].array(), numpy_helper.to_array(initializer)
        )


def test_values_listed_instead_of_raw_are_read_too() -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "w"], ["b"])],
        "listed",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, ["n", 2])],
        [
            helper.make_tensor("w", TensorProto.FLOAT, [2], [1.5, -2.0]),
            helper.make_tensor("z", TensorProto.INT8, [2], [-3, 4]),
            helper.make_tensor("h", TensorProto.FLOAT16, [1], [0.5]),
        ],
    )
    model = decode_onnx(helper.make_model(graph).SerializeToString())
    assert model.inputs[0].shape == (None, 2)
    for name, expected in (("w", [1.5, -2.0]), ("z", [-3, 4]), ("h", [0.5])):
        np.testing.assert_array_equal(model.tensors[name].array(), expected)


def test_writing_what_was_read_changes_nothing(source: Path) -> None:
    again = read_onnx(source).encode()
    onnx.checker.check_model(onnx.load_from_string(again))
    np.testing.assert_array_equal(run(again, image()), run(source.read_bytes(), image()))


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_file_that_is_cut_off_is_refused(source: Path, tmp_path: Path, keep: int) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(source.read_bytes()[:keep])
    with pytest.raises(SamkrError, match="not a complete ONNX model") as raised:
        read_onnx(cut)
    assert raised.value.code == "SE-B87"


def test_a_file_that_is_no_onnx_or_not_there_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.onnx"
    text.write_text("this is not a protobuf message, it is a sentence\n")
    for path, code in ((text, "SE-B87"), (tmp_path / "missing.onnx", "SE-A23")):
        with pytest.raises(SamkrError) as raised:
            read_onnx(path)
        assert raised.value.code == code


def test_the_facts_of_a_quantized_graph(source: Path) -> None:
    facts = facts_of(read_onnx(source))
    assert (facts.opset, facts.precision, facts.weights, facts.uint8_input) == (17, "int8", "fp32", True)
    assert facts.branch_quantizers == 1
    assert facts.grid_modes == ("bilinear",)
    assert facts.zero_points == facts.bad_scales == facts.broken_weights == ()
    assert facts.fp16_scales == facts.bare_quantizers == 0


@pytest.mark.parametrize(
    ("change", "attribute"),
    [
        ({"zero_point": 3}, "zero_points"),
        ({"scale": 0.0}, "bad_scales"),
        ({"weight": float("nan")}, "broken_weights"),
    ],
)
def test_what_tensorrt_cannot_take_is_named(change: dict[str, float], attribute: str) -> None:
    facts = facts_of(decode_onnx(residual_graph(**change).SerializeToString()))
    assert getattr(facts, attribute)


def test_only_the_branch_quantizer_is_dropped(source: Path) -> None:
    model = read_onnx(source)
    before = facts_of(model)
    edited = prepare(model, ("drop_branch_quantizers",))
    after = facts_of(decode_onnx(edited))
    assert after.branch_quantizers == 0
    assert before.ops["QuantizeLinear"] - after.ops["QuantizeLinear"] == 1
    expected, found = run(source.read_bytes(), image()), run(edited, image())
    assert not np.array_equal(expected, found)
    np.testing.assert_allclose(expected, found, atol=0.1)


def test_stripping_gives_the_float_network_back(source: Path) -> None:
    edited = prepare(read_onnx(source), ("strip_quantizers",))
    assert "QuantizeLinear" not in facts_of(decode_onnx(edited)).ops
    np.testing.assert_array_equal(
        run(edited, image()), run(residual_graph(quantized=False).SerializeToString(), image())
    )


def test_the_cast_moves_to_the_image_and_the_output_stays(source: Path) -> None:
    edited = prepare(read_onnx(source), ("cast_first",))
    first = onnx.load_from_string(edited).graph.node[0]
    assert (first.op_type, list(first.input)) == ("Cast", ["image"])
    np.testing.assert_array_equal(run(edited, image()), run(source.read_bytes(), image()))


def test_a_float_input_gives_the_same_output(source: Path) -> None:
    edited = prepare(read_onnx(source), ("cast_first", "float_input"))
    onnx.checker.check_model(onnx.load_from_string(edited))
    np.testing.assert_array_equal(run(edited, image(np.float32)), run(source.read_bytes(), image()))


def test_weights_that_do_not_fill_their_shape_are_refused_by_name(tmp_path: Path) -> None:
    model = residual_graph()
    weights = next(one for one in model.graph.initializer if one.name == "weights")
    weights.raw_data = weights.raw_data[:-4]
    (tmp_path / "short.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(SamkrError, match="not a complete ONNX") as caught:
        read_onnx(tmp_path / "short.onnx")
    assert "weights holds" in caught.value.facts["reason"]


def test_weights_in_another_file_are_refused_and_never_looked_for(tmp_path: Path) -> None:
    model = residual_graph()
    onnx.save(
        model, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    with pytest.raises(SamkrError) as raised:
        read_onnx(tmp_path / "model.onnx")
    assert raised.value.code == "SE-A26"
    assert "weights" in raised.value.facts["first"]


def test_a_model_without_an_input_is_looked_over(source: Path) -> None:
    model = onnx.load(source)
    del model.graph.input[:]
    assert facts_of(decode_onnx(model.SerializeToString())).input_shape == ()


def test_an_entry_of_metadata_is_added_behind_the_others(source: Path) -> None:
    changed = onnx.load_from_string(with_metadata(source.read_bytes(), "clé", "valeur"))
    assert [(entry.key, entry.value) for entry in changed.metadata_props][-1] == ("clé", "valeur")
    assert changed.graph == onnx.load(source).graph


def grouped_onnx(groups: int, channels: int) -> bytes:
    """A quantized convolution in groups, whose input a plain quantized convolution reads too."""
    random = np.random.default_rng(0)
    constants = {
        "wide": random.normal(size=(channels, channels, 1, 1)).astype(np.float32),
        "grouped": random.normal(size=(channels, channels // groups, 1, 1)).astype(np.float32),
        "scale": np.float32(0.02),
        "zero": np.int8(0),
    }
    nodes = []
    for name in ("x", "wide", "grouped"):
        nodes.append(helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", "scale", "zero"], [f"{name}_dq"]))
    nodes.append(helper.make_node("Conv", ["x_dq", "wide_dq"], ["y"], name="/wide"))
    nodes.append(helper.make_node("Conv", ["x_dq", "grouped_dq"], ["z"], name="/grouped", group=groups))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 4, 4]) for name in "xyz"]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "grouped", ends[:1], ends[1:], tensors),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


@pytest.mark.parametrize(("groups", "channels", "odd"), [(4, 8, 1), (8, 8, 1), (2, 8, 0), (1, 6, 0)])
def test_groups_that_int8_does_not_take_lose_their_quantizers_alone(
    groups: int, channels: int, odd: int
) -> None:
    model = decode_onnx(grouped_onnx(groups, channels))
    assert facts_of(model).odd_groups == odd
    before = model.encode()
    edited = decode_onnx(prepare(model, ("drop_odd_groups",)))
    assert model.encode() == before
    nodes = {node.name: node for node in edited.nodes if node.op_type == "Conv"}
    assert nodes["/wide"].inputs == ["x_dq", "wide_dq"]
    assert nodes["/grouped"].inputs == (["x", "grouped"] if odd else ["x_dq", "grouped_dq"])
    assert sum(node.op_type == "QuantizeLinear" for node in edited.nodes) == (2 if odd else 3)
    image = np.random.default_rng(1).normal(size=(1, channels, 4, 4)).astype(np.float32)

    def outputs(data: bytes) -> list[np.ndarray]:
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        return [np.asarray(found) for found in session.run(None, {"x": image})]

    # Nothing but its own rounding changes: steps of 0.02 on both sides.
    for old, new in zip(outputs(before), outputs(edited.encode()), strict=True):
        assert np.abs(old - new).max() < 0.3 * np.abs(old).max()
