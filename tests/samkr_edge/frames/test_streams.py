"""Several cameras at once: each gets its own people, none waits for another, and one that fails ends alone."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from broken_cameras import Camera, Hanging
from red_dot import dots, write_video

from samkr_edge.frames.channel import Feeds
from samkr_edge.frames.live_source import LiveSource
from samkr_edge.frames.pose_stages import FrameInFlight, SourceEnded
from samkr_edge.frames.streams import Streams, open_stream
from samkr_edge.pose_model import PoseModel, load_model
from samkr_edge.runtime.runner import Runner

PLACES = ((20, 30), (60, 40), (100, 60))


@pytest.fixture(scope="module")
def pose(red_dot_model: Path) -> PoseModel:
    return load_model(red_dot_model)


class Slow(Runner):
    """The same network as one that takes 20 ms for up to ``batch`` inputs; ``sizes`` are those it was given."""

    kind = "onnx"

    def __init__(self, inner: Runner, batch: int) -> None:
        self._inner, self._batch, self.card = inner, batch, inner.card
        self.sizes: list[int] = []

    @property
    def batch(self) -> int:
        return self._batch

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        self.sizes.append(len(batch))
        time.sleep(0.02)
        return self._inner.run(batch)


def camera(place: tuple[int, int], **how: Any) -> LiveSource:
    return LiveSource(Camera(dots(place, size=(96, 128)), **how), f"at {place}", pause=0.001)


@pytest.mark.parametrize("batched", [False, True])
def test_every_camera_gets_the_people_of_its_own_frames(pose: PoseModel, batched: bool) -> None:
    runner = Slow(pose.runner, batch=3)
    model = PoseModel(runner, pose.path) if batched else pose
    seen: Counter[int] = Counter()
    with Streams(model, [camera(place) for place in PLACES]) as streams:
        for one in streams:
            np.testing.assert_allclose(one.poses.keypoints.mean(axis=1), [PLACES[one.source]], atol=8)
            seen[one.source] += 1
            if min(seen[n] for n in range(3)) >= 5:
                break
    assert streams.pipeline.stopped
    assert not batched or max(runner.sizes) > 1


def test_a_fast_camera_does_not_starve_a_slow_one(pose: PoseModel) -> None:
    """The network is slower than the fast one, which loses most of its frames; of the slow one's far more are seen."""
    model = PoseModel(Slow(pose.runner, batch=1), pose.path)
    seen: Counter[int] = Counter()
    with Streams(model, [camera(PLACES[0], period=0.001), camera(PLACES[1], period=0.1)]) as streams:
        for one in streams:
            seen[one.source] += 1
            if seen[1] == 8:
                break
        fast, slowly = (seen[n] / (seen[n] + streams.pipeline.dropped_of(n)) for n in range(2))
        assert fast < 0.5 * slowly


def test_a_camera_that_fails_or_hangs_ends_alone(pose: PoseModel) -> None:
    hanging = Hanging(dots(PLACES[2]), lives=4)
    sources = [
        camera(PLACES[0]),
        camera(PLACES[1], lives=3),
        LiveSource(hanging, "hanging", pause=0.001, patience=0.2),
    ]
    failures = {}
    after = 0
    with Streams(pose, sources) as streams:
        for one in streams:
            if isinstance(one, SourceEnded):
                assert one.failure is not None
                failures[one.source] = one.failure.__cause__.code  # type: ignore[union-attr]
            elif len(failures) == 2:
                after += 1
                assert one.source == 0
            if after == 5:
                hanging.free.set()
                break
    assert failures == {1: "SE-V96", 2: "SE-V96"}


def test_files_at_the_same_time_are_read_whole_each_with_its_end(pose: PoseModel, tmp_path: Path) -> None:
    lengths = (4, 9)
    sources = [
        open_stream(str(write_video(tmp_path / f"{n}.mp4", [dots((20 + i, 30)) for i in range(n)])))
        for n in lengths
    ]
    frames: Counter[int] = Counter()
    ended = []
    with Streams(pose, sources) as streams:
        for one in streams:
            if isinstance(one, SourceEnded):
                ended.append((one.source, one.failure, frames[one.source]))
            else:
                frames[one.source] += 1
    assert sorted(ended) == [(0, None, 4), (1, None, 9)]  # which one ends first depends on the machine
    assert streams.pipeline.dropped == 0


def test_opencvs_threads_come_back_whatever_order_streams_end_in(pose: PoseModel) -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        first, second = (Streams(pose, [camera(PLACES[0])]) for _ in range(2))
        first.__enter__()
        second.__enter__()
        assert cv2.getNumThreads() == 1
        first.__exit__()
        assert cv2.getNumThreads() == 1
        second.__exit__()
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_feeds_take_in_turn() -> None:
    feeds = Feeds([False, False, False], depth=4, most=2)
    for number in range(3):
        for channel in feeds.channels[:2]:
            channel.put((number, f"{number}"))
    feeds.channels[2].put((0, "x"))
    for channel in feeds.channels:
        channel.end()
    order = []
    for _ in range(5):
        order += [source for source, _ in feeds.get()[1]]
    assert order[:4] == [0, 1, 2, 0]
    assert Counter(order) == {0: 4, 1: 4, 2: 2}  # with their ends


def test_a_stage_hands_on_what_is_made_of_each_frame(pose: PoseModel) -> None:
    def finish(seen: FrameInFlight) -> tuple[int, int]:
        return seen.source, len(seen.poses)

    with Streams(pose, [camera(place) for place in PLACES[:2]], finish) as streams:
        found = iter(streams)
        assert {next(found) for _ in range(20)} == {(0, 1), (1, 1)}
