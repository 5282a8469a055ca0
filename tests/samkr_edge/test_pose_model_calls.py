"""Image in, people out: where they are, in one or several images, and without allocating per frame."""

import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from red_dot import dots

import samkr_edge
from samkr_edge.errors import SamkrError
from samkr_edge.pose_model import BATCH, PoseModel
from samkr_edge.runtime.runner import Runner


@pytest.fixture(scope="module")
def pose(red_dot_model: Path) -> PoseModel:
    return samkr_edge.load(red_dot_model, threads=1)


def rgb(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def test_people_are_where_the_image_shows_them(pose: PoseModel) -> None:
    poses = pose(rgb(dots((30, 40), (100, 60))))
    assert len(poses) == 2
    middles = sorted(poses.keypoints.mean(axis=1).tolist())
    np.testing.assert_allclose(middles, [[30, 40], [100, 60]], atol=8)  # a map pixel is 8 image pixels here


def test_a_batch_equals_its_images_one_by_one_whatever_their_sizes(pose: PoseModel) -> None:
    random = np.random.default_rng(0)
    images = []
    for _ in range(BATCH + 3):
        h, w = random.integers(40, 300, 2).tolist()
        images.append(rgb(dots((w * 0.3, h * 0.4), (w * 0.7, h * 0.6), size=(h, w))))
    for image, found in zip(images, pose.batch(images), strict=True):
        np.testing.assert_array_equal(found.keypoints, pose(image).keypoints)
    assert pose.batch([]) == []


def test_nobody_is_found_in_the_padding(pose: PoseModel) -> None:
    image = rgb(dots((50, 40), size=(80, 160)))
    buffer = pose.new_input()
    fit = pose.preprocess(image, buffer[0])
    assert not buffer[0, :14].any()  # padding above
    buffer[0, 4:10, 20:26, 0] = 255
    outputs = [output[0] for output in pose.runner.run(buffer)]
    found = pose.poses(outputs, fit)
    np.testing.assert_array_equal(found.keypoints, pose(image).keypoints)
    assert len(found) == 1
    assert outputs[0][-1, 1:3, 5:7].max() > 0.5  # where the network does see somebody


def test_bgr_frames_give_the_same_input_as_rgb_images(pose: PoseModel) -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    first, second = pose.new_input()[0], pose.new_input()[0]
    pose.preprocess(image, first, bgr=True)
    pose.preprocess(rgb(image), second)
    assert first.any()
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 300), (300, 1), (17, 33), (2, 20_000), (1, 40_000), (1500, 20_000)]
)
def test_every_size_of_image_is_taken(pose: PoseModel, shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 90, np.uint8)
    buffer = pose.new_input()[0]
    matrix = pose.preprocess(image, buffer).matrix
    assert np.isfinite(matrix).all()
    assert buffer.max() > 0 or min(shape) * matrix[0, 0] < 1  # thinner than a pixel of the input
    assert np.isfinite(pose(image).keypoints).all()


NO_IMAGES = [
    (None, "NoneType"),
    ("a.jpg", "str"),
    (Path("a.jpg"), "Path"),
    ([[[0, 0, 0]]], "list"),
    (np.zeros((9, 9), np.uint8), r"uint8 \(9, 9\)"),
    (np.zeros((9, 9, 4), np.uint8), r"uint8 \(9, 9, 4\)"),
    (np.zeros((9, 9, 3)), "float64"),
    (np.zeros((0, 9, 3), np.uint8), r"uint8 \(0, 9, 3\)"),
]


@pytest.mark.parametrize(("image", "found"), NO_IMAGES)
def test_what_is_no_rgb_image_is_refused_by_name(pose: PoseModel, image: np.ndarray, found: str) -> None:
    for call in (pose, pose.timed, lambda image: pose.batch([image])):
        with pytest.raises(ValueError, match=rf"uint8 \(H, W, 3\).*found .*{found}"):
            call(image)


@pytest.mark.parametrize("threshold", ["Sure", "0.3", float("nan")])
def test_what_is_no_least_score_is_refused_by_name(pose: PoseModel, threshold: Any) -> None:
    image = rgb(dots((30, 40)))
    for call in (lambda: pose(image, threshold), lambda: pose.batch([image], threshold)):
        with pytest.raises(ValueError, match=f"expected a least score, .*found {threshold!r}"):
            call()


