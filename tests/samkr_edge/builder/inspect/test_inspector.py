"""The inspector's three formats say the same; every kind of waste is found, and the policy line that fixes it named.

The samples in tests/data are written by hand from the formats that NVIDIA documents: one small network with one case
of each finding, as TensorRT 8 (sentences), 10 (words, metadata) and 11 (split fields) would list it.
"""

import json
from pathlib import Path

import pytest
import yaml

from samkr_edge.builder.inspect.engine import EngineReport, Finding, inspect_layers
from samkr_edge.builder.inspect.engine_layers import (
    dtype_of,
    parse_layers,
    parse_profile,
    profile_records,
    profiled_engine,
)
from samkr_edge.builder.inspect.module_names import module_of
from samkr_edge.cli import run
from samkr_edge.errors import SamkrError

DATA = Path(__file__).parents[3] / "data"
VERSIONS = ("8", "10", "11")


def layers_text(version: str) -> str:
    return (DATA / f"engine_layers_trt{version}.json").read_text()


@pytest.fixture(scope="module")
def report() -> EngineReport:
    return inspect_layers(layers_text("8"), (DATA / "engine_profile_trt8.json").read_text())


def finding(report: EngineReport, kind: str, module: str) -> Finding:
    (found,) = [f for f in report.findings if f.kind == kind and module in f.modules]
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_all_formats_give_the_same_layers_and_findings(version: str, report: EngineReport) -> None:
    found = inspect_layers(layers_text(version))
    assert found.counts() == report.counts() == {"int8": 7, "fp16": 3, "fp32": 1}
    assert found.macs() == report.macs()
    assert len(found.conversions()) == 8
    assert [layer.module for layer in found.layers if layer.role != "conversion"] == [
        layer.module for layer in report.layers if layer.role != "conversion"
    ]
    without_profile = inspect_layers(layers_text("8")).findings
    assert found.findings == without_profile


def test_macs_are_those_of_the_convolutions(report: EngineReport) -> None:
    by_module = {layer.module: layer for layer in report.layers if layer.role == "conv"}
    assert by_module["backbone.conv1"].macs == 64 * 32 * 32 * 3 * 9
    grouped = by_module["offset_head.attention.depthwise"]
    assert grouped.macs == 32 * 32 * 32 * 4 * 9
    assert grouped.channels == (4, 4)


def test_time_is_split_by_precision_and_conversions(report: EngineReport) -> None:
    times = report.ms()
    assert times is not None
    profile = json.loads((DATA / "engine_profile_trt8.json").read_text())
    assert sum(times.values()) == pytest.approx(sum(record.get("averageMs", 0) for record in profile))
    assert times["conversions"] == pytest.approx(0.120)
    assert inspect_layers(layers_text("8")).ms() is None


def test_a_float_convolution_between_int8_ones_is_an_island(report: EngineReport) -> None:
    island = finding(report, "float-island", "backbone.layer1.0.conv2")
    assert island.ms == pytest.approx(0.090 + 0.020 + 0.020)  # with the conversions before and behind it
    assert report.findings[0] == island  # the costliest first


def test_sums_that_did_not_fuse_are_told_apart(report: EngineReport) -> None:
    residual = finding(report, "unfused-sum", "backbone.layer1.0.add")
    assert "op: residual_add" in residual.policy
    cross = finding(report, "unfused-sum", "backbone.stage2.0.sums.0")
    assert "cross-resolution" in cross.what
    assert cross.policy == ""  # INT8 already: no rule would change it


def test_a_convolution_too_small_for_int8_is_named_but_not_the_first_one(report: EngineReport) -> None:
    small = [f for f in report.findings if f.kind == "small-convolution"]
    assert [f.modules for f in small] == [("offset_head.attention.depthwise",)]


def test_conversions_are_blamed_on_the_float_layer_and_on_nothing_twice(report: EngineReport) -> None:
    blamed = [f.modules[0] for f in report.findings if f.kind == "conversions"]
    assert blamed == [
        "backbone.stage2.0.fuse_layers.0.1.2"
    ]  # the rest belongs to islands and sums, or is below 2 %
    assert "Resize" in report.findings[[f.kind for f in report.findings].index("conversions")].note


def test_an_output_layer_is_never_advised_to_be_int8() -> None:
    found = inspect_layers(layers_text("10"))
    assert finding(found, "conversions", "heatmap_head.final").policy == ""


def test_fp32_beside_int8_is_named_but_not_the_last_convolutions(report: EngineReport) -> None:
    assert not [f for f in report.findings if f.kind == "fp32-remainder"]  # of heatmap_head.final alone
    layers = json.loads(layers_text("11"))
    island = next(entry for entry in layers["Layers"] if "conv2/Conv" in entry["Metadata"])
    island["Weights"]["Type"] = "Float"
    remainder = finding(inspect_layers(json.dumps(layers)), "fp32-remainder", "backbone.layer1.0.conv2")
    assert remainder.modules == ("backbone.layer1.0.conv2",)
    assert remainder.policy == ""


def test_every_policy_line_is_one_the_quantizer_accepts(report: EngineReport) -> None:
    Rule = pytest.importorskip("calibration.policy").Rule
    rules = [rule for f in report.findings if f.policy for rule in yaml.safe_load(f.policy)]
    assert len(rules) >= 3
    for rule in rules:
        Rule.model_validate(rule)


