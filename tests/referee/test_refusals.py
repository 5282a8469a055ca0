"""Graphs that must not become an engine do not, in our words, and nothing is written.

Those of the plan are refused before NVIDIA's code is asked; the others are its own complaints, translated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from small_exports import export, shallow_network

from samkr_edge.builder.tensorrt.engine_bytes import build_bytes
from samkr_edge.builder.tensorrt.features import Features
from samkr_edge.builder.tensorrt.plan import plan_build
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from targets.profile import load_target

pytestmark = pytest.mark.usefixtures("features")
Change = Callable[[ModelProto], object]
CARD = load_target("rtx-4090")


@pytest.fixture(scope="module")
def float_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(shallow_network("samkr_tiny"), tmp_path_factory.mktemp("float") / "tiny.onnx")


@pytest.fixture(scope="module")
def int8_onnx(float_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Quantized by hand: ModelOpt takes seconds, and the graph is there to be broken."""
    return broken(float_onnx, tmp_path_factory.mktemp("int8"), quantize_convolutions)


def broken(source: Path, folder: Path, change: Change) -> Path:
    model = onnx.load(source)
    change(model)
    path = folder / "broken.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def first(model: ModelProto, operation: str, nth: int = 0) -> NodeProto:
    return [node for node in model.graph.node if node.op_type == operation][nth]


def constant(model: ModelProto, name: str) -> TensorProto:
    """The constant of this name, to be changed in place."""
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return tensor
    maker = next(node for node in model.graph.node if name in node.output)
    return maker.attribute[0].t


def put(operation: str, place: int, value: float, dtype: type | None = None) -> Change:
    """Fill the constant that the first such node reads at ``place``."""

    def change(model: ModelProto) -> None:
        tensor = constant(model, first(model, operation).input[place])
        old = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(np.full_like(old, value, dtype=dtype), tensor.name))

    return change


def quantize_convolutions(model: ModelProto) -> None:
    """Images and weights of all of them, as our export does and names it, with a scale for every channel."""
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Conv":
            channels = constant(model, node.input[1]).dims[0]
            for index, what, shape in ((0, "input", ()), (1, "weight", (channels,))):
                name = f"{node.name.removesuffix('/Conv')}/{what}_quantizer"
                read = [f"{name}.scale", f"{name}.zero"]
                values = (np.full(shape, 0.05, np.float32), np.zeros(shape, np.int8))
                model.graph.initializer.extend(map(numpy_helper.from_array, values, read))
                for kind, target in (
                    ("QuantizeLinear", f"{name}.int8"),
                    ("DequantizeLinear", f"{name}.float"),
                ):
                    axis = {"axis": 0} if shape else {}
                    nodes.append(
                        helper.make_node(kind, [node.input[index], *read], [target], f"{name}/{kind}", **axis)
                    )
                    node.input[index] = target
        nodes.append(node)
    edited = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(edited)


def sample_as_opset_20(model: ModelProto) -> None:
    model.opset_import[0].version = 20
    (mode,) = [one for one in first(model, "GridSample").attribute if one.name == "mode"]
    mode.s = b"linear"


def unknown_operation(model: ModelProto) -> None:
    first(model, "Relu").op_type = "Frobnicate"


def operation_of_somebody(model: ModelProto) -> None:
    unknown_operation(model)
    first(model, "Frobnicate").domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))


def reads_nothing(model: ModelProto) -> None:
    first(model, "Relu").input[0] = "nobody"


def waits_for_itself(model: ModelProto) -> None:
    first(model, "Relu").input[0] = first(model, "Relu", 5).output[0]


def gives_nothing(model: ModelProto) -> None:
    model.graph.output[0].name = "nothing"


