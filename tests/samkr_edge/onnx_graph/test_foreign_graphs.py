"""Our exports after other tools were at them: built, or refused by name; never half read."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, version_converter
from tensorrt_graphs import residual_graph, write_residual
from tiny_model import tiny_onnx

from benchmarks.measure.int8_share import int8_share
from samkr_edge.builder.check.maps import run_maps
from samkr_edge.builder.cpu.build import build_cpu
from samkr_edge.cli import run
from samkr_edge.deploy.bundle import write_bundle
from samkr_edge.errors import SamkrError
from samkr_edge.onnx_graph.float_biases import float_biases
from samkr_edge.onnx_graph.foreign import refused_by
from samkr_edge.onnx_graph.onnx_precision import precision_of
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from samkr_edge.pose_model import load_model


class Noise:
    """Calibration data for onnxruntime.quantization."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self._left = [generator.integers(0, 256, (1, 64, 64, 3), dtype=np.uint8) for _ in range(2)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return {"image": self._left.pop()} if self._left else None


def biased_onnx(path: Path) -> Path:
    """The tiny network behind a normalisation and a convolution of its own, all three with biases."""
    model = onnx.load(tiny_onnx(path))
    graph, node = model.graph, onnx.helper.make_node
    heads = list(graph.node[2:])
    del graph.node[:]
    graph.node.extend(
        [
            node("Transpose", ["image"], ["bytes"], perm=[0, 3, 1, 2]),
            node("Cast", ["bytes"], ["floats"], to=TensorProto.FLOAT),
            node("Mul", ["floats", "factor"], ["scaled"]),
            node("Sub", ["scaled", "mean"], ["planes"]),
            node("Conv", ["planes", "stem_weight", "stem_bias"], ["stem"]),
        ]
    )
    generator = np.random.default_rng(1)
    constants = {
        "factor": np.full((1, 3, 1, 1), 0.02),
        "mean": np.full((1, 3, 1, 1), 0.5),
        "stem_weight": generator.normal(0, 1, (3, 3, 1, 1)),
        "stem_bias": generator.normal(0, 1, 3),
    }
    for head, channels in zip(heads, (18, 34), strict=True):
        head.input[0] = "stem"
        head.input.append(f"{head.output[0]}_bias")
        constants[head.input[2]] = generator.normal(0, 1, channels)
    graph.node.extend(heads)
    graph.initializer.extend(
        onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()
    )
    onnx.save(model, path)
    return path


def quantized(
    tmp_path: Path, form: str, activations: str = "QUInt8", symmetric: bool = False, **options: bool
) -> Path:
    from onnxruntime import quantization as tool

    source = (biased_onnx if symmetric else tiny_onnx)(tmp_path / "float.onnx")
    out = tmp_path / "foreign.onnx"
    if form == "dynamic":
        tool.quantize_dynamic(source, out)
        return out
    tool.quantize_static(
        source,
        out,
        Noise(),
        quant_format=tool.QuantFormat[form],
        per_channel=True,
        op_types_to_quantize=["Conv"],
        activation_type=tool.QuantType[activations],
        weight_type=tool.QuantType.QInt8,
        extra_options={"ActivationSymmetric": symmetric, **options},
    )
    return out


def refusal(call: Callable[[], object]) -> SamkrError:
    with pytest.raises(SamkrError) as caught:
        call()
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize(
    ("form", "activations", "cpu", "tensorrt"),
    [
        ("QDQ", "QUInt8", "SE-B57", "SE-B88"),
        ("QDQ", "QInt8", "SE-B57", "SE-B88"),
        ("QOperator", "QUInt8", "SE-B57", "SE-B57"),
    ],
)
def test_quantized_by_onnx_runtimes_own_tool(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    form: str,
    activations: str,
    cpu: str,
    tensorrt: str,
) -> None:
    model = quantized(tmp_path, form, activations)
    assert load_model(model).card.precision == "int8"
    assert load_model(model).card.stage == "ptq"
    assert refusal(lambda: build_cpu(model, tmp_path / "x.cpu.onnx")).code == cpu
    assert run(["inspect", str(model)]) == 0
    shown = capsys.readouterr().out
    assert "samkr_tiny, int8 (ptq)" in shown
    share = int8_share(model)
    assert share  # in operations of its own too
    assert f"INT8       {share:.1%} of 0.00 GMACs" in shown
    assert f"for the CPU: {cpu}" in shown
    assert f"for TensorRT: {tensorrt}" in shown
    assert run(["build", str(model), "--target", "rtx-4090", "--dry-run"]) == 5
    assert tensorrt in capsys.readouterr().err
    assert run(["bundle", str(model)]) == 0
    shown = capsys.readouterr().out
    assert f"not built    for the CPU: {cpu}" in shown
    assert f"not built    for TensorRT: {tensorrt}" in shown
    assert "on a device" not in shown


