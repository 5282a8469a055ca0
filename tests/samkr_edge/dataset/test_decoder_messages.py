"""What decoders print about a damaged image is said of that image, wherever images are read."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from samkr_edge.cli import run
from samkr_edge.dataset.decoder_messages import ListeningReader, listening
from samkr_edge.images import read_image

SAID = "Corrupt JPEG data"


def jpeg(path: Path, *, damaged: bool = False) -> Path:
    """A small picture; damaged: bytes that belong to nothing before its end, as downloads and bad disks leave them."""
    data = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
    path.write_bytes(data[:-2] + b"\x12\x34\x56" * 5 + data[-2:] if damaged else data)
    return path


def test_a_decoders_message_is_heard_and_anything_else_is_passed_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = jpeg(tmp_path / "bad.jpg", damaged=True)
    with listening() as said:
        os.write(2, b"from another thread\n")
        read_image(bad)
    os.write(2, b"afterwards\n")
    assert [line[: len(SAID)] for line in said] == [SAID]
    assert capfd.readouterr().err == "from another thread\nafterwards\n"


def test_listening_ends_where_reading_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), listening():
        raise RuntimeError
    os.write(2, b"heard again\n")
    assert capfd.readouterr().err == "heard again\n"


def test_threads_name_the_right_images_however_often_they_are_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = [jpeg(tmp_path / f"{number}.jpg", damaged=number % 7 == 3) for number in range(40)]
    reader = ListeningReader()
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            list(pool.map(reader.read, paths))
    assert {path.name for path in reader.said} == {f"{number}.jpg" for number in range(3, 40, 7)}
    note = str(reader.note())
    assert note.startswith("6 images are partly damaged")
    assert f"{min(reader.said)} ({SAID}" in note
    assert capfd.readouterr().err == ""
    assert ListeningReader().note() is None


def test_a_process_without_stderr_reads_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(number: int) -> int:
        raise OSError

    monkeypatch.setattr(os, "dup", closed)
    assert ListeningReader().read(jpeg(tmp_path / "a.jpg")).shape == (48, 64, 3)


def test_predict_names_them(
    red_dot_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    jpeg(Path("good.jpg"))
    bad = jpeg(Path("bad.jpg"), damaged=True)
    assert run(["predict", str(red_dot_model), "good.jpg", "bad.jpg"]) == 0
    said = capfd.readouterr().err
    assert f"1 image is partly damaged, and read as far as possible: {bad} ({SAID}" in said
    assert said.count(SAID) == 1
