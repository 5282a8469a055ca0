"""A sweep that is killed, or whose disk is full, loses nothing that was finished and repeats nothing."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from benchmarks.cli import sweep as sweep_cli
from benchmarks.measure.sensors import MachineState, Sensors
from benchmarks.schema import read_results
from benchmarks.sweep import models as sweep_models
from benchmarks.sweep.index import CellOutcome, cell_files
from benchmarks.sweep.key import Pictures, cell_key, pictures_of
from benchmarks.sweep.models import make_models
from benchmarks.sweep.run import run_sweep
from benchmarks.sweep.suite import SUITES, Cell, Suite, cells_of, read_suite
from samkr_edge.cli import run
from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.dataset.trained_on import TrainedOn
from samkr_edge.errors import SamkrError
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.skeleton import COCO17

Pair = tuple[Path, Path]
ModelMaker = Callable[..., Path]


@contextmanager
def quietly(*_: object, **__: object) -> Iterator[Callable[..., Any]]:
    yield lambda *_, **__: None


progress: Callable[..., AbstractContextManager[Callable[..., Any]]] = quietly


def device(mode: str | None = None) -> Sensors:
    modes = (("MAXN", 0), ("15W", 1))
    return Sensors("jetson", lambda: MachineState(2600.0, 50.0), lambda: mode, modes=modes)


@pytest.fixture
def suite(pair: Pair) -> Suite:
    """Four quick cells: the two models alone and together, on one and two threads."""
    entries = [{"name": "both", "files": pair}, {"name": "one", "files": pair[:1]}]
    return Suite.model_validate(
        {
            "name": "tiny",
            "why": "a test",
            "models": entries,
            "targets": ("as-is",),
            "threads": (1, 2),
            "seconds": 0.05,
            "memory": False,
        }
    )


def swept(suite: Suite, out: Path, **more: Any) -> list[CellOutcome]:
    return run_sweep(suite, out, progress, **{"sensors": device(), **more})


def states(outcomes: list[CellOutcome]) -> list[str]:
    return [outcome.state for outcome in outcomes]


def test_every_combination_is_a_cell_and_its_precisions_are_interleaved(suite: Suite, tmp_path: Path) -> None:
    outcomes = swept(suite, tmp_path)
    assert states(outcomes) == ["finished"] * 4
    first = json.loads(outcomes[0].results.read_text())  # type: ignore[union-attr]
    assert first["label"] == "both, as-is"
    assert [model["precision"] for model in first["models"]] == ["fp32", "int8"]
    assert [json.loads(file.read_text())["settings"]["threads"] for file in cell_files(tmp_path)] == [
        1,
        2,
        1,
        2,
    ]


def test_a_sweep_that_is_killed_goes_on_with_the_first_unfinished_cell(suite: Suite, tmp_path: Path) -> None:
    slow = suite.model_copy(update={"seconds": 0.6})
    file, out = tmp_path / "suite.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(slow.model_dump(mode="json")))
    command = [sys.executable, "-m", "samkr_edge", "sweep", str(file), "--out", str(out)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while child.poll() is None and not list(out.glob("cells/[!.]*.json")):
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.glob("cells/[!.]*.json")}
    assert 1 <= len(kept) < 4
    outcomes = swept(slow, out)
    assert states(outcomes).count("reused") == len(kept)
    assert states(outcomes).count("finished") == 4 - len(kept)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in kept} == kept
    assert len(cell_files(out)) == 4
    assert states(swept(slow, out)) == ["reused"] * 4


def test_a_full_disk_stops_the_sweep_and_keeps_the_finished_cells(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, replaced = os.replace, []

    def full(source: Any, target: Any) -> None:
        if Path(target).parent.name == "cells" and len(replaced) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replaced.extend([target] if Path(target).parent.name == "cells" else [])
        rename(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SamkrError) as caught:
        swept(suite, tmp_path)
    monkeypatch.undo()
    assert (caught.value.code, caught.value.exit_code) == ("SE-D65", 3)
    assert "cell 3 of 4" in caught.value.message
    assert "No space left" in caught.value.facts["reason"]
    assert caught.value.facts["kept"].startswith("2 finished cells")
    assert "--resume" in str(caught.value.fix)
    assert len(list(tmp_path.glob("cells/*"))) == 2
    assert states(swept(suite, tmp_path)) == ["reused", "reused", "finished", "finished"]


def built(suite: Suite, folder: Path, target: str = "cpu") -> Path:
    """A suite file whose two cells build their model first."""
    file = folder / "suite.yaml"
    changed = suite.model_copy(update={"models": suite.models[1:], "targets": (target,)})
    file.write_text(yaml.safe_dump(changed.model_dump(mode="json")))
    return file


def test_a_disk_that_is_full_when_a_model_is_made_stops_the_sweep_as_well(
    suite: Suite, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "models").write_text("no folder, so nothing can be written there")
    assert run(["sweep", str(built(suite, tmp_path)), "--out", str(out), "--json"]) == 3
    shown = capfd.readouterr()
    error = json.loads(shown.out)["error"]
    assert error["code"] == "SE-D65"
    assert "cell 1 of 2" in error["message"]
    assert "SE-D01" in shown.err


def test_the_error_of_a_command_is_that_of_its_cells(
    suite: Suite, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = built(suite, tmp_path, target="a-toaster")
    assert run(["sweep", str(file), "--out", str(tmp_path / "out"), "--json"]) == 2
    errors = [cell["error"] for cell in json.loads(capfd.readouterr().out)["cells"]]
    assert [error["code"][:4] for error in errors] == ["SE-U", "SE-U"]
    assert "a-toaster" in errors[0]["message"]
    assert "samkr-edge build" in errors[0]["facts"]["in"]


def test_a_command_that_is_killed_is_an_error_of_the_build(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    outcome = swept(read_suite(str(built(suite, tmp_path))), tmp_path / "out")[0]
    assert outcome.error is not None
    assert outcome.error.code == "SE-B65"
    assert "exit code 1" in outcome.error.message


def test_a_changed_model_or_setting_is_measured_anew_and_nothing_else(
    suite: Suite, pair: Pair, dot_model: ModelMaker, tmp_path: Path
) -> None:
    swept(suite, tmp_path)
    dot_model(pair[1], error=1.0)
    assert states(swept(suite, tmp_path)) == ["finished", "finished", "reused", "reused"]
    small = suite.model_copy(update={"models": suite.models[1:], "threads": (1,)})
    assert states(swept(small, tmp_path)) == ["reused"]
    assert states(swept(small.model_copy(update={"seconds": 0.06}), tmp_path)) == ["finished"]
    assert states(swept(small, tmp_path, resume=False)) == ["finished"]


def test_a_damaged_cell_is_measured_again(suite: Suite, tmp_path: Path) -> None:
    outcomes = swept(suite, tmp_path)
    path = outcomes[1].results
    assert path is not None
    path.write_text(path.read_text()[:100])
    assert states(swept(suite, tmp_path)) == ["reused", "finished", "reused", "reused"]


def test_a_cell_that_fails_is_recorded_and_the_others_are_measured(
    suite: Suite, pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair[1].write_bytes(b"broken")
    file = tmp_path / "suite.yaml"
    file.write_text(yaml.safe_dump(suite.model_copy(update={"threads": (1,)}).model_dump(mode="json")))
    assert run(["sweep", str(file), "--out", str(tmp_path / "out"), "--json"]) == 5
    shown = capsys.readouterr()
    cells = json.loads(shown.out)["cells"]
    assert [cell["state"] for cell in cells] == ["failed", "finished"]
    assert cells[0]["error"]["code"] == "SE-B87"
    assert "SE-B87" in shown.err


def test_models_are_not_scored_on_what_they_were_trained_on_unless_the_suite_says_so(
    suite: Suite, dots: Path, dot_model: ModelMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    val = open_dataset(dots)
    record = TrainedOn.of(val, val.images).to_dict()
    card = ModelCard("samkr_tiny", COCO17, (128, 128)).with_provenance(training=record)
    entry = {"name": "own", "files": (dot_model(tmp_path / "own.onnx", card=card),), "data": dots}
    alone = Suite.model_validate({**suite.model_dump(), "models": [entry], "threads": (1,), "limit": 2})
    (refused,) = swept(alone, tmp_path / "out")
    assert refused.error is not None
    assert refused.error.code == "SE-D45"
    (measured,) = swept(alone.model_copy(update={"anyway": True}), tmp_path / "out")
    results = read_results(measured.results)  # type: ignore[arg-type]
    assert [row.trained_on for row in results.models] == [True]
    assert results.ap_label == "val, deployment, train-fit"
    assert any(note.startswith("train-fit AP: samkr_tiny FP32 was trained on val") for note in results.notes)
    Console(width=200).print(sweep_cli._table("", [measured], tmp_path))
    assert "100.0 train-fit" in capsys.readouterr().out


def test_a_sweep_with_a_failed_cell_prints_one_object_that_says_so(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    (tmp_path / "cut.onnx").write_bytes(pair[0].read_bytes()[:100])
    entry = f"{{name: a, files: [{tmp_path}/cut.onnx]}}"
    file.write_text(
        f"name: mine\nwhy: to see a failure\nmemory: false\ntargets: [as-is]\nmodels: [{entry}]\n"
    )
    assert run(["sweep", str(file), "--out", str(tmp_path / "out"), "--json"]) == 5
    printed = json.loads(capsys.readouterr().out)
    assert printed["cells"][0]["state"] == "failed"
    assert printed["error"]["code"] == printed["cells"][0]["error"]["code"]


def test_missing_data_is_skipped_and_another_power_mode_waits(suite: Suite, tmp_path: Path) -> None:
    absent = suite.models[0].model_copy(update={"data": tmp_path / "coco"})
    modes = suite.model_copy(
        update={"models": (absent, suite.models[1]), "threads": (1,), "power_modes": ("15W", "MAXN")}
    )
    outcomes = swept(modes, tmp_path / "out", sensors=device("15W (id 1), clocks locked"))
    assert states(outcomes) == ["skipped", "finished", "skipped", "waiting"]
    assert outcomes[3].note == "the power mode is 15W (id 1), clocks locked, not MAXN: sudo nvpmodel -m 0"
    outcomes = swept(modes, tmp_path / "out", sensors=device("MAXN (id 0), clocks locked"))
    assert states(outcomes) == ["skipped", "reused", "skipped", "finished"]


def test_all_modes_are_those_of_the_board(suite: Suite, tmp_path: Path) -> None:
    every = suite.model_copy(update={"power_modes": ("all",)})
    outcomes = swept(every, tmp_path, dry_run=True, sensors=device("MAXN (id 0)"))
    assert [(o.cell.power_mode, o.state) for o in outcomes[::4]] == [("MAXN", "to do"), ("15W", "waiting")]
    desktop = Sensors("cpu", lambda: MachineState())
    assert states(swept(every, tmp_path, dry_run=True, sensors=desktop)) == ["to do"] * 4
    assert not (tmp_path / "sweep.json").exists()


def test_ctrl_c_keeps_what_is_finished(suite: Suite, tmp_path: Path) -> None:
    def stop(outcome: CellOutcome, number: int, count: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        swept(suite, tmp_path, finished=stop)
    assert len(cell_files(tmp_path)) == 2
    assert states(swept(suite, tmp_path)) == ["reused", "reused", "finished", "finished"]


def key(suite: Suite, cell: Cell) -> str:
    entry = cell.entry
    shown = pictures_of(entry.data, entry.split or suite.split, suite.limit, entry.calibrates)
    return cell_key(suite, cell, shown)


def test_the_key_holds_images_axes_and_what_is_measured(suite: Suite, dots: Path) -> None:
    one, two = cells_of(suite)[:2]
    scored = replace(one, entry=one.entry.model_copy(update={"data": dots}))
    keys = {key(suite, cell) for cell in (one, two, scored)}
    keys.add(key(suite.model_copy(update={"memory": True}), one))
    assert len(keys) == 4
    assert key(suite, one) == key(suite, one)


@pytest.mark.parametrize(("split", "made_here"), [("val", False), ("train", True)])
def test_a_picture_changed_in_place_is_another_key(
    suite: Suite, dots: Path, tmp_path: Path, split: str, made_here: bool
) -> None:
    data = tmp_path / "data"
    shutil.copytree(dots, data)
    shutil.copytree(data / "images" / "val2017", data / "images" / "train2017")
    truth = data / "annotations" / "person_keypoints_val2017.json"
    shutil.copy(truth, truth.with_name("person_keypoints_train2017.json"))
    entry = suite.models[0].model_copy(update={"data": data})
    if made_here:
        entry = entry.model_copy(update={"files": (), "network": "samkr_tiny"})
    cell = replace(cells_of(suite)[0], entry=entry)
    before = key(suite, cell)
    assert key(suite, cell) == before
    picture = data / "images" / f"{split}2017" / "003.png"
    picture.write_bytes(picture.read_bytes()[::-1])
    assert key(suite, cell) != before


def test_models_are_made_by_our_commands_once(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command lines are right; what they do is tested where they live."""
    commands: list[list[str]] = []

    class Child:
        def __init__(self, command: list[str], **_: Any) -> None:
            commands.append(command[3:])
            output = Path(command[command.index("-o") + 1])
            output.parent.mkdir(exist_ok=True)
            output.write_bytes(b"made")
            self.returncode = 0

        def communicate(self) -> tuple[bytes, None]:
            return b"{}", None

    monkeypatch.setattr(subprocess, "Popen", Child)
    made = suite.model_copy(
        update={
            "models": (suite.models[0].model_copy(update={"files": (), "network": "samkr_tiny"}),),
            "targets": ("cpu",),
        }
    )
    cell = replace(cells_of(made)[0], size="128x96")
    models = make_models(made, cell, tmp_path, Pictures())
    assert [path.name for path in models] == ["both-fp32-128x96.cpu.onnx", "both-int8-128x96.cpu.onnx"]
    assert [command[0] for command in commands] == ["export", "build", "quantize", "export", "build"]
    assert commands[2][:5] == ["quantize", "samkr_tiny", "--untrained", "--random-images", "8"]
    assert "128x96" in commands[3]
    make_models(made, cell, tmp_path, Pictures())
    assert len(commands) == 5
    make_models(made, cell, tmp_path, Pictures(calibrated="others"))
    assert [command[0] for command in commands[5:]] == ["quantize"]  # its output is the same: nothing follows
    monkeypatch.setattr(sweep_models, "here", lambda: {"tensorrt": "another"})
    make_models(made, cell, tmp_path, Pictures())
    assert len(commands) == 11


