"""More threads than the machine has cores are refused, wherever they are asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny_model import tiny_onnx

from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from samkr_edge.machine.cpu import require_cores
from samkr_edge.pose_model import load_model


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


def test_as_many_as_there_are_cores_are_taken() -> None:
    assert [require_cores(threads) for threads in (1, 2)] == [1, 2]


@pytest.mark.parametrize("threads", [0, -1, 3, 20_000, 10**30, 1.0, "2", None, True])
def test_what_is_no_such_number_is_refused(threads: object, tmp_path: Path) -> None:
    model = tiny_onnx(tmp_path / "tiny.onnx")
    for refuse in (lambda: require_cores(threads), lambda: load_model(model, threads=threads)):  # type: ignore[arg-type]
        with pytest.raises(SamkrError) as caught:
            refuse()
        assert caught.value.code == "SE-U55"
        assert "1 to 2" in caught.value.facts["expected"]
        assert caught.value.fix == "--threads 2"


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "MODEL", "IMAGE"],
        ["bench", "MODEL"],
        ["demo", "--out", "OUT"],
    ],
)
def test_every_command_refuses_them_before_it_does_anything(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"")
    places = {
        "MODEL": str(tiny_onnx(tmp_path / "tiny.onnx")),
        "IMAGE": str(image),
        "OUT": str(tmp_path / "out"),
    }
    assert run([*(places.get(word, word) for word in command), "--threads", "20000"]) == 2
    assert "SE-U55" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_calibration_refuses_them_too() -> None:
    inputs = pytest.importorskip("calibration.inputs")
    with pytest.raises(SamkrError) as caught:
        inputs.use_threads(20_000)
    assert caught.value.code == "SE-U55"
