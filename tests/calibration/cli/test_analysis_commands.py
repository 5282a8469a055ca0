"""`quantize`, `sensitivity`, `search` and `ledger` from the command line, on a network that has learned a little."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

import calibration.analysis.scoring
import calibration.analysis.search
import calibration.analysis.start
import calibration.analysis.trials as trials
from calibration.policy import load_policy
from calibration.ptq import enabled_quantizers
from samkr_edge.cli import run
from samkr_edge.files.artefact import sha256_of
from training.checkpoint import load_checkpoint, network_of
from training.export import export_onnx
from training.without_attention import without_attention

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def fewer_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration.analysis.scoring, "ROUNDS", 40)


@pytest.fixture(scope="module")
def ptq(fp32: Path, people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ptq") / "ptq.pt"
    where = ["--data", str(people), "-o", str(out)]
    assert run(["quantize", str(fp32), *where, "--images", "16", "--threads", "1"]) == 0
    return out


def output(arguments: list[str], capsys: Captured, code: int = 0) -> dict[str, object]:
    capsys.readouterr()
    assert run([*arguments, "--json"]) == code
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_a_dry_run_counts_rules_and_work_and_writes_nothing(
    fp32: Path, tmp_path: Path, capsys: Captured
) -> None:
    found = output(["quantize", str(fp32), "--dry-run", "-o", str(tmp_path / "x.pt")], capsys)
    rules = found["rules"]
    assert isinstance(rules, list)
    assert sum(rule["modules"] for rule in rules) == len(found["assignments"])  # type: ignore[arg-type]
    assert sum(rule["macs_share"] for rule in rules) == pytest.approx(1.0)
    in_int8 = sum(rule["macs_share"] for rule in rules if rule["precision"] == "int8")
    assert found["int8_macs_share"] == pytest.approx(in_int8)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_calibration_image_is_named_and_nothing_is_written(
    fp32: Path, people: Path, tmp_path: Path, capsys: Captured
) -> None:
    copy = tmp_path / "people"
    shutil.copytree(people, copy)
    images = sorted((copy / "images" / "train2017").iterdir())
    images[0].unlink()
    command = ["quantize", str(fp32), "--data", str(copy), "-o", str(tmp_path / "ptq.pt"), "--images", "24"]
    assert run(command) == 3
    assert images[0].name in capsys.readouterr().err
    images[1].write_bytes(images[1].read_bytes()[:200])
    images[0].write_bytes(images[2].read_bytes())
    assert run(command) == 3
    assert images[1].name in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["people"]


def test_an_unknown_calibrator_is_a_usage_error(fp32: Path, people: Path, tmp_path: Path) -> None:
    command = [
        "quantize",
        str(fp32),
        "--data",
        str(people),
        "-o",
        str(tmp_path / "x.pt"),
        "--calibrator",
        "mx",
    ]
    assert run(command) == 2


@pytest.mark.parametrize("command", ["sensitivity", "search", "quantize"])
def test_a_quantized_checkpoint_is_refused(command: str, ptq: Path, people: Path, tmp_path: Path) -> None:
    assert run([command, str(ptq), "--data", str(people), "--out", str(tmp_path / "x.yaml")]) == 4


def test_sensitivity_has_a_row_per_group_and_goes_on_where_it_was(
    fp32: Path, people: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "s"
    command = [
        "sensitivity",
        str(fp32),
        "--data",
        str(people),
        "--out",
        str(out),
        "--bits",
        "3",
        "--limit",
        "3",
    ]
    command += ["--images", "8", "--threads", "1"]
    # A few groups of each kind; that every module has one is tested elsewhere.
    some = {"stem", "stage2 stride 4", "stage4 fuse", "heatmap final", "attention", "offset transition"}
    whole = calibration.analysis.start.group_modules
    monkeypatch.setattr(
        calibration.analysis.start,
        "group_modules",
        lambda names: {group: found for group, found in whole(names).items() if group.name in some},
    )
    put, finished = trials.TrialStore.put, []

    def killing(self: trials.TrialStore, key: str, what: str, trial: trials.Trial) -> None:
        if len(finished) == 4:
            raise KeyboardInterrupt
        finished.append(what)
        put(self, key, what, trial)

    with monkeypatch.context() as patch:
        patch.setattr(trials.TrialStore, "put", killing)
        assert run(command) == 130
    capsys.readouterr()
    found = output(command, capsys)
    groups = found["groups"]
    assert isinstance(groups, list)
    assert {group["group"] for group in groups} == some
    stored = json.loads((out / "trials.json").read_text())["trials"].values()
    names = [entry["what"] for entry in stored]
    assert names[:4] == finished
    assert len(names) == len(set(names))
    # Whatever is float in the policy has nothing to restore, and everything in INT8 changes the maps.
    assert all((g["restored"] is None) == (g["modules_in_policy"] == 0) for g in groups)
    assert {g["group"] for g in groups if g["restored"] is None} == {"heatmap final", "attention"}
    assert all(g["alone"]["heatmap_error"] + g["alone"]["offset_error"] > 0 for g in groups)
    # The whole attention left out moves offsets alone, by about the mean of its map: 1 in 16 x 16.
    left_out = found["without_attention"]
    assert isinstance(left_out, dict)
    assert left_out["heatmap_error"] == 0
    assert 1e-5 < left_out["offset_error"] < 0.05
    assert names.count("without attention") == 1
    root = ElementTree.parse(out / "sensitivity.svg").getroot()
    labels = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {*(group["group"] for group in groups), "without attention"} <= set(labels)
    assert "href" not in (out / "sensitivity.svg").read_text()
    # Finished: nothing is measured again, and the answer is the same.
    monkeypatch.setattr(trials.Trials, "_run", lambda *_: pytest.fail("measured again"))
    assert output(command, capsys) == found


def test_trials_of_other_inputs_are_not_taken(
    fp32: Path, people: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["search", str(fp32), "--data", str(people), "-o", str(tmp_path / "found.yaml"), "--limit", "3"]
    command += ["--images", "8", "--max-drop", "45", "--threads", "1"]
    # This network finds hardly anyone, so that a budget in AP says nothing about it.
    assert run([*command, "--bits", "8"]) == 6
    assert "SE-Q83" in capsys.readouterr().err
    monkeypatch.setattr(trials.Trial, "baseline_ap", 50.0)
    scored = SimpleNamespace(ap=40.0, followed=None)
    monkeypatch.setattr(calibration.analysis.start.Analysis, "score", lambda *_: scored)
    assert run([*command, "--bits", "8", "--min-int8", "99"]) == 6
    assert "SE-Q82" in capsys.readouterr().err
    for bits in ("8", "3"):
        assert run([*command, "--bits", bits]) == 0
    kept = json.loads((tmp_path / "trials.json").read_text())["trials"].values()
    assert [entry["what"] for entry in kept] == ["policy default", "policy default"]
    assert load_policy(str(tmp_path / "found.yaml")).bits == 3


def test_an_impossible_budget_ends_with_6_and_the_best_policy(
    fp32: Path, people: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "found.yaml"
    command = ["search", str(fp32), "--data", str(people), "-o", str(out), "--limit", "3", "--bits", "2"]
    command += ["--images", "8", "--max-drop", "0", "--threads", "1"]
    # This network finds hardly anyone, so that no policy loses AP: the search itself is made to miss the budget.
    monkeypatch.setattr(trials.Trial, "baseline_ap", 50.0)
    whole = calibration.analysis.search.search

    def missing(*arguments: Any) -> calibration.analysis.search.SearchResult:
        found = whole(*arguments)
        return replace(found, best=replace(found.best, within=False))

    monkeypatch.setattr(calibration.analysis.search, "search", missing)
    code = run(command)
    shown = capsys.readouterr().err
    assert code == 6, shown
    assert "SE-Q82" in shown
    assert "does not hold" in out.read_text()


def test_a_ledger_follows_each_form_from_its_parent(
    fp32: Path, ptq: Path, people: Path, tmp_path: Path, capsys: Captured
) -> None:
    onnx, built = tmp_path / "ptq.onnx", tmp_path / "ptq.cpu.onnx"
    assert run(["export", str(ptq), "-o", str(onnx)]) == 0
    assert run(["build", str(onnx), "--target", "cpu", "-o", str(built)]) == 0
    kept = tmp_path / "ledger.json"
    where = ["--data", str(people), "--limit", "3", "-o", str(kept)]
    found = output(["ledger", *map(str, (fp32, ptq, onnx, built)), *where], capsys)
    assert json.loads(kept.read_text()) == found
    # What a kept run needs to be trusted and repeated, and nothing private.
    assert set(found) >= {"schema_version", "time", "version", "environment", "annotations_sha256"}
    assert (found["data"], found["images"], len(str(found["images_digest"]))) == (people.name, 3, 64)
    assert str(tmp_path) not in kept.read_text()
    stages = found["stages"]
    assert isinstance(stages, list)
    forms = ["torch FP32", "torch FP32 without attention", "torch PTQ", "ONNX PTQ", "built PTQ"]
    assert [s["form"] for s in stages] == forms
    assert [s["parent"] for s in stages] == [None, "final.pt", "final.pt", "ptq.pt", "ptq.onnx"]
    assert [s["beside"] for s in stages] == [False, True, False, False, False]
    assert stages[1]["heatmap_error"] == 0
    assert stages[4]["sha256"] == sha256_of(built)
    assert stages[0]["difference"] is None
    for stage in stages[1:]:
        assert 0 < stage["offset_error"] < 0.5
        assert len(stage["difference"]["oks"]) == 3
    assert "accuracy" in str(found["verdict"])


def test_a_quantized_network_without_its_attention_is_exported(ptq: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(ptq)
    network = network_of(checkpoint)
    left = without_attention(network)
    bits = network.state_dict()
    assert all(torch.equal(bits[name], tensor) for name, tensor in left.state_dict().items())
    card, agreement = export_onnx(left, checkpoint.card, tmp_path / "m.onnx", decode="graph")
    assert agreement.holds
    assert card.precision == "int8"
    assert enabled_quantizers(left) == [
        (name, left.get_submodule(name)) for name, _ in enabled_quantizers(network) if "attention" not in name
    ]


def test_a_ledger_that_cannot_be_written_is_refused_before_the_work(
    fp32: Path, ptq: Path, people: Path, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "ledger.json"
    assert run(["ledger", str(fp32), str(ptq), "--data", str(people), "-o", str(out)]) == 3
    shown = capsys.readouterr().err
    assert "SE-D01" in shown
    assert "following" not in shown


def test_a_ledger_of_two_networks_is_refused(
    fp32: Path, people: Path, tmp_path: Path, capsys: Captured
) -> None:
    from training.checkpoint import save_checkpoint, untrained_checkpoint

    other = tmp_path / "tiny.pt"
    save_checkpoint(other, untrained_checkpoint("samkr_tiny"))
    assert run(["ledger", str(fp32), str(other), "--data", str(people)]) == 4
    assert "SE-A81" in capsys.readouterr().err
    assert load_checkpoint(other).card.model == "samkr_tiny"


def test_a_ledger_of_networks_of_different_keypoints_is_refused(
    fp32: Path, people: Path, tmp_path: Path, capsys: Captured
) -> None:
    from training.checkpoint import load_checkpoint, save_checkpoint

    source = load_checkpoint(fp32)
    mirrored = replace(source.card.skeleton, keypoints=source.card.skeleton.keypoints[::-1])
    save_checkpoint(tmp_path / "other.pt", replace(source, card=replace(source.card, skeleton=mirrored)))
    assert run(["ledger", str(fp32), str(tmp_path / "other.pt"), "--data", str(people)]) == 3
    assert "SE-D26" in capsys.readouterr().err


def test_a_ledger_does_not_follow_one_file_twice(
    fp32: Path, people: Path, tmp_path: Path, capsys: Captured
) -> None:
    link = tmp_path / "link.pt"
    link.symlink_to(fp32)
    assert run(["ledger", str(fp32), str(link), "--data", str(people)]) == 2
    assert "are one file" in capsys.readouterr().err
