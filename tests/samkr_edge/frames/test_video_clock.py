"""A frame has the time that its file gives it, and an estimated number of frames is not missed."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mp4_boxes import begin_late, hide_beginning, set_times
from red_dot import dots, write_video

from samkr_edge.frames.cut_off import is_cut_off
from samkr_edge.frames.opening import _file_source, open_video
from samkr_edge.frames.recording import Recording
from samkr_edge.frames.video import VideoSource
from samkr_edge.frames.video_clock import VideoClock, shown_seconds
from samkr_edge.pose.poses import Poses

# A phone's video in the dark: 25 frames a second, then 5, then 33.
UNEVEN = np.cumsum([0.0, *[0.04] * 10, *[0.2] * 19, *[0.03] * 10]).tolist()


def video(path: Path, frames: int = 40) -> Path:
    return write_video(path, [dots((20 + i, 30)) for i in range(frames)])


def times_of(path: Path) -> tuple[VideoSource, list[float]]:
    source = open_video(str(path))
    return source, [frame.seconds for frame in source]


@pytest.mark.parametrize("times", [UNEVEN, [5.0 * i for i in range(10)], [0.04 * i for i in range(5)]])
def test_every_frame_has_the_files_time(tmp_path: Path, times: list[float]) -> None:
    source, found = times_of(set_times(video(tmp_path / "a.mp4", len(times)), times))
    np.testing.assert_allclose(found, times, atol=1e-3)
    assert not source.broken


class Capture:
    """Gives gray frames with these times; None is a frame that is lost."""

    def __init__(self, times: list[float | None]) -> None:
        self.times, self.at = times, -1

    def read(self, image: object = None) -> tuple[bool, object]:
        self.at += 1
        there = self.at < len(self.times) and self.times[self.at] is not None
        return (True, np.zeros((8, 8, 3), np.uint8)) if there else (False, None)

    def get(self, property: int) -> float:
        return 1e3 * (self.times[self.at] or 0.0)

    def release(self) -> None: ...


def source_of(times: list[float | None], **facts: Any) -> VideoSource:
    return VideoSource(Capture(times), "a.mkv", fps=25, **facts)


def test_lost_frames_shift_the_time_of_no_other() -> None:
    source = source_of([0.0, 0.04, None, None, 0.16], frames=5)
    assert [frame.seconds for frame in source] == [0.0, 0.04, 0.16]
    assert source.missing == 2


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([0.0, 0.0, 0.0, 0.0], [0.0, 0.1, 0.2, 0.3]),  # no times in the file
        ([float("nan")] * 3, [0.0, 0.1, 0.2]),
        ([-0.2, -0.1, 0.0], [0.0, 0.1, 0.2]),
        ([0.0, 0.1, 0.1, 0.5], [0.0, 0.1, 0.2, 0.5]),
        ([60.0, 60.1, 0.0, 0.3], [60.0, 60.1, 60.2, 60.5]),  # two recordings in one file
    ],
)
def test_time_never_runs_back(said: list[float], expected: list[float]) -> None:
    clock = VideoClock(10.0)
    np.testing.assert_allclose([clock.at(seconds) for seconds in said], expected)


@pytest.mark.parametrize(
    ("last", "lasts", "frames", "missing"),
    [
        (2.36, 8.2, 205, 146),  # cut off: the clock stops early
        (2.36, 2.4, 205, 0),  # the number was a guess at the rate
        (2.36, 2.8, 205, 0),  # the sound goes on for a moment
    ],
)
def test_an_estimated_number_of_frames_is_missed_only_where_the_clock_stops_early(
    last: float, lasts: float, frames: int, missing: int
) -> None:
    source = source_of(np.arange(0, last + 0.02, 0.04).tolist(), frames=frames, lasts=lasts)
    assert len(list(source)) == 60
    assert (source.missing, source.broken) == (missing, missing > 0)
    if missing:
        assert "146 of about 205" in source.ended_early().message


def test_a_longer_sound_or_one_that_begins_earlier_is_no_missing_picture() -> None:
    """Most containers have one duration, of all tracks; frames that fail in between are missed all the same."""
    source = source_of([*np.arange(0, 2.38, 0.04), None, 2.4], frames=205, lasts=8.2, sure=False)
    assert len(list(source)) == 61
    assert (source.missing, source.broken) == (1, False)
    assert source.note == (
        "a.mkv: its frames last 2.4 s of the file's 8.2 s: "
        "a longer audio track, a later start, or frames missing at the end"
    )


def test_of_a_file_that_was_cut_off_behind_its_pictures_none_is_called_missing() -> None:
    source = source_of(np.arange(0, 2.38, 0.04).tolist(), frames=205, lasts=8.2, sure=False, cut=True)
    assert len(list(source)) == 60
    assert (source.missing, source.broken, source.note) == (0, True, None)
    assert "2.4 s of 8.2 s" in source.ended_early().message
    whole = source_of(np.arange(0, 8.18, 0.04).tolist(), frames=205, lasts=8.2, sure=False, cut=True)
    assert len(list(whole)) == 205
    assert not whole.broken


def test_what_can_be_read_behind_damage_is_read_where_the_end_is_not_known() -> None:
    source = source_of([0.0, 0.04, *[None] * 25, 8.0], frames=205, lasts=8.2, sure=False)
    assert len(list(source)) == 3
    assert source.missing == 25
    assert source.note is None


@pytest.mark.parametrize(("gap", "told"), [(4.0, True), (1.0, False)])
def test_a_pause_that_stands_out_is_told_where_no_count_says_that_nothing_was_lost(
    gap: float, told: bool
) -> None:
    """Transport streams lose their middle without a word: a decoder passes over what it cannot read."""
    times = [*np.arange(0, 1.2, 0.04), *np.arange(1.16 + gap, 3.16 + gap, 0.04)]
    source = source_of(times, frames=200, lasts=times[-1] + 0.04, sure=False)
    assert len(list(source)) == len(times)
    assert not source.broken
    note = "a.mkv: no picture for 4.0 s from 1.2 s on: a pause in the recording, or damage"
    assert source.note == (note if told else None)
    counted = source_of(times, frames=len(times))
    assert len(list(counted)) == len(times)
    assert counted.note is None


def test_a_first_picture_that_stands_until_the_others_is_called_a_later_start() -> None:
    source = source_of([0.0, *np.arange(1.6, 5.0, 0.04)], frames=125, lasts=5.0, sure=False)
    assert len(list(source)) == 86
    assert source.note == "a.mkv: no picture for 1.6 s from 0.0 s on: a later start, or damage"


def test_pictures_that_always_come_slowly_are_no_pause() -> None:
    clock = VideoClock(25.0)
    for seconds in np.cumsum(np.random.default_rng(0).choice([0.04, 5.0], 200)):
        clock.at(seconds)
    assert clock.longest > 4
    assert clock.pause is None


def test_a_picture_that_begins_after_its_sound_is_read_whole(tmp_path: Path) -> None:
    path = begin_late(video(tmp_path / "a.mp4"), 1.5)
    assert shown_seconds(path) == 1.6
    source, times = times_of(path)
    assert len(times) == 40
    assert (source.missing, source.broken, source.note) == (0, False, None)


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "MJPG"), ("a.avi", "MJPG"), ("a.flv", "FLV1")])
def test_a_file_that_is_shorter_than_its_container_says_was_cut_off(
    tmp_path: Path, name: str, codec: str
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 96, 128, 3), dtype=np.uint8)
    (tmp_path / "my dir").mkdir()
    whole = write_video(tmp_path / "my dir" / name, list(noise), codec)
    assert not is_cut_off(whole)
    source = open_video(str(whole))
    assert len(list(source)) == 40
    assert (source.missing, source.note) == (0, None)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    assert is_cut_off(whole)
    source = open_video(str(whole))
    assert 0 < len(list(source)) < 20
    assert (source.missing, source.broken, source.note) == (0, True, None)  # how many nobody knows
    assert source.ended_early().message.startswith(f"{name}: the file was cut off; pictures end at ")
    assert source.ended_early().fix == f"ffmpeg -i '{whole}' -c:v libx264 repaired.mp4"


def test_the_last_box_of_a_movie_tells_whether_it_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    boxes = b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x01mdat" + (26).to_bytes(8, "big") + bytes(10)
    for end, cut in ((len(boxes), False), (len(boxes) - 1, True)):
        path.write_bytes(boxes[:end])
        assert is_cut_off(path) == cut
    path.write_bytes(b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\0mdat" + bytes(10))  # to the file's end
    assert not is_cut_off(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x1aE\xdf\xa3",
        b"RIFF" + bytes(9),
        b"RIFF" + b"\xff" * 9,
        b"\0\0\0\1moov",
        b"\x1aE\xdf\xa3\0" * 9,
    ],
)
def test_what_does_not_tell_its_size_was_not_cut_off(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    assert not is_cut_off(tmp_path / "a")


def test_a_rate_that_cannot_be_makes_no_number_of_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matroska from a cut: OpenCV says 30000 frames a second."""
    monkeypatch.setattr("samkr_edge.frames.opening.is_cut_off", lambda path: True)
    capture = Capture(np.arange(0, 2.4, 0.04).tolist())
    facts = {cv2.CAP_PROP_FPS: 30_000.0, cv2.CAP_PROP_FRAME_COUNT: 144_990.0}
    times = capture.get
    capture.get = lambda name: facts.get(name) or times(name)  # type: ignore[method-assign]
    source = _file_source(capture, Path("a.mkv"), 0)
    assert (source.frames, source.fps) == (145, 30)
    assert len(list(source)) == 60
    assert source.broken