@pytest.mark.parametrize("images", [None, 3, "a.jpg"])
def test_a_batch_of_nothing_that_holds_images_is_refused(pose: PoseModel, images: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="expected several images, found"):
        pose.batch(images)


def test_a_batch_may_come_from_a_generator_or_be_one_array(pose: PoseModel) -> None:
    image = rgb(dots((30, 40)))
    expected = pose(image).keypoints
    for images in ((image for _ in range(BATCH + 1)), np.stack([image] * (BATCH + 1))):
        found = pose.batch(images)
        assert len(found) == BATCH + 1
        np.testing.assert_array_equal(found[-1].keypoints, expected)


class Gathered(Runner):
    """A runner whose runs begin when so many threads have come to it."""

    def __init__(self, runner: Runner, threads: int) -> None:
        self.card, self.kind, self.close, self._runner = runner.card, runner.kind, runner.close, runner
        self._all_here = threading.Barrier(threads, timeout=30)

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        self._all_here.wait()
        return self._runner.run(batch)


def test_every_thread_gets_the_poses_of_its_own_image(pose: PoseModel) -> None:
    images = [rgb(dots((20 + 10 * i, 40), size=(96, 128 + 16 * i))) for i in range(8)]
    alone = [pose(image) for image in images]
    shared = PoseModel(Gathered(pose.runner, len(images)), pose.path)
    with ThreadPoolExecutor(len(images)) as threads:
        together = list(threads.map(shared, images))
    for found, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(found.keypoints, expected.keypoints)


class Eager(Runner):
    """A network that takes faint places for people too."""

    kind = "onnx"

    def __init__(self, inner: Runner) -> None:
        self.run = inner.run  # type: ignore[method-assign]
        self.card = replace(inner.card, decode=replace(inner.card.decode, center_threshold=0.01))


def test_faint_candidates_are_left_out_unless_asked_for(pose: PoseModel) -> None:
    eager = PoseModel(Eager(pose.runner), pose.path)
    image = rgb(dots((30, 40)) + dots((100, 60)) // 12)
    everyone = eager(image, threshold=None)
    assert [score >= pose.card.sure_person for score in everyone.scores] == [True, False]
    for found in (eager(image), eager.batch([image])[0]):
        assert len(found) == 1
        assert found.skeleton is eager.card.skeleton
    assert len(eager.batch([image], threshold=None)[0]) == len(eager.timed(image)[0]) == 2
    assert len(eager(image, threshold=float(everyone.scores[0]) + 0.01)) == 0


def test_a_model_is_closed_by_with_and_refuses_afterwards(red_dot_model: Path) -> None:
    image = rgb(dots((30, 40)))
    with samkr_edge.load(red_dot_model) as model:
        assert len(model(image)) == 1
    for call in (model, lambda image: model.batch([image, image])):
        with pytest.raises(ValueError, match="closed"):
            call(image)
    model.close()


@pytest.mark.parametrize("path", [None, 3, ["a.onnx"]])
def test_what_is_no_path_is_not_opened(path: str) -> None:
    with pytest.raises(SamkrError) as caught:
        samkr_edge.load(path)
    assert caught.value.code == "SE-U24"
    assert repr(path) in caught.value.message


def peak_of(work: Callable[[], object]) -> int:
    """Bytes that one call holds at most, over what was there before."""
    work()
    work()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def test_preprocessing_a_frame_allocates_no_pixels(pose: PoseModel) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    buffer = pose.new_input()[0]
    assert peak_of(lambda: pose.preprocess(frame, buffer, bgr=True)) < 8_000  # the frame has 2,764,800 bytes


def test_memory_stands_still_from_frame_to_frame(pose: PoseModel) -> None:
    frame = rgb(dots((30, 40), (100, 60)))
    tracemalloc.start()
    try:
        for _ in range(200):  # until the free lists of Python and NumPy are full
            pose(frame)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            pose(frame)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    # 100 bytes a frame, less than the header of one array; other threads of the test runner allocate a little too.
    assert grown < 10_000