@pytest.mark.parametrize("weights", [False, True], ids=["weights stored", "weights quantized"])
def test_signed_and_symmetric_it_is_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], weights: bool
) -> None:
    """Its biases are int32 behind a DequantizeLinear, and its outputs come from one."""
    model = quantized(tmp_path, "QDQ", "QInt8", symmetric=True, AddQDQPairToWeight=weights)
    assert refused_by(read_onnx(model), model) == {}
    built = build_cpu(model, tmp_path / "x.cpu.onnx")
    assert built.agreement.holds
    assert built.passport.settings["image_bytes"] == weights
    assert built.passport.card["precision"] == "int8"
    assert run(["inspect", str(model)]) == 0
    assert "asymmetric" not in capsys.readouterr().out
    for target in (["rtx-4090"], ["jetson-orin-nano", "--tensorrt", "jetpack-6.2"]):
        prepared = tmp_path / f"{target[0]}.onnx"
        words = ["build", str(model), "--target", *target]
        assert run([*words, "--dry-run"]) == 0
        assert run([*words, "--prepared", str(prepared)]) == 0, capsys.readouterr().err
        graph = onnx.load(prepared).graph
        types = {one.name: one.data_type for one in graph.initializer}
        dequantized = {types.get(node.input[0]) for node in graph.node if node.op_type == "DequantizeLinear"}
        assert dequantized <= {None, TensorProto.INT8}  # TensorRT knows no other
        assert {one.type.tensor_type.elem_type for one in graph.output} == {TensorProto.FLOAT}


def test_a_bias_of_integers_is_the_float_that_it_stands_for(tmp_path: Path) -> None:
    path = quantized(tmp_path, "QDQ", "QInt8", symmetric=True)
    model, image = read_onnx(path), np.full((1, 64, 64, 3), 100, np.uint8)
    before = run_maps(model, image, optimise=False)
    assert float_biases(model) == 3
    assert float_biases(model) == 0
    for one, other in zip(before, run_maps(model, image, optimise=False), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("which", ["no zero point", "computed scale"])
def test_quantizers_that_the_passes_cannot_read_are_refused_by_name(tmp_path: Path, which: str) -> None:
    path = quantized(tmp_path, "QDQ", "QInt8", symmetric=True)
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and which == "no zero point":
            del node.input[2:]
    if which == "computed scale":
        quantizer = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
        model.graph.node.insert(0, onnx.helper.make_node("Identity", [quantizer.input[1]], ["computed"]))
        quantizer.input[1] = "computed"
    onnx.save(model, path)
    assert refusal(lambda: build_cpu(path, tmp_path / "x.cpu.onnx")).code == "SE-B57"
    assert ("TensorRT" in refused_by(read_onnx(path), path)) == (which == "computed scale")


def test_a_dry_run_does_not_promise_what_the_build_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(biased_onnx(tmp_path / "m.onnx"))
    large = next(one for one in model.graph.initializer if one.name == "stem_weight")
    values = onnx.numpy_helper.to_array(large).copy()
    values[0, 0] = 1e6  # FP16 ends at 65504
    model.graph.node[4].input[0] = "relu"  # what reads the image itself stays FP32
    model.graph.node.insert(4, onnx.helper.make_node("Conv", ["planes", "first_weight"], ["first"]))
    model.graph.node.insert(5, onnx.helper.make_node("Relu", ["first"], ["relu"]))
    first = onnx.numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "first_weight")
    model.graph.initializer.append(first)
    large.CopyFrom(onnx.numpy_helper.from_array(values, large.name))
    onnx.save(model, tmp_path / "m.onnx")
    words = ["build", str(tmp_path / "m.onnx"), "--target", "rtx-4090", "--precision", "fp16"]
    assert run([*words, "--prepared", str(tmp_path / "p.onnx")]) == 5
    said = capsys.readouterr().err
    assert "SE-B85" in said
    assert run([*words, "--dry-run"]) == 5
    assert capsys.readouterr().err == said


