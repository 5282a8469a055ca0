"""What keeps INT8 from paying is found in real listings, with the policy line that fixes it or that none does."""

import json
from pathlib import Path

import pytest
import yaml
from builder_logs import DATA, builder_layers

from samkr_edge.builder.inspect.engine import inspect_layers
from samkr_edge.builder.inspect.finding import Finding
from samkr_edge.cli import run
from samkr_edge.files.artefact import sha256_of


def findings(build: str) -> dict[str, Finding]:
    found = inspect_layers(builder_layers(build)).findings
    assert len({finding.kind for finding in found}) == len(found)
    return {finding.kind: finding for finding in found}


@pytest.mark.parametrize("build", ["fp32", "fp16"])
def test_float_engines_have_nothing_to_mend(build: str) -> None:
    assert findings(build) == {}


def test_int8_convolutions_that_write_fp32_are_found_with_the_rule_that_makes_them_fuse() -> None:
    found = findings("int8")
    assert set(found) == {"int8-writes-float", "many-elementwise-kernels"}
    writes = found["int8-writes-float"]
    assert "75 of 75 INT8 convolutions write FP32" in writes.what
    assert "backbone.layer1.0.conv2" in writes.modules
    (rule,) = yaml.safe_load(writes.policy)
    assert (rule["op"], rule["precision"], rule["granularity"]) == ("conv", "int8", "tensor")
    pytest.importorskip("calibration.policy").Rule.model_validate(rule)
    assert (
        "72 elementwise kernels for 81 convolutions; 61 of them quantize"
        in found["many-elementwise-kernels"].what
    )
    assert found["many-elementwise-kernels"].policy == ""


def test_few_convolutions_that_write_fp32_are_named_one_by_one() -> None:
    layers = json.loads(builder_layers("int8"))
    wide = [layer for layer in layers["Layers"] if layer["LayerType"] == "correlation"]
    for layer in wide[2:]:
        layer["Outputs"][0]["Datatype"] = "Half"
    (found,) = [f for f in inspect_layers(json.dumps(layers)).findings if f.kind == "int8-writes-float"]
    assert found.modules == ("backbone.conv1", "backbone.conv2")
    assert [rule["match"] for rule in yaml.safe_load(found.policy)] == ["backbone.conv1", "backbone.conv2"]


def test_int8_that_the_builder_made_fp16_is_found_and_no_policy_is_promised() -> None:
    found = findings("int8_sm75")
    assert set(found) == {"not-int8", "many-elementwise-kernels"}
    assert found["not-int8"].what.startswith("75 convolutions quantized to INT8 but computed in FP16")
    assert "backbone.conv1" in found["not-int8"].modules
    assert found["not-int8"].policy == ""
    assert "Turing" in found["not-int8"].note


def test_fp8_is_not_taken_for_float_that_int8_became() -> None:
    layers = json.loads(builder_layers("int8_sm75"))
    for layer in layers["Layers"]:
        for tensor in (*layer["Inputs"], *layer["Outputs"]):
            tensor["Datatype"] = tensor["Datatype"].replace("Half", "FP8")
    assert {finding.kind for finding in inspect_layers(json.dumps(layers)).findings} == {
        "many-elementwise-kernels"
    }


def small_convolution(layer_type: str, c_in: int, c_out: int) -> str:
    """The layers of an INT8 convolution in 17 groups, with a kernel before it that makes what it reads."""

    def tensor(name: str, *shape: int, dtype: str = "Int8") -> dict[str, object]:
        return {"Name": name, "Dimensions": shape, "Datatype": dtype, "Format": "(Linear)"}

    read = tensor("taps", 1, 17 * c_in, 32, 32)
    taps = {
        "Name": "grid",
        "LayerType": "GridSample",
        "Inputs": [tensor("x", 1, 136, 32, 32, dtype="Half")],
        "Outputs": [read],
        "Metadata": "[ONNX Layer: /net/offset_head/blocks/blocks.0/sampling/GridSample]",
    }
    convolution = {
        "Name": "adapt_conv",
        "LayerType": layer_type,
        "Inputs": [read],
        "Constants": [tensor("weights", 17 * c_out, c_in, 1, 1)],
        "Outputs": [tensor("y", 1, 17 * c_out, 32, 32, dtype="Half")],
        "Metadata": "[ONNX Layer: /net/offset_head/blocks/blocks.0/adapt_conv/Conv]",
    }
    if layer_type != "correlation":
        convolution |= {"Kernel": [1, 1], "Groups": 17, "OutMaps": 17 * c_out, "Weights": {"Type": "Int8"}}
    return json.dumps({"Layers": [taps, convolution]})


