"""predict, targets: the commands that a device runs, called as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from samkr_edge.cli import run


def write_image(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), image)
    return path


def test_predict_writes_overlays_and_results_of_every_image(
    float_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = write_image(tmp_path / "a" / "x.png"), write_image(tmp_path / "b" / "x.png", 1)
    out = tmp_path / "out"
    arguments = ["predict", str(float_onnx), str(one), str(other.parent), "-o", str(out), "--json"]
    assert run([*arguments, "--threshold", "0"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["images"] == 2
    # Equal names of two folders do not overwrite each other.
    assert sorted(path.name for path in out.glob("*.png")) == ["x-2.png", "x.png"]
    results = json.loads((out / "predictions.json").read_text(encoding="utf-8"))
    assert len(results) == shown["people"]
    for result in results:
        assert len(result["keypoints"]) == 17 * 3
        assert result["file_name"] in {str(one), str(other)}
    drawn = cv2.imread(str(out / "x.png"))
    assert (drawn.shape[0] / drawn.shape[1], drawn.shape[2]) == (48 / 80, 3)  # small images are enlarged


def test_predict_goes_on_after_a_broken_image_and_says_so_at_the_end(
    float_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "bad.jpg").write_bytes(b"not an image")
    out = tmp_path / "out"
    assert run(["predict", str(float_onnx), str(tmp_path / "in"), "-o", str(out)]) == 3
    assert (out / "good.png").is_file()
    assert (out / "predictions.json").is_file()
    shown = capsys.readouterr().err
    assert "SE-D28" in shown
    assert "bad.jpg" in shown


@pytest.mark.parametrize("source", ["empty", "*.png"])
def test_predict_without_images_is_a_data_error(
    float_onnx: Path,
    tmp_path: Path,
    source: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert run(["predict", str(float_onnx), source]) == 3
    assert "SE-D29" in capsys.readouterr().err


def test_targets_lists_every_profile_and_shows_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "--json"]) == 0
    listed = {target["name"] for target in json.loads(capsys.readouterr().out)["targets"]}
    assert {"cpu", "jetson-nano"} <= listed
    for name in sorted(listed):
        assert run(["targets", name, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["target"]["name"] == name


def test_an_unknown_target_is_a_usage_error_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "rtx-4091"]) == 2
    shown = capsys.readouterr().err
    assert "SE-U50" in shown
    assert "rtx-4090" in shown
