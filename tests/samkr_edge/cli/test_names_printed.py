"""Names that a terminal library could take for its own language come out as they are, whichever command prints them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from samkr_edge.cli import run

# Rich's markup, one that closes nothing, an emoji's code, and more than a line of a log holds.
ODD = f"run[v2]/a[/b]c/12:on:05 [red]{'-long' * 30}"


@pytest.mark.parametrize(
    "line",
    [
        "predict FILE.onnx FILE.png", "predict MODEL FILE.png", "eval MODEL --data FILE",
        "inspect FILE.onnx", "bundle FILE.onnx", "build FILE.onnx --target cpu", "bench FILE.onnx",
        "bench MODEL --data FILE", "report FILE.json",
        "sweep FILE.yaml", "data check FILE", "targets FILE", "inspect MODEL --FILE", "FILE",
    ],
)  # fmt: skip
def test_an_error_holds_the_name(
    line: str,
    red_dot_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word.replace("FILE", ODD).replace("MODEL", str(red_dot_model)) for word in line.split()]
    assert run([*words, "--json"] if words[0] != ODD else words) in (2, 3, 4, 5)
    shown, said = capsys.readouterr()
    assert ODD in said
    if shown:
        told = json.loads(shown)["error"]
        assert any(
            ODD in text for text in (told["message"], *map(str, told["facts"].values()), str(told["fix"]))
        )


def test_results_hold_the_name(
    red_dot_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(ODD)
    folder.mkdir(parents=True)
    model = folder / "[final].onnx"
    shutil.copy(red_dot_model, model)
    image = folder / "clip [final].png"
    cv2.imwrite(str(image), np.zeros((60, 80, 3), np.uint8))
    assert run(["predict", str(model), str(image), "-o", str(folder / "x[")]) == 0
    shown, said = capsys.readouterr()
    assert f"predictions.json in {folder / 'x['}\n" in shown
    assert run(["inspect", str(model)]) == 0
    assert str(model) in capsys.readouterr().out + shown + said
    assert run(["predict", str(model), str(image), "--json", "-o", str(folder / "y")]) == 0
    assert json.loads(capsys.readouterr().out)["out"] == str(folder / "y")
