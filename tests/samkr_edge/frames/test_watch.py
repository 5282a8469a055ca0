"""``samkr_edge.watch``: a loop over frames and people that leaves nothing behind, however it is left."""

import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from broken_cameras import Camera
from red_dot import dots, write_video

import samkr_edge
from samkr_edge.errors import SamkrError
from samkr_edge.frames.live_source import LiveSource
from samkr_edge.pose_model import PoseModel

PLACES = [(20 + 2 * i, 30) for i in range(30)]


@pytest.fixture(scope="module")
def pose(red_dot_model: Path) -> PoseModel:
    return samkr_edge.load(red_dot_model)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("walk") / "walk.mp4", [dots(place) for place in PLACES])


@pytest.fixture(autouse=True)
def all_threads_end() -> Iterator[None]:
    """Those of the test; another test's camera may still hang."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_frames_times_and_people_of_a_video(pose: PoseModel, walk: Path) -> None:
    seen = list(samkr_edge.watch(walk, pose))
    assert [one.index for one in seen] == list(range(30))
    for (frame, _, poses), place in zip(seen, PLACES, strict=True):
        assert frame[30, place[0], 0] > 150  # red, where RGB has it
        assert frame[30, place[0], 2] < 80
        assert [person.id for person in poses] == [1]
        assert abs(poses.keypoints.mean(axis=1)[0, 0] - place[0]) < 16  # smoothed: it lags a little
    assert [one.time for one in seen] == pytest.approx([i / 25 for i in range(30)])
    assert len({id(one.frame) for one in seen}) == 30


def test_what_is_wanted_of_a_video_can_be_chosen(red_dot_model: Path, walk: Path) -> None:
    some = list(samkr_edge.watch(str(walk), red_dot_model, track=False, every=5, start=0.2, stop=0.8))
    assert [one.index for one in some] == [5, 10, 15]
    assert all(one.poses.ids is None for one in some)
    assert all(len(one.poses) == 0 for one in samkr_edge.watch(walk, red_dot_model, threshold=2.0))
    with pytest.raises(ValueError, match="no frame"):
        samkr_edge.watch(walk, red_dot_model, start=3, stop=2)


@pytest.mark.parametrize("leave", ["break", "raise", "close"])
def test_leaving_the_loop_leaves_nothing_behind(pose: PoseModel, walk: Path, leave: str) -> None:
    threads, before = cv2.getNumThreads(), set(threading.enumerate())
    cv2.setNumThreads(3)
    try:
        watching = samkr_edge.watch(walk, pose)
        if leave == "close":
            next(watching)
            watching.close()  # type: ignore[attr-defined]
        elif leave == "break":
            for _ in samkr_edge.watch(walk, pose):
                break
        else:
            with pytest.raises(ZeroDivisionError):
                sum(1 // 0 for _ in samkr_edge.watch(walk, pose))
        assert set(threading.enumerate()) <= before
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(threads)
    assert len(pose(np.ascontiguousarray(dots((30, 40))[..., ::-1]))) == 1  # it stays open


def test_several_sources_say_which_one_a_frame_is_from(pose: PoseModel, walk: Path, tmp_path: Path) -> None:
    other = write_video(tmp_path / "other.mp4", [dots((100, 60))] * 4)
    seen = list(samkr_edge.watch([walk, other], pose, smooth=False))
    assert [sum(one.source == number for one in seen) for number in range(2)] == [30, 4]
    for one in seen:
        place = PLACES[one.index] if one.source == 0 else (100, 60)
        np.testing.assert_allclose(one.poses.keypoints.mean(axis=1), [place], atol=8)


def test_a_camera_that_is_lost_is_an_error_after_its_frames_and_not_the_end_of_others(
    pose: PoseModel, walk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def opened(source: str, **_: object) -> LiveSource:
        return LiveSource(Camera(dots((30, 40)), lives=4), "camera0", pause=0.001)

    monkeypatch.setattr("samkr_edge.frames.watch.open_video", opened)
    seen: list[int] = []
    with pytest.raises(SamkrError) as caught:
        seen.extend(one.source for one in samkr_edge.watch([0, 1], pose, reconnect=False))
    assert caught.value.code == "SE-V96"
    assert set(seen) == {0, 1}
    assert capsys.readouterr().err.count("SE-V96") == 1  # of the first; the second is raised


def test_what_does_not_open_is_an_error(pose: PoseModel, walk: Path, tmp_path: Path) -> None:
    with pytest.raises(SamkrError) as caught:
        next(samkr_edge.watch([walk, tmp_path / "none.mp4"], pose))
    assert caught.value.code == "SE-A23"
    with pytest.raises(SamkrError, match="is a folder, not a video"):
        next(samkr_edge.watch(tmp_path, pose))
    with pytest.raises(SamkrError, match="has no frame in the part"):
        list(samkr_edge.watch(walk, pose, start=60))