def test_dynamic_quantization_is_int8_and_nothing_for_tensorrt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = quantized(tmp_path, "dynamic")
    assert load_model(model).card.precision == "int8"
    assert run(["inspect", str(model)]) == 0
    shown = capsys.readouterr().out
    assert int8_share(model) == 1.0
    assert "INT8       100.0% of 0.00 GMACs; 2 of 2 convolutions" in shown
    assert "TensorRT for RTX" not in shown  # which has no such operation
    assert "no INT8 inside" not in shown
    assert run(["build", str(model), "--target", "rtx-4090", "--prepared", str(tmp_path / "p.onnx")]) == 5
    assert "ConvInteger" in capsys.readouterr().err
    assert not (tmp_path / "p.onnx").exists()


def test_sixteen_bits_are_no_int8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They round, and what is between them is computed in floats."""
    path = quantized(tmp_path, "QDQ", "QInt8", symmetric=True)
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and "weight" not in node.input[0]:
            node.input[2] = "wide" if "bias" not in node.input[0] else node.input[2]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((), np.int16), "wide"))
    model.opset_import[0].version, model.ir_version = 21, 10
    onnx.save(model, path)
    assert precision_of(read_onnx(path)) == "fp32"
    assert int8_share(path) == 0.0
    assert run(["inspect", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "0.0% of 0.00 GMACs; 0 of 3 convolutions" in shown
    assert "for the CPU: SE-B57, 4 16-bit quantizers" in shown
    assert "for TensorRT: SE-B57, 4 16-bit quantizers" in shown


def test_map_sizes_that_are_not_known_are_no_share_of_zero(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(biased_onnx(tmp_path / "m.onnx"))
    model.graph.node[4].output[0] = "before"
    model.graph.node.insert(5, onnx.helper.make_node("Gelu", ["before"], ["stem"], domain="com.microsoft"))
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    for value in model.graph.output:
        value.type.tensor_type.shape.dim[2].dim_param = "rows"
    onnx.save(model, tmp_path / "m.onnx")
    assert int8_share(tmp_path / "m.onnx") is None
    assert run(["inspect", str(tmp_path / "m.onnx")]) == 0
    assert "some map sizes are unknown" in capsys.readouterr().out


@pytest.mark.parametrize(("quantize", "expected"), [(True, "int8"), (False, "fp32")])
def test_the_precision_is_the_graphs(tmp_path: Path, quantize: bool, expected: str) -> None:
    assert precision_of(read_onnx(write_residual(tmp_path / "m.onnx", quantized=quantize))) == expected


def test_an_optimisers_operations_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = onnx.load(tiny_onnx(tmp_path / "optimised.onnx"))
    model.graph.node[-1].op_type, model.graph.node[-1].domain = "FusedConv", "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, tmp_path / "optimised.onnx")
    error = refusal(lambda: build_cpu(tmp_path / "optimised.onnx", tmp_path / "x.cpu.onnx"))
    assert error.code == "SE-B56"
    assert "com.microsoft.FusedConv" in error.facts["found"]
    assert run(["build", str(tmp_path / "optimised.onnx"), "--target", "rtx-4090", "--dry-run"]) == 5
    assert "SE-B56" in capsys.readouterr().err


@pytest.mark.parametrize("opset", [20, 21, 23])
def test_a_newer_opset_is_built_for_the_cpu(tmp_path: Path, opset: int) -> None:
    tiny = version_converter.convert_version(onnx.load(tiny_onnx(tmp_path / "tiny.onnx")), opset)
    onnx.save(tiny, tmp_path / "tiny.onnx")
    assert build_cpu(tmp_path / "tiny.onnx", tmp_path / "tiny.cpu.onnx").agreement.holds
    sampling = residual_graph(opset=opset, mode="linear", quantized=False)
    onnx.save(sampling, tmp_path / "sampling.onnx")
    assert build_cpu(tmp_path / "sampling.onnx", tmp_path / "sampling.cpu.onnx").agreement.holds


def test_an_operation_without_a_rule_for_a_newer_opset_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_adapter(*_: object) -> None:
        raise RuntimeError("No Adapter From Version $16 for GridSample")

    monkeypatch.setattr(version_converter, "convert_version", no_adapter)
    source = write_residual(tmp_path / "m.onnx", quantized=False)
    assert build_cpu(source, tmp_path / "m.cpu.onnx").passport.settings["deform_convolutions"] == 0


@pytest.mark.parametrize("which", ["initializers", "constants"])
def test_weights_in_a_second_file_are_refused_by_every_reader_and_the_fix_joins_them(
    tmp_path: Path, which: str
) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    path = tiny_onnx(folder / "m.onnx")
    whole = load_model(path)
    model = onnx.load(path)
    if which == "constants":
        for tensor in [*model.graph.initializer]:
            model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))
        del model.graph.initializer[:]
    onnx.save(
        model, path, save_as_external_data=True, location="w.bin", size_threshold=0, convert_attribute=True
    )
    assert (folder / "w.bin").stat().st_size > 1000
    prepared = ["build", str(path), "--target", "rtx-4090", "--prepared", str(folder / "p.onnx")]
    for use in (
        lambda: load_model(path),
        lambda: build_cpu(path, folder / "x.cpu.onnx"),
        lambda: write_bundle(path, folder / "x.samkr"),
        lambda: read_onnx(path),
    ):
        assert refusal(use).code == "SE-A26"
    assert [run(words) for words in (prepared, [*prepared[:4], "--dry-run"], ["inspect", str(path)])] == [
        4
    ] * 3
    assert {one.name for one in folder.iterdir()} == {"m.onnx", "w.bin"}
    fix = refusal(lambda: read_onnx(path)).fix
    assert fix is not None
    subprocess.run(fix.replace("python -c", f"{shlex.quote(sys.executable)} -c"), shell=True, check=True)
    image = np.full((1, 64, 64, 3), 100, np.uint8)
    joined = load_model(folder / "m.whole.onnx")
    np.testing.assert_array_equal(joined.runner.run(image)[0], whole.runner.run(image)[0])


def test_what_opens_and_does_not_run_is_said_by_us_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Another batch was declared than the one that a reshape inside is made for."""
    path = tiny_onnx(tmp_path / "m.onnx")
    model = onnx.load(path)
    graph = model.graph
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 3, 64, 64]), "fixed"))
    graph.node.insert(2, onnx.helper.make_node("Reshape", ["planes", "fixed"], ["shaped"]))
    for convolution in graph.node[3:]:
        convolution.input[0] = "shaped"
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    onnx.save(model, path)
    pose = load_model(path)
    error = refusal(lambda: pose(np.zeros((64, 64, 3), np.uint8)))
    assert error.code == "SE-A35"
    assert error.facts["input"] == "3x64x64x3, as its graph declares it"
    assert refusal(lambda: build_cpu(path, tmp_path / "m.cpu.onnx")).code == "SE-A35"
    model.graph.node[2].op_type = "NoSuchOperation"
    onnx.save(model, path)
    assert refusal(lambda: load_model(path)).code == "SE-A22"
    assert capfd.readouterr().err == ""  # ONNX Runtime would log both, in colours


def test_a_graph_that_takes_floats_is_given_floats(tmp_path: Path) -> None:
    """As one that was prepared for a TensorRT that takes no bytes."""
    path = tiny_onnx(tmp_path / "m.onnx")
    image = np.full((1, 64, 64, 3), 100, np.uint8)
    expected = load_model(path).runner.run(image)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    onnx.save(model, path)
    np.testing.assert_array_equal(load_model(path).runner.run(image)[0], expected[0])
