"""Quantizing on pictures of one's own, without labels, and what the card says of it afterwards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import pytest

from samkr_edge.builder.check.probe import parse_probe
from samkr_edge.cli import run
from samkr_edge.dataset.photos import KnownPictures
from samkr_edge.files.artefact import sha256_of
from samkr_edge.frames.photo_set import photo_set
from samkr_edge.images import read_image
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from training.checkpoint import load_checkpoint

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def album(people: Path, tmp_path: Path) -> Path:
    """24 pictures of rendered people in a folder, and a video of six others."""
    folder = tmp_path / "album"
    shutil.copytree(people / "images" / "train2017", folder / "day")
    frames = [cv2.imread(str(path)) for path in sorted((people / "images" / "val2017").iterdir())]
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(folder / "walk.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return folder


def quantized(fp32: Path, out: Path, *words: str, code: int = 0) -> Path:
    assert run(["quantize", str(fp32), "-o", str(out), "--threads", "1", *words]) == code
    return out


def test_a_network_is_calibrated_on_a_folder_and_its_card_names_the_pictures(
    fp32: Path, album: Path, tmp_path: Path, capsys: Captured
) -> None:
    words = ("--photos", str(album), "--images", "12", "--json")
    made = load_checkpoint(quantized(fp32, tmp_path / "ptq.pt", *words))
    card = json.loads(capsys.readouterr().out)["card"]
    facts = made.card.provenance["calibration"]
    assert card["provenance"]["calibration"] == facts
    with photo_set([album], 12) as photos:
        assert facts == photos.facts
        frames = [photo for photo in photos.chosen if photo.frame is not None]
        assert len(frames) == 6
        stills = {photo.sha256 for photo in photos.chosen} - {photo.sha256 for photo in frames}
    assert stills < {sha256_of(path) for path in (album / "day").iterdir()}
    assert str(parse_probe(made.quantization["probe"])) == "4 calibration images"


def test_the_same_seed_gives_the_same_network_wherever_the_pictures_lie(
    fp32: Path, album: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(album, tmp_path / "moved" / "elsewhere")
    states = [
        load_checkpoint(
            quantized(fp32, tmp_path / f"{n}.pt", "--photos", str(folder), "--images", "8", *more)
        ).state
        for n, (folder, more) in enumerate([(album, ()), (moved, ()), (album, ("--seed", "1"))])
    ]
    one, again, other = ({name: tensor.tolist() for name, tensor in state.items()} for state in states)
    assert one == again
    assert one != other


def test_half_of_few_pictures_is_left_to_judge_on(fp32: Path, album: Path, tmp_path: Path) -> None:
    made = load_checkpoint(quantized(fp32, tmp_path / "ptq.pt", "--photos", str(album)))
    assert made.card.provenance["calibration"]["images"] == 15
    known = KnownPictures.calibrating([made.card])
    with photo_set([album], 100, leave_out=known) as rest:
        assert len(rest) == 15
        assert not {photo.sha256 for photo in rest.chosen} & known.sha256


@pytest.mark.parametrize("kept", [7, 1])
def test_too_few_pictures_are_refused_and_counted(
    fp32: Path, album: Path, tmp_path: Path, kept: int, capsys: Captured
) -> None:
    for path in sorted((album / "day").iterdir())[kept:]:
        path.write_bytes(read_image(path).tobytes()[:50])  # no image any more, whatever its name says
    quantized(fp32, tmp_path / "ptq.pt", "--photos", str(album / "day"), code=3)
    told = " ".join(capsys.readouterr().err.split())
    assert "error SE-D43" in told
    assert f"{kept} picture" in told
    assert not (tmp_path / "ptq.pt").exists()


def test_pictures_that_calibrated_a_network_do_not_judge_it(
    fp32: Path, people: Path, tmp_path: Path, capsys: Captured
) -> None:
    ptq = quantized(fp32, tmp_path / "ptq.pt", "--photos", str(people / "images" / "val2017"), code=3)
    more = shutil.copytree(people / "images" / "val2017", tmp_path / "val")
    for path in sorted((people / "images" / "train2017").iterdir())[:10]:
        shutil.copy(path, more / f"more-{path.name}")
    ptq = quantized(fp32, tmp_path / "ptq.pt", "--photos", str(more), "--images", "16")
    capsys.readouterr()
    assert run(["eval", str(ptq), "--data", str(people), "--threads", "1"]) == 3
    told = " ".join(capsys.readouterr().err.split())
    assert "was calibrated on images it would be evaluated on" in told
    assert "6 of 6 compared" in told
    assert run(["eval", str(ptq), "--data", str(people), "--threads", "1", "--anyway"]) == 0
    assert "was calibrated on 16 images" in " ".join(capsys.readouterr().err.split())


def test_pictures_and_labelled_data_together_are_refused(
    fp32: Path, people: Path, album: Path, tmp_path: Path, capsys: Captured
) -> None:
    quantized(fp32, tmp_path / "ptq.pt", "--photos", str(album), "--data", str(people), code=2)
    assert "SE-U05" in capsys.readouterr().err


def test_a_network_is_calibrated_at_the_size_that_it_will_run_in(
    fp32: Path, album: Path, tmp_path: Path
) -> None:
    words = ("--photos", str(album), "--images", "8", "--size", "96x64")
    made = quantized(fp32, tmp_path / "ptq.pt", *words)
    assert load_checkpoint(made).card.input_size == (96, 64)
    assert load_checkpoint(fp32).card.input_size != (96, 64)
    onnx = tmp_path / "ptq.onnx"
    assert run(["export", str(made), "-o", str(onnx)]) == 0
    assert read_onnx(onnx).inputs[0].shape == (1, 96, 64, 3)
