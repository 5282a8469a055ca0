"""Building for the CPU: what comes out computes what went in, and what cannot be built leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from samkr_edge.builder.cpu import adaptive_places
from samkr_edge.builder.cpu import build as builder
from samkr_edge.builder.cpu.build import build_cpu
from samkr_edge.builder.inspect.lint import lint
from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from samkr_edge.onnx_graph import onnx_reading
from samkr_edge.onnx_graph.graph import Graph
from samkr_edge.passport import passport_path
from samkr_edge.pose_model import load_model
from samkr_edge.preflight import preflight


@pytest.fixture(scope="module")
def built(int8_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_cpu(int8_onnx, tmp_path_factory.mktemp("built") / "ptq.cpu.onnx").path


def test_a_built_int8_model_computes_what_its_source_does_in_a_third_of_the_bytes(
    int8_onnx: Path, built: Path
) -> None:
    image = np.random.default_rng(5).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    for expected, found in zip(
        load_model(int8_onnx).runner.run(image), load_model(built).runner.run(image), strict=True
    ):
        assert expected.shape == found.shape
        assert np.linalg.norm(expected - found) < 0.1 * np.linalg.norm(expected)
    assert built.stat().st_size < 0.4 * int8_onnx.stat().st_size


def test_a_built_float_model_computes_the_same_numbers(float_onnx: Path, tmp_path: Path) -> None:
    result = build_cpu(float_onnx, tmp_path / "fp32.cpu.onnx")
    assert max(result.agreement.errors) < 1e-5
    assert result.passport.settings["folded_weights"] == 0


def test_the_passport_says_from_what_for_what_and_how(int8_onnx: Path, built: Path) -> None:
    passport = preflight(built)
    assert passport.target == "cpu"
    assert passport.source == int8_onnx.name
    assert passport.card == load_model(int8_onnx).card.to_dict()
    assert passport.settings["activations"] == "unsigned"
    assert passport.settings["absorbed_relus"] > 0
    assert set(passport.versions) >= {"onnxruntime", "samkr_edge"}


def test_on_arm_the_signed_graph_stays_as_exported(
    int8_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder.platform, "machine", lambda: "aarch64")
    result = build_cpu(int8_onnx, tmp_path / "arm.cpu.onnx")
    assert result.passport.settings == {"retargeted": False, "activations": "signed, as exported"}
    assert onnx.load(result.path).graph == onnx.load(int8_onnx).graph


@pytest.fixture(scope="module")
def without_attention(float_network: Any, exported: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network without attention, with decoding in the graph."""
    from training.without_attention import without_attention

    path = tmp_path_factory.mktemp("plain") / "plain.onnx"
    exported.export(without_attention(float_network), path, decode="graph")
    return path


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_offsets_that_a_graph_reads_at_centres_are_computed_there_alone(
    without_attention: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str
) -> None:
    monkeypatch.setattr(builder.platform, "machine", lambda: machine)
    result = build_cpu(without_attention, tmp_path / "plain.cpu.onnx")
    assert result.passport.settings["blocks_at_centers"] == 1
    assert result.agreement.holds
    image = np.random.default_rng(5).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    for expected, found in zip(
        load_model(without_attention).runner.run(image),
        load_model(result.path).runner.run(image),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_inspect_finds_nothing_in_an_int8_build_with_offsets_at_centres_alone(
    int8_network: Any, exported: Any, tmp_path: Path
) -> None:
    from training.without_attention import without_attention

    exported.export(without_attention(int8_network), tmp_path / "a.onnx", precision="int8", decode="graph")
    result = build_cpu(tmp_path / "a.onnx", tmp_path / "a.cpu.onnx")
    assert result.passport.settings["blocks_at_centers"] == 1
    assert result.passport.settings["absorbed_relus"] > 0
    assert lint(Graph(onnx.load(result.path)), built=True).findings == ()


def test_offsets_at_centres_that_are_none_of_the_maps_are_found(
    without_attention: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptive_places, "_TAPS_Y", adaptive_places._TAPS_X)
    assert refused(without_attention, tmp_path / "plain.cpu.onnx") == "SE-B53"


def refused(source: Path, out: Path) -> str:
    with pytest.raises(SamkrError) as caught:
        build_cpu(source, out)
    assert not out.is_file()
    assert not passport_path(out).is_file()
    assert not list(out.parent.glob(".*.part*")) if out.parent.is_dir() else True
    return caught.value.code


@pytest.mark.parametrize("keep", [0, 100, -1000])
def test_a_cut_off_onnx_is_refused(float_onnx: Path, tmp_path: Path, keep: int) -> None:
    (tmp_path / "cut.onnx").write_bytes(float_onnx.read_bytes()[:keep])
    assert refused(tmp_path / "cut.onnx", tmp_path / "out.cpu.onnx") == "SE-B87"


def test_a_missing_onnx_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.onnx", tmp_path / "out.cpu.onnx") == "SE-A23"


def test_an_onnx_of_somebody_else_is_refused(float_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(float_onnx)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    assert refused(tmp_path / "other.onnx", tmp_path / "out.cpu.onnx") == "SE-A21"


def test_a_card_that_is_not_whole_is_refused(float_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(float_onnx)
    model.metadata_props[0].value = '{"schema_version": 1}'
    onnx.save(model, tmp_path / "other.onnx")
    assert refused(tmp_path / "other.onnx", tmp_path / "out.cpu.onnx") == "SE-A21"


def test_what_is_built_already_is_refused_with_or_without_its_passport(built: Path, tmp_path: Path) -> None:
    assert refused(built, tmp_path / "again.cpu.onnx") == "SE-B52"
    (tmp_path / "stripped.onnx").write_bytes(built.read_bytes())
    assert refused(tmp_path / "stripped.onnx", tmp_path / "again.cpu.onnx") == "SE-B52"


def test_a_place_that_cannot_be_written_is_named(float_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert refused(float_onnx, tmp_path / "file" / "out.cpu.onnx") == "SE-D01"


def test_a_pass_that_breaks_the_graph_is_found_before_anything_is_written(
    float_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: Any, *_: str) -> tuple[Any, dict[str, int]]:
        for node in model.graph.node:
            if node.op_type == "Relu":
                node.op_type = "Neg"
        return model, {}

    monkeypatch.setattr("samkr_edge.builder.cpu.retarget.retarget", broken)
    assert refused(float_onnx, tmp_path / "out.cpu.onnx") == "SE-B53"


def test_the_last_good_build_survives_a_failed_one(built: Path, float_onnx: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.cpu.onnx"
    out.write_bytes(built.read_bytes())
    (tmp_path / "cut.onnx").write_bytes(float_onnx.read_bytes()[:1000])
    with pytest.raises(SamkrError):
        build_cpu(tmp_path / "cut.onnx", out)
    assert out.read_bytes() == built.read_bytes()


def test_the_command_prints_one_json_object(
    int8_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "q.cpu.onnx"
    assert run(["build", str(int8_onnx), "--target", "cpu", "-o", str(out), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["schema_version"] == 1
    assert shown["path"] == str(out)
    assert shown["agreement"]["holds"]
    assert shown["passport"]["sha256"] == preflight(out).sha256


def test_the_source_is_never_replaced(float_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = float_onnx.read_bytes()
    assert run(["build", str(float_onnx), "--target", "cpu", "-o", str(float_onnx)]) == 2
    assert "SE-U51" in capsys.readouterr().err
    assert float_onnx.read_bytes() == before


@pytest.mark.parametrize(
    "options", [["--precision", "best"], ["--workspace", "64", "--level", "5"], ["-o", "pose.engine"]]
)
def test_what_only_tensorrt_has_is_not_ignored(
    float_onnx: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["build", str(float_onnx), "--target", "cpu", *options]) == 2
    shown = capsys.readouterr().err
    assert ("SE-U07" if options[0] == "-o" else "SE-U83") in shown
    assert options[0] in shown
    assert not Path("pose.engine").exists()


def test_a_dry_run_writes_nothing(
    float_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.cpu.onnx"
    assert run(["build", str(float_onnx), "--target", "cpu", "-o", str(out), "--dry-run"]) == 0
    assert "x.cpu.onnx" in capsys.readouterr().out.replace("\n", "")
    assert not list(tmp_path.iterdir())


def test_a_mistyped_target_names_the_nearest(float_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["build", str(float_onnx), "--target", "jetson-orin-nan"]) == 2
    assert "jetson-orin-nano" in capsys.readouterr().err


def test_a_device_that_cannot_run_int8_is_refused_with_a_reason(
    int8_onnx: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["build", str(int8_onnx), "--target", "jetson-nano"]) == 7
    shown = capsys.readouterr().err
    assert "SE-V88" in shown
    assert "--precision fp16" in shown


def test_fp16_beside_int8_is_refused_as_what_it_is(int8_onnx: Path, tmp_path: Path) -> None:
    """Made for strongly typed TensorRT: its quantizers read FP16, which no pass for this CPU expects."""
    model = onnx.load(int8_onnx)
    (entry,) = (entry for entry in model.metadata_props if entry.key == "samkr_edge")
    card = json.loads(entry.value)
    card["provenance"]["floats"] = "fp16"
    entry.value = json.dumps(card)
    onnx.save(model, tmp_path / "mixed.onnx")
    with pytest.raises(SamkrError) as raised:
        build_cpu(tmp_path / "mixed.onnx", tmp_path / "mixed.cpu.onnx")
    assert raised.value.code == "SE-B54"
    assert "mixes INT8 with FP16" in raised.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["mixed.onnx"]


def test_no_graph_is_decoded_twice(int8_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, real = [], onnx_reading._decode
    monkeypatch.setattr(onnx_reading, "_decode", lambda data: reads.append(bytes(data)) or real(data))
    built = build_cpu(int8_onnx, tmp_path / "q.cpu.onnx").path
    assert reads == [int8_onnx.read_bytes(), built.read_bytes()]