def takes_a_larger_image(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 96


def thinner_weights(model: ModelProto) -> None:
    tensor = constant(model, first(model, "Conv", 1).input[1])
    values = np.ascontiguousarray(numpy_helper.to_array(tensor)[:, 1:])
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def half_the_weights(model: ModelProto) -> None:
    tensor = constant(model, first(model, "Conv", 1).input[1])
    tensor.raw_data = tensor.raw_data[: len(tensor.raw_data) // 2]


def weights_elsewhere(model: ModelProto) -> None:
    tensor = constant(model, first(model, "Conv", 1).input[1])
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    place = tensor.external_data.add()
    place.key, place.value = "location", "weights.bin"


def refused(source: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Build as the command line does; the error, for a build that fails and writes nothing."""
    before = sorted(path.name for path in source.parent.iterdir())
    code = run(["build", str(source), "--target", "rtx-4090", *options])
    shown = capsys.readouterr()
    assert sorted(path.name for path in source.parent.iterdir()) == before
    assert code in (4, 5, 7), shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""
    return shown.err[shown.err.index("error SE-") :]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("QuantizeLinear", 1, np.nan), ("SE-B88", "NaN", "conv1/input_quantizer")),
        (put("QuantizeLinear", 1, np.inf), ("SE-B88", "infinite", "conv1/input_quantizer")),
        (put("QuantizeLinear", 1, 0), ("SE-B88", "not positive", "conv1/input_quantizer")),
        (put("QuantizeLinear", 1, -1), ("SE-B88", "not positive", "conv1/input_quantizer")),
        (put("QuantizeLinear", 1, 1e6), ("SE-B85", "larger than FP16", "conv1/input_quantizer")),
        (put("QuantizeLinear", 2, 3), ("SE-B88", "symmetric", "conv1/input_quantizer")),
        (put("QuantizeLinear", 2, 0, np.uint8), ("SE-B88", "symmetric", "conv1/input_quantizer")),
    ],
    ids=["nan", "infinite", "zero", "negative", "beyond-fp16", "asymmetric", "unsigned"],
)
def test_quantizers(
    int8_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Change, words: tuple[str]
) -> None:
    error = refused(broken(int8_onnx, tmp_path, change), capsys)
    assert all(word in error for word in words), error


@pytest.mark.parametrize(
    ("change", "baked", "parsed"),
    [
        (put("Conv", 1, np.nan), ("SE-B88", "conv1.weight"), ("SE-B88", "conv1.weight")),
        (sample_as_opset_20, ("SE-B88", "nearest pixel"), ("SE-B88", "nearest pixel")),
        (half_the_weights, ("SE-B87", "conv2.weight holds"), ("SE-B87", "conv2.weight holds")),
        (unknown_operation, ("SE-B84", "relu1/Relu"), ("SE-B91", "relu1/Relu (Frobnicate)", "does not know")),
        (operation_of_somebody, *2 * [("SE-B56", "com.example.Frobnicate")]),
        (reads_nothing, ("SE-B84", "'nobody'"), ("SE-B91", "relu1/Relu (Relu)", "no node writes")),
        (waits_for_itself, ("SE-B84", "sorted"), ("SE-B91", "form a cycle")),
        (gives_nothing, *2 * [("SE-A27", "the network has none")]),
        (takes_a_larger_image, *2 * [("SE-A27", "the network 1x96x64x3")]),
        (thinner_weights, ("SE-B91", "conv2/Conv (Conv)"), ("SE-B91", "conv2/Conv (Conv)", "do not fit")),
        (weights_elsewhere, *2 * [("SE-A26", "another file")]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_broken_graphs(
    float_onnx: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Change,
    baked: tuple[str],
    parsed: tuple[str],
) -> None:
    """Where FP16 is baked in, ONNX's own checker sees a graph before NVIDIA's parser does; FP32 goes as it is."""
    path = broken(float_onnx, tmp_path, change)
    for options, words in (((), baked), (("--precision", "fp32"), parsed)):
        error = refused(path, capsys, *options)
        assert all(word in error for word in words), error
        assert "\nfix: " in error
        assert "gave no reason" not in error


@pytest.mark.parametrize("kept", [0, 100, 0.5, -1])
def test_a_file_that_is_cut_off(
    float_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: float
) -> None:
    whole = float_onnx.read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(whole[: int(len(whole) * kept) if kept == 0.5 else int(kept)])
    assert "SE-B87" in refused(path, capsys)


def test_the_graph_as_exported_is_what_the_parser_cannot_take(float_onnx: Path, features: Features) -> None:
    """Why `cast_first` is in every plan: nothing but a cast may read image bytes."""
    plan = plan_build(CARD, features, facts_of(read_onnx(float_onnx)), Wishes(precision="fp32"))
    assert "cast_first" in plan.steps
    with pytest.raises(SamkrError) as caught:
        build_bytes(float_onnx, replace(plan, steps=()))
    assert caught.value.code == "SE-B91"
    assert "/Transpose (Transpose)" in caught.value.facts["node"]
    assert "image bytes" in caught.value.sentence()


@pytest.mark.parametrize(
    ("change", "meaning"),
    [
        (put("QuantizeLinear", 1, np.nan), "never fired"),
        (put("QuantizeLinear", 1, 0), "never fired"),
        (put("QuantizeLinear", 2, 3), "must be 0"),
    ],
    ids=["nan", "zero", "asymmetric"],
)
def test_what_the_plan_refuses_of_quantizers_the_parser_refuses_too(
    int8_onnx: Path, tmp_path: Path, features: Features, change: Change, meaning: str
) -> None:
    plan = plan_build(CARD, features, facts_of(read_onnx(int8_onnx)), Wishes())
    unbaked = replace(plan, steps=tuple(step for step in plan.steps if step != "bake_fp16"))
    with pytest.raises(SamkrError) as caught:
        build_bytes(broken(int8_onnx, tmp_path, change), unbaked)
    assert caught.value.code == "SE-B91"
    assert "conv1/input_quantizer/QuantizeLinear (QuantizeLinear)" in caught.value.facts["node"]
    assert meaning in caught.value.sentence()


def test_a_batch_that_is_open_outside_and_fixed_inside(
    float_onnx: Path, tmp_path: Path, features: Features
) -> None:
    def open_batch(model: ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"

    path = broken(float_onnx, tmp_path, open_batch)
    plan = plan_build(CARD, features, facts_of(read_onnx(path)), Wishes(precision="fp32", batch=3))
    with pytest.raises(SamkrError) as caught:
        build_bytes(path, plan)
    assert caught.value.code in ("SE-B90", "SE-B91")
    assert "Reshape" in caught.value.facts["node"]
    assert "--batch" in (caught.value.fix or "")


def test_int8_before_it_could(int8_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(int8_onnx, capsys, "--tensorrt", "1.6")
    assert "SE-V88" in error
    assert "--precision fp16" in error


def test_a_version_whose_plan_would_not_build(float_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """1.4 has the flags of weak typing, and its builder fails with them, without a reason, where no GPU is."""
    error = refused(float_onnx, capsys, "--tensorrt", "1.4")
    assert "SE-V80" in error
    assert "too old" in error


def test_a_device_that_it_does_not_build_for(int8_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(int8_onnx, capsys, "--target", "jetson-orin-nano-8gb", "--flavour", "rtx")
    assert "SE-V80" in error
    assert "8.7" in error