@pytest.mark.parametrize(
    ("layer_type", "c_in", "c_out", "small"),
    [
        ("correlation", 72, 8, False),  # samkr_tiny's taps: 9 of 8 channels are summed over
        ("correlation", 8, 8, True),
        ("CaskConvolution", 72, 8, True),
        ("CaskConvolution", 72, 16, False),
    ],
)
def test_of_tensorrt_for_rtx_a_convolution_is_small_by_what_it_reads(
    layer_type: str, c_in: int, c_out: int, small: bool
) -> None:
    kinds = [finding.kind for finding in inspect_layers(small_convolution(layer_type, c_in, c_out)).findings]
    assert ("small-convolution" in kinds) is small


def test_full_tensorrt_is_not_told_to_give_up_scales_per_channel() -> None:
    layers = json.loads((DATA / "engine_layers_trt10.json").read_text())
    convolution = next(layer for layer in layers["Layers"] if layer["LayerType"] == "CaskConvolution")
    convolution["Outputs"][0]["Format/Datatype"] = "Float"
    (found,) = [f for f in inspect_layers(json.dumps(layers)).findings if f.kind == "int8-writes-float"]
    assert found.modules == ("backbone.conv1",)
    assert found.policy == ""


def test_what_breaks_int8_by_full_tensorrts_rules_is_not_said_of_tensorrt_for_rtx() -> None:
    layers = json.loads(builder_layers("int8"))
    name = "/net/backbone/layer1/layer1.0/conv2/Conv"
    island = next(layer for layer in layers["Layers"] if layer["Name"].startswith(name))
    for tensor in (*island["Inputs"], *island["Constants"], *island["Outputs"]):
        tensor["Datatype"] = "Half"  # and the next one gets its INT8 from a kernel that is there anyway
    kinds = {finding.kind for finding in inspect_layers(json.dumps(layers)).findings}
    assert kinds == {"int8-writes-float", "many-elementwise-kernels"}


def test_inspect_shows_kernels_bytes_and_types_without_a_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = tmp_path / "x.engine"
    engine.write_bytes(b"engine")
    listing = json.loads(builder_layers("int8"))
    beside = tmp_path / "x.engine.layers.json"
    beside.write_text(json.dumps({**listing, "engine_sha256": sha256_of(engine)}))
    assert run(["inspect", str(engine)]) == 0
    shown = capsys.readouterr().out
    assert "154, 72 of them elementwise; 27.7 MB" in shown
    assert "75 int8 -> fp32" in shown
    assert "granularity: tensor" in shown
    assert run(["inspect", str(engine), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measures"]["int8_writing_float"] == 75


def test_strict_counts_findings_of_long_names_legibly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = tmp_path / "x.engine"
    engine.write_bytes(b"engine")
    layers = json.loads(builder_layers("int8"))
    (tmp_path / "x.engine.layers.json").write_text(json.dumps(layers))
    assert run(["inspect", str(engine), "--strict"]) == 6
    shown = capsys.readouterr().err
    assert "x.engine has 2 findings" in shown
    assert "many-elementwise-kernels 1\n" in shown
    for layer in layers["Layers"]:
        if layer["LayerType"] == "correlation":
            layer["Outputs"][0]["Datatype"] = "Half"
    (tmp_path / "x.engine.layers.json").write_text(json.dumps(layers))
    assert run(["inspect", str(engine), "--strict"]) == 6
    shown = capsys.readouterr().err
    assert "x.engine has 1 finding\n" in shown
    assert "72 elementwise kernels for 81 convolutions" in shown
    assert "\nfix: samkr-edge inspect " in shown


def test_a_listing_of_another_engine_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samkr_edge.machine.driver._load_driver", lambda: (None, "no driver"))
    (tmp_path / "x.engine").write_bytes(b"engine")
    listing = {**json.loads(builder_layers("int8")), "engine_sha256": "0" * 64}
    (tmp_path / "x.engine.layers.json").write_text(json.dumps(listing))
    assert run(["inspect", str(tmp_path / "x.engine")]) == 7
    assert "belongs to another engine" in capsys.readouterr().err
