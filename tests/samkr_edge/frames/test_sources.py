"""What a word of the command line names is known before anything runs, by content; what is left out is told."""

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from red_dot import dots, write_video

from samkr_edge.cli import run
from samkr_edge.cli.predict_images import ImagesDone
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import replacing
from samkr_edge.files.file_kind import FileKind, file_kind, kind_of_bytes
from samkr_edge.files.own_files import made_by_predict, mark_mp4, marked_png
from samkr_edge.frames.live_capture import is_live
from samkr_edge.frames.sources import find_sources
from samkr_edge.images import read_image


def picture(path: Path, name: str = "") -> Path:
    """A PNG of one person, under any name."""
    path.write_bytes(cv2.imencode(".png", dots((30, 40)))[1].tobytes())
    return path


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


# What a file is


@pytest.mark.parametrize(
    ("head", "medium"),
    [
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "image"),
        (b"GIF89a" + bytes(20), "image"),
        (b"GIF89a" + bytes(20) + b"!\xff\x0bNETSCAPE2.0", "video"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image"),
        (b"RIFF\x10\0\0\0AVI LIST", "video"),
        (b"RIFF\x10\0\0\0WAVEfmt ", None),
        (b"\0\0\0\x18ftypheic", "image"),
        (b"\0\0\0\x18ftypavif", "image"),
        (b"\0\0\0\x18ftyp3gp5", "video"),
        (b"\0\0\0\x18ftypisom", "video"),
        (b"\0\0\0\x18ftypM4A ", None),
        (b"\0\0\0\x08wide\0\0\0\x08mdat", "video"),
        (b"BM\x36\x10\0\0\0\0\0\0\x36\0", "image"),
        (b"BMW is no bitmap", None),
        (b"P6\n2 2\n255\n", "image"),
        (b"\x1aE\xdf\xa3\x01\0", "video"),
        ((b"\x47" + bytes(187)) * 5, "video"),
        ((bytes(4) + b"\x47" + bytes(187)) * 5, "video"),
        (b"GATTACA" * 100, None),
        (b"\0\0\0\x01\x67\x64\0\x1f", "video"),
        (b"{}\n", None),
        (b"", None),
    ],
)
def test_a_format_is_known_by_its_first_bytes(head: bytes, medium: str | None) -> None:
    found = kind_of_bytes(head)
    assert (None if found is None else found.medium) == medium


def test_the_name_is_asked_where_the_bytes_say_nothing(tmp_path: Path) -> None:
    for name, data, kind in (
        ("empty.JPG", b"", FileKind("image")),
        ("cut.mts", b"\0", FileKind("video")),
        ("notes.txt", b"x", None),
        ("._a.png", b"\x00\x05\x16\x07\0\2", None),
    ):
        (tmp_path / name).write_bytes(data)
        assert file_kind(tmp_path / name) == kind, name
    assert file_kind(picture(tmp_path / "upload.tmp")) == FileKind("image", "PNG")


# What a word is


def test_words_that_name_no_file_may_be_live() -> None:
    for word in ("0", "rtsp://cam/1", "csi", "csi:1", "videotestsrc ! appsink", "/dev/video2"):
        assert is_live(word), word
    for word in ("photo.jpg", "folder/*.png", "csi.png", "walk.mp4", "²"):
        assert not is_live(word), word


def test_a_folder_gives_its_images_and_videos_by_content_and_what_is_left_out_is_named(
    tmp_path: Path,
) -> None:
    picture(tmp_path / "b.png")
    picture(tmp_path / "a.tmp")
    write_video(tmp_path / "clip.mp4", [dots((30, 40))] * 3).rename(tmp_path / "clip.3gp")
    (tmp_path / "._b.png").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "more").mkdir()
    (tmp_path / "b-2.png").write_bytes(marked_png((tmp_path / "b.png").read_bytes()))
    found = find_sources([str(tmp_path)])
    assert names(found.images) == ["a.tmp", "b.png"]
    assert found.streams == [str(tmp_path / "clip.3gp")]
    assert {path.name: reason for path, reason in found.left_out.items()} == {
        "._b.png": "hidden",
        "b-2.png": "made by predict",
        "more": "a folder",
        "notes.txt": "neither an image nor a video",
    }
    assert "notes.txt (neither an image nor a video)" in str(found.note())


