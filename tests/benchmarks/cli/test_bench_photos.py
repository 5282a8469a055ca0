"""`bench --photos`: without labels the models are compared with FP32, and nothing calls that AP."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.schema import read_results
from samkr_edge.cli import run
from samkr_edge.dataset.picture_sketch import Sketch
from samkr_edge.dataset.trained_on import TrainedOn
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.skeleton import COCO17, CROWDPOSE14

Pair = tuple[Path, Path]
MOVED = 3 * 2**0.5  # the INT8 model of ``pair`` is 3 pixels off in x and in y
PEOPLE = 15


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures that do not look alike, of one or two people of white dots, before walls too dark for anybody."""
    folder = tmp_path_factory.mktemp("album")
    random = np.random.default_rng(0)
    for number in range(10):
        wall = random.integers(0, 20, (8, 8, 3)).astype(np.uint8)
        picture = cv2.resize(wall, (128, 128), interpolation=cv2.INTER_NEAREST)
        for x in (32, 84)[: 1 + number % 2]:
            y = 4 * int(random.integers(8, 24))
            picture[y : y + 4, x : x + 4] = 255
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    return folder


def bench(*arguments: object) -> int:
    return run(["bench", "--no-memory", "--rounds", "10", *map(str, arguments)])


def test_the_rows_say_who_is_kept_and_how_far_joints_moved(
    pair: Pair, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert bench(*pair, "--photos", album, "--out", out, "--samples", 2, "--report", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    results = read_results(out)
    fp32, int8 = results.models
    assert printed["models"][1]["against_fp32"]["kept"] == PEOPLE
    assert fp32.against_fp32 is not None
    assert int8.against_fp32 is not None
    assert (fp32.against_fp32.kept, fp32.against_fp32.ap.value, fp32.change) == (PEOPLE, 100, None)
    found = int8.against_fp32
    assert (found.kept, found.lost, found.new) == (PEOPLE, 0, 0)
    assert found.moved_px == pytest.approx(MOVED, abs=1e-3) == found.moved_px_p95
    assert found.ap.low <= found.ap.value <= found.ap.high < 100
    assert int8.change is not None
    assert int8.change.value == pytest.approx(found.ap.value - 100)
    # Nothing that is read as AP of labels.
    assert [(model.accuracy, model.difference) for model in results.models] == [(None, None)] * 2
    assert results.dataset is not None
    assert (results.dataset.labelled_by, results.dataset.images, results.dataset.people) == (
        "FP32",
        10,
        PEOPLE,
    )
    assert results.dataset.annotations_sha256 == fp32.sha256
    page = (out / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert "↑ AP against FP32" in page
    assert "on which FP32 finds 15 people" in page
    assert 'data-label="AP"' not in page
    # Nor in what a mark of the plot says, or a note.
    assert "FP32: 100.0 AP against FP32, p50" in page
    assert "Only 10 images were scored: small differences of AP against FP32 cannot be seen" in page
    assert not re.search(r"\d AP(?! against FP32)", page)


def test_the_table_says_against_fp32(pair: Pair, album: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(*pair, "--photos", album, "--limit", 8) == 0
    shown = capsys.readouterr().out
    for text in ("AP against FP32 [95 %]", "kept/lost/new", "moved px (p95)", "reference", "4.2 (4.2)"):
        assert text in shown
    flat = shown.replace("\n", " ")
    assert "AP against FP32 on 8 photos" in flat
    assert "the people that FP32 finds stand for them" in flat


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        (["--max-moved", "4"], "SE-Q63"),
        (["--max-moved", "5"], None),
        (["--max-drop", "1"], "SE-Q60"),
        (["--max-drop", "100"], "SE-Q62"),  # nobody could fail it
    ],
)
def test_the_gates_are_against_fp32(
    pair: Pair, album: Path, limit: list[str], code: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*pair, "--photos", album, *limit) == (6 if code else 0)
    error = capsys.readouterr().err
    assert (code or "error") in error or code is None
    assert "against FP32" in error or code is None


def test_a_run_against_fp32_is_compared_with_one_of_the_same_photos_only(
    pair: Pair,
    album: Path,
    dots: Path,
    dot_model: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    close = ModelCard("samkr_tiny", COCO17, (128, 128), precision="int8", stage="ptq")
    dot_model(pair[1], error=1.5, card=close)  # some AP is left
    assert bench(*pair, "--photos", album, "--out", tmp_path / "photos") == 0
    assert bench(*pair, "--data", dots, "--out", tmp_path / "labels") == 0
    again = [*pair, "--photos", album, "--may-differ", "speed", "--baseline"]
    assert bench(*again, tmp_path / "photos") == 0
    capsys.readouterr()
    assert bench(*again, tmp_path / "labels") == 6
    error = capsys.readouterr().err
    assert "SE-Q67" in error
    assert "AP then, AP against FP32 now" in error
    page = tmp_path / "both.html"
    folders = [str(tmp_path / name) for name in ("photos", "labels")]
    assert run(["report", *folders, "--max-latency", "1000", "-o", str(page)]) == 0
    assert (
        "The runs have AP and AP against FP32, so their models cannot be compared." in capsys.readouterr().out
    )
    text = page.read_text()
    assert 'id="plot"' not in text  # no axis is common to them
    assert "photos, against FP32" in text


def test_without_an_fp32_baseline_nothing_is_measured(
    pair: Pair, album: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*reversed(pair), "--photos", album) == 2
    error = capsys.readouterr().err
    assert "SE-U09" in error
    assert "--baseline" in error
    assert bench(pair[1], "--baseline", pair[0], "--photos", album) == 0


def test_photos_of_nobody_are_an_error_with_the_best_score(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((128, 128, 3), 9, np.uint8))
    assert bench(*pair, "--photos", tmp_path / "wall.png") == 3
    assert "SE-D58" in capsys.readouterr().err


def test_pictures_that_a_model_learned_from_do_not_judge_it(
    album: Path, tmp_path: Path, dot_model: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    seen = TrainedOn("train", "a" * 64, Sketch.of(sorted(album.iterdir())))
    card = ModelCard("samkr_tiny", COCO17, (128, 128)).with_provenance(training=seen.to_dict())
    fp32 = dot_model(tmp_path / "fp32.onnx", card=card)
    assert bench(fp32, "--photos", album) == 3
    error = capsys.readouterr().err
    assert "SE-D45" in error
    assert "fix: name other pictures with --photos" in error
    assert bench(fp32, "--photos", album, "--anyway") == 0


def test_models_of_other_keypoints_are_not_compared(
    pair: Pair, album: Path, tmp_path: Path, dot_model: Callable[..., Path]
) -> None:
    other = dot_model(tmp_path / "crowd.onnx", card=ModelCard("samkr_tiny", CROWDPOSE14, (128, 128)))
    assert COCO17 != CROWDPOSE14
    assert bench(pair[0], other, "--photos", album) == 3


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--photos", "here", "--data", "there"], "SE-U05"),
        (["--max-moved", "3", "--data", "there"], "SE-U61"),
        (["--photos", "here", "--protocol", "paper"], "SE-U61"),
    ],
)
def test_what_does_not_go_together_is_told_before_anything_is_opened(
    pair: Pair, arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*pair, *arguments) == 2
    assert code in capsys.readouterr().err


def test_a_single_model_is_timed_on_the_photos_and_says_whom_it_finds(
    pair: Pair, album: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(pair[0], "--photos", album) == 0
    assert f"finds {PEOPLE} people" in capsys.readouterr().out
    assert bench(pair[0], "--photos", album, "--max-moved", "3") == 2
    assert "SE-U61" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["bench", "ledger", "quantize"])
def test_a_glob_that_the_shell_has_spread_is_told_of(
    command: str, pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [tmp_path / f"{number}.jpg" for number in range(20)]
    for picture in pictures:
        picture.write_bytes(b"")
    models = pair[: 1 if command == "quantize" else 2]
    assert run([command, *map(str, models), "--photos", *map(str, pictures)]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "--photos 'DIR/*.jpg'" in told
    assert len(told) < 800