@pytest.mark.parametrize(
    ("node", "module"),
    [
        ("/net/backbone/conv1/Conv", "backbone.conv1"),
        (
            "/net/backbone/stage2/stage2.0/branches.0/branches.0.0/conv1/Conv",
            "backbone.stage2.0.branches.0.0.conv1",
        ),
        ("/net/backbone/transition1.1/transition1.1.0/transition1.1.0.0/Conv", "backbone.transition1.1.0.0"),
        ("/net/backbone/stage3/stage3.0/sums.1/Add_1", "backbone.stage3.0.sums.1"),
        ("Conv_17", "Conv_17"),
    ],
)
def test_a_node_name_leads_to_its_module(node: str, module: str) -> None:
    assert module_of(node) == module


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("Thirty-two wide channel vectorized row major Int8 format.", "int8"),
        ("Channel major FP16 format where channel % 4 == 0", "fp16"),
        ("Row major linear FP32", "fp32"),
        ("Half", "fp16"),
        ("Float", "fp32"),
        ("BFloat16", "bf16"),
        ("UInt8", "uint8"),
        ("N/A due to dynamic shapes", "?"),
    ],
)
def test_types_are_read_from_sentences_and_words(text: str, dtype: str) -> None:
    assert dtype_of(text) == dtype


@pytest.mark.parametrize("text", ["", "[1, 2", '{"Bindings": []}', '{"Layers": [{"Nme": "x"}]}'])
def test_what_is_no_layer_list_is_refused(text: str) -> None:
    with pytest.raises(SamkrError) as caught:
        parse_layers(text)
    assert caught.value.code == "SE-B92"


@pytest.mark.parametrize("text", ['{"Layers": ["a", "b"], "Bindings": []}', '{"Layers": []}'])
def test_an_engine_without_details_says_how_to_get_them(text: str) -> None:
    with pytest.raises(SamkrError) as caught:
        parse_layers(text)
    assert caught.value.code == "SE-B93"
    assert "DETAILED" in str(caught.value)


def test_the_command_reads_the_files_beside_an_engine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = tmp_path / "x.engine"
    engine.write_bytes(b"")
    (tmp_path / "x.engine.layers.json").write_text(layers_text("11"))
    assert run(["inspect", str(engine), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["layers_by_precision"]["int8"] == 7
    assert run(["inspect", str(engine)]) == 0
    shown = capsys.readouterr().out
    assert "float-island" in shown
    assert "inspect x.engine --profile" in shown
    assert run(["inspect", str(engine), "--strict"]) == 6
    shown = capsys.readouterr().err
    assert "SE-Q84" in shown
    assert "backbone.layer1.0.conv2: 1 float convolution" in shown
    assert shown.splitlines()[-1].startswith(f"fix: samkr-edge inspect {engine}   # ")
    assert run(["inspect", str(tmp_path / "x.samkr"), "--profile"]) == 2
    assert "SE-U04" in capsys.readouterr().err


def test_a_profile_is_trtexecs_and_names_its_engine() -> None:
    runs = [{"conv": 1.0, "reformat": 0.5}, {"conv": 3.0}]
    records = profile_records(runs, "a" * 64)
    assert records[0]["count"] == 2
    assert records[1] == {"name": "conv", "timeMs": 4, "averageMs": 2, "medianMs": 2, "percentage": 4 / 0.045}
    text = json.dumps(records)
    assert parse_profile(text) == {"conv": 2.0, "reformat": 0.25}
    assert profiled_engine(text) == "a" * 64
    assert profiled_engine((DATA / "engine_profile_trt8.json").read_text()) is None


def test_time_of_layers_that_are_not_listed_is_told() -> None:
    assert inspect_layers(layers_text("8"), '{"elsewhere": 1.5}').unlisted_ms == 1.5


def test_an_engine_whose_layers_nobody_can_list_is_a_device_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samkr_edge.machine.driver._load_driver", lambda: (None, "no driver"))
    (tmp_path / "x.engine").write_bytes(b"")
    assert run(["inspect", str(tmp_path / "x.engine")]) == 7
    assert "trtexec --loadEngine" in capsys.readouterr().err
    assert run(["inspect", str(tmp_path / "no.engine")]) == 4
    assert "there is no engine" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", '{"Layers": 5}', '{"Layers": []}', '{"Layers": [{"Nme": "x"}]}'])
def test_a_damaged_list_beside_an_engine_is_named_with_the_command_that_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    engine = tmp_path / "x.engine"
    engine.write_bytes(b"")
    beside = tmp_path / "x.engine.layers.json"
    beside.write_text(text)
    assert run(["inspect", str(engine)]) == 5
    first, *_, fix = capsys.readouterr().err.splitlines()
    assert "x.engine.layers.json" in first
    assert fix == f"fix: on the device: trtexec --loadEngine={engine} --exportLayerInfo={beside}"


@pytest.mark.parametrize("text", ["{", "5", '[{"name": "x", "averageMs": "fast"}]'])
def test_a_damaged_profile_beside_an_engine_is_named_with_the_command_that_measures_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    engine = tmp_path / "x.engine"
    engine.write_bytes(b"")
    (tmp_path / "x.engine.layers.json").write_text(layers_text("11"))
    (tmp_path / "x.engine.profile.json").write_text(text)
    assert run(["inspect", str(engine)]) == 5
    first, *_, fix = capsys.readouterr().err.splitlines()
    assert "x.engine.profile.json" in first
    assert fix == f"fix: on the device: samkr-edge inspect {engine} --profile"


def test_layers_that_feed_themselves_or_repeat_a_name_do_not_hang() -> None:
    tensor = {"Name": "t", "Dimensions": [1, 32, 8, 8], "Format/Datatype": "Int8"}
    loop = {
        "Name": "r",
        "LayerType": "Reformat",
        "Inputs": [tensor],
        "Outputs": [{**tensor, "Format/Datatype": "Half"}],
    }
    assert inspect_layers(json.dumps({"Layers": [loop, loop]})).findings == ()