def test_brackets_of_a_path_that_exists_are_no_pattern(tmp_path: Path) -> None:
    for folder in ("[x]", "x", "[ab]"):
        (tmp_path / folder).mkdir()
    picture(tmp_path / "[x]" / "in.png")
    picture(tmp_path / "x" / "other.png")
    picture(tmp_path / "clip [final].png")
    assert names(find_sources([str(tmp_path / "[x]" / "*.png")]).images) == ["in.png"]
    assert names(find_sources([str(tmp_path / "clip [final].png")]).images) == ["clip [final].png"]
    assert names(find_sources([str(tmp_path / "[wxy]" / "*.png")]).images) == ["other.png"]


@pytest.mark.parametrize(
    ("words", "named", "code"),
    [
        (["good.png", "typo*.jpg"], ["typo*.jpg"], "SE-D29"),
        (["good.png", "typo.jpg"], ["typo.jpg"], "SE-A23"),
        (["walk.mp4", "typo.mp4", "odd.mp4"], ["typo.mp4", "odd.mp4"], "SE-A23"),
        (["good.png", "notes.txt"], ["notes.txt"], "SE-D29"),
        (["x" * 300], ["x" * 100], "SE-D04"),
    ],
)
def test_every_source_is_checked_before_the_first_is_run(
    red_dot_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    named: list[str],
    code: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(Path("good.png"))
    write_video(Path("walk.mp4"), [dots((30, 40))] * 3)
    Path("odd.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    Path("notes.txt").write_text("x")
    assert run(["predict", str(red_dot_model), *words, "-o", "out"]) == (4 if code == "SE-A23" else 3)
    told = capsys.readouterr().err
    assert f"error {code}" in told
    assert "nothing was done" in told
    assert all(name in told for name in named)
    assert not Path("out").exists()


def test_a_damaged_video_of_a_folder_is_told_and_the_others_are_seen(
    red_dot_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "odd.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    write_video(tmp_path / "in" / "walk.mp4", [dots((30, 40))] * 3)
    words = ["predict", str(red_dot_model), str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--json"]
    assert run(words) == 3
    printed = json.loads(capsys.readouterr().out)
    assert [stream["frames"] for stream in printed["streams"]] == [3]
    assert printed["error"]["code"] == "SE-D97"
    assert "odd.mp4 could not be opened as a video, so it was skipped" in printed["failed"][0]["message"]


def test_a_file_that_the_system_does_not_give_is_told_and_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture(folder / "good.png")
    for name in ("locked.png", "locked.mp4", "notes.txt"):
        (folder / name).write_bytes(b"x")

    def locked(path: Path) -> FileKind | None:
        if Path(path).name != "good.png":
            raise PermissionError(13, "Permission denied", str(path))
        return file_kind(path)

    monkeypatch.setattr("samkr_edge.frames.sources.file_kind", locked)
    found = find_sources([str(folder)])
    assert names(found.images) == ["good.png", "locked.png"]  # the reader fails, and is counted
    assert [error.message for error in found.damaged] == [
        f"{folder / 'locked.mp4'} could not be read (Permission denied), so it was skipped"
    ]
    assert found.left_out == {folder / "notes.txt": "Permission denied"}
    for name in ("locked.png", "locked.mp4", "notes.txt"):
        with pytest.raises(SamkrError, match=r"could not be read \(Permission denied\), so nothing was done"):
            find_sources([str(folder / "good.png"), str(folder / name)])


def test_a_camera_that_does_not_open_after_others_were_seen_is_left_out(
    red_dot_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(Path("a.png"))
    write_video(Path("walk.mp4"), [dots((30, 40))] * 3)
    assert run(["predict", str(red_dot_model), "a.png", "99", "walk.mp4", "-o", "out", "--json"]) == 7
    printed = json.loads(capsys.readouterr().out)
    assert (printed["images"], [stream["frames"] for stream in printed["streams"]]) == (1, [3])
    assert printed["error"]["message"] == "camera99 does not open, so it was skipped"
    assert run(["predict", str(red_dot_model), "99", "-o", "none"]) == 7
    assert "camera99 does not open, so nothing was done" in capsys.readouterr().err
    assert not Path("none").exists()


def test_what_would_be_waited_for_is_opened_only_where_it_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "good.png")
    (tmp_path / "lost.png").symlink_to("nowhere.png")
    for name in ("pipe.png", "pipe.json"):
        os.mkfifo(tmp_path / name)
    for words in ([str(tmp_path)], [str(tmp_path / "*.*")]):
        found = find_sources(words)
        assert names(found.images) == ["good.png", "lost.png"]
        assert set(found.left_out.values()) == {"a pipe or a device"}
    assert find_sources([str(tmp_path / "pipe.png")]).streams == [str(tmp_path / "pipe.png")]


def test_json_holds_the_good_poses_and_the_error(
    red_dot_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "bad.png").write_bytes(b"")
    words = [str(tmp_path / "a.png"), str(tmp_path / "bad.png"), "-o", str(tmp_path / "out"), "--json"]
    assert run(["predict", str(red_dot_model), *words]) == 3
    printed = capsys.readouterr()
    payload = json.loads(printed.out)
    assert [Path(pose["file_name"]).name for pose in payload["poses"]] == ["a.png"]
    assert payload["error"]["code"] == "SE-D28"
    assert "SE-D28" in printed.err


# Ours and others'


def test_files_of_ours_are_known_by_a_mark_inside_them(tmp_path: Path) -> None:
    png, video = picture(tmp_path / "a.png"), write_video(tmp_path / "a.mp4", [dots((30, 40))] * 3)
    assert not made_by_predict(png)
    assert not made_by_predict(video)
    png.write_bytes(marked_png(png.read_bytes()))
    mark_mp4(video)
    assert made_by_predict(png)
    assert made_by_predict(video)
    np.testing.assert_array_equal(cv2.imread(str(png)), dots((30, 40)))
    assert cv2.VideoCapture(str(video)).read()[0]
    for name, text, ours in (
        ("predictions.json", "[]", True),
        ("annotations.json", '{"images": []}', False),
        ("eval.json", '[{"image_id": 1, "category_id": 1, "keypoints": [], "score": 1}]', False),
        ("walk.jsonl", '{"frame": 0, "seconds": 0.0, "people": []}\n', True),
        ("log.jsonl", '{"epoch": 1}\n', False),
        ("none.png", "", False),
    ):
        (tmp_path / name).write_text(text)
        assert made_by_predict(tmp_path / name) == ours, name


def test_overlays_in_the_input_folder_are_replaced_and_never_looked_at(
    red_dot_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "a.png")
    write_video(tmp_path / "b.mp4", [dots((30, 40))] * 3)
    for _ in range(3):
        assert run(["predict", str(red_dot_model), str(tmp_path), "-o", str(tmp_path), "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert (printed["images"], len(printed["streams"])) == (1, 1)
    everything = {"a.png", "a-2.png", "b.mp4", "b-2.mp4", "b-2.jsonl", "predictions.json"}
    assert {path.name for path in tmp_path.iterdir()} == everything
    with pytest.raises(SamkrError, match="no image and no video"):  # as a shell would name it
        find_sources([str(tmp_path / "a-2.png")])


@pytest.mark.parametrize("foreign", ["walk.mp4", "walk.jsonl", "a.png", "predictions.json"])
def test_a_file_that_predict_did_not_make_is_replaced_only_when_asked(
    red_dot_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], foreign: str
) -> None:
    picture(tmp_path / "a.png")
    write_video(tmp_path / "walk.mp4", [dots((30, 40))] * 3)
    out = tmp_path / "out"
    out.mkdir()
    (out / foreign).write_text("mine")
    words = [
        "predict",
        str(red_dot_model),
        str(tmp_path / "a.png"),
        str(tmp_path / "walk.mp4"),
        "-o",
        str(out),
    ]
    assert run(words) == 3
    assert f"not ours   {foreign}" in capsys.readouterr().err
    assert (out / foreign).read_text() == "mine"
    assert run([*words, "--overwrite"]) == 0
    assert made_by_predict(out / foreign)
    assert run(words) == 0


def test_an_image_that_opencv_does_not_decode_is_named_by_its_format(tmp_path: Path) -> None:
    (tmp_path / "phone.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(SamkrError) as caught:
        read_image(tmp_path / "phone.jpg")
    assert "HEIC, which OpenCV" in caught.value.facts["reason"]
    assert str(caught.value.fix).startswith(f"magick {tmp_path}/phone.jpg {tmp_path}/phone.png ")
    told = ImagesDone(failed=[caught.value]).problem(1, None)
    assert told.fix == caught.value.fix


def test_json_holds_what_was_seen_before_an_output_could_not_be_written(
    red_dot_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        picture(tmp_path / f"{name}.png")

    def in_the_way(path: Path) -> Any:
        if path.name == "b.png":
            path.mkdir()
        return replacing(path)

    monkeypatch.setattr("samkr_edge.cli.predict_images.replacing", in_the_way)
    words = [str(tmp_path / "a.png"), str(tmp_path / "b.png"), "-o", str(tmp_path / "out"), "--overwrite"]
    assert run(["predict", str(red_dot_model), *words, "--json"]) == 3
    printed = json.loads(capsys.readouterr().out)
    assert [Path(pose["file_name"]).name for pose in printed["poses"]] == ["a.png"]
    assert printed["error"]["code"] == "SE-D01"
