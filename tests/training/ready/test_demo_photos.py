"""`samkr-edge demo --photos`: a ready network on people's own pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from samkr_edge.cli import COMMANDS, run, steps
from samkr_edge.cli.demo_photos import FULL, photo_plan
from samkr_edge.dataset.keypoint_dataset import KeypointDataset

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """ModelOpt is imported once and not by each child."""
    pytest.importorskip("modelopt", reason="the demo quantizes")
    monkeypatch.setattr(steps, "_run", lambda step: run(list(step)))


@pytest.fixture
def album(people: KeypointDataset, tmp_path: Path) -> Path:
    return shutil.copytree(people.images[0].path.parent, tmp_path / "my album")


@pytest.mark.usefixtures("in_this_process", "cache")
def test_it_ends_with_both_precisions_on_ones_own_pictures_and_a_repeated_one_reuses_all(
    album: Path, tmp_path: Path, capsys: Captured
) -> None:
    """Rendered people are the pictures, since the network that travels along knows them."""
    out = tmp_path / "demo"
    words = ["demo", "--photos", str(album), "--network", "samkr_tiny", "--size", "128x128", "--quick"]
    words += ["--threads", "1", "--out", str(out)]
    assert run(words) == 0
    results = json.loads((out / "results" / "results.json").read_text(encoding="utf-8"))
    fp32, int8 = results["models"]
    assert (fp32["precision"], int8["precision"]) == ("fp32", "int8")
    assert "against FP32" in capsys.readouterr().out
    assert (out / "report.html").is_file()
    assert run(words) == 0
    assert "0.0 min, 8 of 8 steps reused" in capsys.readouterr().out
    planned = photo_plan(out, "samkr_tiny", [str(album)], "128x128", FULL, None)
    before = [step.key() for step in planned]
    next(album.rglob("*.jpg")).unlink()
    changed = [step.arguments[0] for step, key in zip(planned, before, strict=True) if step.key() != key]
    assert changed == ["quantize", "bench"]


def test_it_is_a_sequence_of_public_commands_that_begins_with_the_network() -> None:
    planned = photo_plan(Path("out"), "zoo:dekr_w48_coco", ["a b", "c.mp4"], "384x384", FULL, 2)
    assert {step.arguments[0] for step in planned} <= set(COMMANDS) - {"demo"}
    assert planned[0].command == "samkr-edge zoo get dekr_w48_coco -o out/fp32.pt"
    assert planned[1].arguments[2:6] == ("--photos", "a b", "--photos", "c.mp4")
    assert "--size 384x384" in planned[2].command


def test_a_checkpoint_of_ones_own_is_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "mine.pt").touch()
    planned = photo_plan(tmp_path, str(tmp_path / "mine.pt"), ["a"], "256x256", FULL, None)
    assert planned[0].arguments[:2] == ("quantize", str(tmp_path / "mine.pt"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--photos", "nowhere", "--quick"], "nowhere"),
        (["--photos", ".", "--size", "100x100"], "SE-U03"),
        (["--photos", ".", "--minutes", "2"], "--minutes"),
        (["--photos", ".", "--from-scratch"], "--from-scratch"),
        (["--photos", ".", "--data", "."], "--data"),
        (["--network", "dekr_w32_coco"], "needs --photos"),
        (["--size", "64x64"], "needs --photos"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["demo", *words]) != 0
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