def test_a_last_picture_may_stand_as_long_as_others_did() -> None:
    source = source_of([0.0, 0.04, 4.0, 4.04], frames=200, lasts=8.0)
    assert len(list(source)) == 4
    assert not source.broken


def test_frames_that_an_edit_list_hides_are_not_missed(tmp_path: Path) -> None:
    path = hide_beginning(video(tmp_path / "cut.mp4"), 0.8, lasts=0.8)
    assert shown_seconds(path) == 0.8
    source, times = times_of(path)
    np.testing.assert_allclose(times, np.arange(20) * 0.04, atol=1e-3)
    assert source.frames == 40
    assert not source.broken


def test_what_is_no_movie_has_no_time(tmp_path: Path) -> None:
    whole = video(tmp_path / "a.mp4").read_bytes()
    assert shown_seconds(tmp_path / "a.mp4") == 1.6
    for data in (b"", b"\0\0\0\1moov", whole[: whole.index(b"moov") + 9], bytes(4000), b"\x1aE\xdf\xa3" * 99):
        (tmp_path / "b").write_bytes(data)
        assert shown_seconds(tmp_path / "b") is None


@pytest.mark.parametrize("fps", [25.0, 8.8, 0.2, 1 / 3600])
def test_overlays_keep_the_clock(tmp_path: Path, fps: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samkr_edge.frames.recording.h264_encoder", lambda: None)
    times = UNEVEN if fps > 1 else [i / fps for i in range(4)]
    with Recording(tmp_path, "a", fps) as recording:
        for index, seconds in enumerate(times):
            recording.write(index, seconds, Poses.empty(17), dots())
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    np.testing.assert_allclose([line["seconds"] for line in lines], times, atol=1e-4)
    _, drawn = times_of(tmp_path / "a.mp4")
    assert drawn[-1] == pytest.approx(times[-1], abs=1 / fps)