def test_files_of_one_name_are_not_built_over_one_another(
    suite: Suite, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    monkeypatch.setattr(sweep_models, "run_command", lambda words, output, origin: made.append(output))
    twins = [tmp_path / name / "model.onnx" for name in ("a", "b")]
    for twin, source in zip(twins, pair, strict=True):
        twin.parent.mkdir()
        shutil.copy(source, twin)
    entry = suite.models[0].model_copy(update={"files": tuple(twins)})
    cell = replace(cells_of(suite)[0], entry=entry, target="cpu")
    assert make_models(suite, cell, tmp_path / "models", Pictures()) == made
    assert len(set(made)) == 2


def test_a_sweep_that_measured_nothing_is_no_success(
    suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = suite.models[0].model_copy(update={"files": (tmp_path / "gone.onnx",)})
    file = tmp_path / "suite.yaml"
    file.write_text(yaml.safe_dump(suite.model_copy(update={"models": (gone,)}).model_dump(mode="json")))
    assert run(["sweep", str(file), "--out", str(tmp_path / "out"), "--json"]) == 3
    captured = capsys.readouterr()
    assert [cell["state"] for cell in json.loads(captured.out)["cells"]] == ["skipped", "skipped"]
    assert "SE-D64" in captured.err
    assert "gone.onnx" in captured.err


@pytest.mark.parametrize("name", sorted(path.stem for path in SUITES.glob("*.yaml")))
def test_the_shipped_suites_read_and_say_why(name: str) -> None:
    suite = read_suite(name)
    assert suite.name == name
    assert len(suite.why) > 30
    slugs = [cell.slug for cell in cells_of(suite)]
    assert len(set(slugs)) == len(slugs) > 0


def test_a_suite_that_is_none_is_refused_with_the_place(tmp_path: Path) -> None:
    with pytest.raises(SamkrError) as caught:
        read_suite("quikc")
    assert (caught.value.code, caught.value.fix) == ("SE-U68", "samkr-edge sweep quick")
    with pytest.raises(SamkrError) as caught:
        read_suite("mine/quick")
    assert caught.value.code == "SE-U68"
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nwhy: x\nmodels:\n  - {name: a, sizs: [1x1]}\n")
    with pytest.raises(SamkrError) as caught:
        read_suite(str(file))
    assert caught.value.code == "SE-A66"
    assert "models.0.sizs" in caught.value.facts["reason"]


def test_a_suite_for_your_own_models_asks_for_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sweep", "jetson", "--dry-run"]) == 2
    assert "--model fp32.onnx --model int8.onnx" in capsys.readouterr().err
