"""Parts of videos: the frames are those that reading everything gives, with their numbers and times."""

from math import inf
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from red_dot import dots, write_video

from samkr_edge.errors import SamkrError
from samkr_edge.frames.excerpt import Excerpt, seconds_of
from samkr_edge.frames.opening import open_video
from samkr_edge.frames.video import Frame, VideoSource

WALK = [dots((20 + 2 * i, 30)) for i in range(40)]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("walk") / "walk.mp4", WALK)


@pytest.mark.parametrize(
    ("excerpt", "numbers"),
    [
        (Excerpt(every=7), range(0, 40, 7)),
        (Excerpt(start=0.5), range(13, 40)),
        (Excerpt(start=0.52, stop=0.8), range(13, 20)),
        (Excerpt(every=4, start=0.1, stop=1.0), range(3, 25, 4)),
    ],
)
@pytest.mark.parametrize("ring", [0, 3])
def test_frames_are_those_of_the_whole_video(walk: Path, excerpt: Excerpt, numbers: range, ring: int) -> None:
    whole = {frame.index: frame for frame in open_video(str(walk))}
    source = open_video(str(walk), ring=ring, excerpt=excerpt)
    found = []
    for frame in source:
        assert frame.image is not None
        np.testing.assert_array_equal(frame.image, whole[frame.index].image)
        assert frame.seconds == whole[frame.index].seconds
        found.append(frame.index)
    assert found == list(numbers)
    assert source.expected == len(found)
    assert (source.broken, source.missing, source.note) == (False, 0, None)


def test_a_capture_that_cannot_skip_reads(walk: Path) -> None:
    class Reading:
        def __init__(self) -> None:
            self.at = -1

        def read(self, image: Any = None) -> tuple[bool, Any]:
            self.at += 1
            if self.at == 9:
                raise cv2.error("corrupt")
            return (True, WALK[self.at]) if self.at < len(WALK) else (False, None)

        def get(self, property: int) -> float:
            return 40.0 * self.at

        def release(self) -> None: ...

    source = VideoSource(Reading(), "a.mp4", fps=25, frames=40, ring=2, excerpt=Excerpt(every=5, start=0.2))
    seen: list[Frame] = list(source)
    assert [frame.seconds for frame in seen] == pytest.approx([0.2, 0.44, 0.64, 0.84, 1.04, 1.24, 1.44])
    assert source.missing == 1


def test_a_part_behind_the_end_is_an_error_that_says_where_the_end_is(walk: Path) -> None:
    source = open_video(str(walk), excerpt=Excerpt(start=9, stop=10))
    assert list(source) == []
    assert source.broken
    error = source.ended_early()
    assert error.code == "SE-D31"
    assert error.facts["its last frame"] == "number 39, at 1.56 s"


def test_a_live_source_has_no_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Camera:
        released = False

        def isOpened(self) -> bool:
            return True

        def release(self) -> None:
            self.released = True

    camera = Camera()
    monkeypatch.setattr("samkr_edge.frames.opening.open_live", lambda source: (camera, "camera0"))
    with pytest.raises(SamkrError) as caught:
        open_video("0", excerpt=Excerpt(every=2))
    assert caught.value.code == "SE-U11"
    assert camera.released


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("1:30", 90),
        ("01:02:03.25", 3723.25),
        (" 0 ", 0),
        ("120:00", None),
        ("0:59.5", 59.5),
    ],
)
def test_times_are_written_as_people_write_them(text: str, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(ValueError, match="is no time"):
            seconds_of(text)
    else:
        assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "1:75", "-3", "1:2:3:4", "1h", "nan", "1:", ":30"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        seconds_of(text)


def test_an_excerpt_says_how_many_frames_it_has() -> None:
    assert Excerpt(3, 1.0, 2.0).frames(100, 25) == 9
    assert Excerpt(1, 9.0).frames(100, 25) == 0
    assert Excerpt().whole
    assert not Excerpt(stop=3).whole
    assert Excerpt(stop=inf).whole
