"""File names that are no UTF-8, look like options or addresses, or are as long as a name can be."""

import errno
import json
import os
from pathlib import Path

import cv2
import pytest
from red_dot import dots, write_video

from samkr_edge.cli import run
from samkr_edge.cli.predict_images import overlay_names
from samkr_edge.cli.predict_stream import stream_names
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import fitting, json_text, replacing
from samkr_edge.frames.opencv_names import name_for_opencv

LATIN = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize("stem", [LATIN, "-dash", "12:30:05", "x" * 245, "ä" * 125], ids=ascii)
def test_predict_takes_and_makes_files_of_odd_names(
    red_dot_model: Path,
    tmp_path: Path,
    stem: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    os.rename(write_video(tmp_path / "v.mp4", [dots((30, 40))] * 3), f"{stem}.mp4")
    Path(f"{stem}.png").write_bytes(cv2.imencode(".png", dots((30, 40)))[1].tobytes())
    out = LATIN if stem == LATIN else "out"
    words = ["predict", str(red_dot_model), "-o", out, "--json", "--", f"{stem}.png", f"{stem}.mp4"]
    assert run(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["poses"][0]["file_name"] == f"{stem}.png"
    assert printed["poses"] == json.loads(Path(out, "predictions.json").read_text(encoding="utf-8"))
    (stream,) = printed["streams"]
    assert stream["frames"] == 3
    assert len(Path(stream["keypoints"]).read_text().splitlines()) == 3
    with name_for_opencv(stream["video"]) as name:
        assert cv2.VideoCapture(name).read()[0]
    assert len(list(Path(out).glob("*.png"))) == 1


def test_a_name_for_opencv_is_absolute_and_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with name_for_opencv("12:30:05.mp4") as name:
        assert name == str(tmp_path / "12:30:05.mp4")
    with name_for_opencv(f"{LATIN}.mp4") as name:
        name.encode("utf-8")
        Path(name).write_text("through the link")
    assert Path(f"{LATIN}.mp4").read_text() == "through the link"
    assert not Path(name).is_symlink()


def test_names_are_shortened_only_where_they_must_and_stay_different(tmp_path: Path) -> None:
    assert fitting("x" * 245, 10) == "x" * 245
    first, second = (fitting("x" * 250 + end, 10) for end in "ab")
    assert first != second
    assert len(first) == 245
    fitting("ä" * 127, 10).encode()
    paths = [Path(folder, "x" * 251 + ".png") for folder in "abc"]
    names = overlay_names(paths, tmp_path)
    assert len(set(names)) == 3
    assert max(map(len, names)) <= 255
    for name in stream_names([str(path) for path in paths], tmp_path):
        assert len(f"{name}.jsonl") <= 255
    target = tmp_path / ("y" * 251 + ".png")
    with replacing(target) as temporary:
        assert temporary.parent == target.parent
        assert len(temporary.name) <= 255
        temporary.write_bytes(b"1")
    assert target.read_bytes() == b"1"


@pytest.mark.parametrize(
    ("number", "way"),
    [(errno.ENAMETOOLONG, "shorter name"), (errno.ENOSPC, "free some space"), (errno.EACCES, "place")],
)
def test_the_way_out_depends_on_what_is_in_it(tmp_path: Path, number: int, way: str) -> None:
    with pytest.raises(SamkrError) as caught, replacing(tmp_path / "x"):
        raise OSError(number, "no")
    assert way in str(caught.value.fix)
    assert ("free some space" in str(caught.value.fix)) == (number == errno.ENOSPC)


def test_json_is_valid_utf8_whatever_the_names() -> None:
    text = json_text({"file": LATIN, "other": "ä"})
    text.encode("utf-8")
    assert os.fsencode(json.loads(text)["file"]) == b"caf\xe9"
    assert "ä" in json_text({"file": "ä"})
