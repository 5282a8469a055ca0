"""A pass over many images: the same poses, in order, holding a few images at a time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from samkr_edge.dataset.keypoint_dataset import ImageRecord
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation import many_images as stream_module
from samkr_edge.evaluation.many_images import AHEAD, stream
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.skeleton import COCO17
from samkr_edge.pose_model import PoseModel
from samkr_edge.runtime.runner import Runner

SIZE = 64


class BrightRunner(Runner):
    """One person where the image is bright."""

    kind = "onnx"

    def __init__(self) -> None:
        self.card = ModelCard("samkr_tiny", COCO17, (SIZE, SIZE))
        self.threads: set[str] = set()

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.threads.add(threading.current_thread().name)
        bright = batch[:, None, ::4, ::4, 0] / np.float32(255)
        return np.repeat(bright, 18, axis=1), np.zeros((1, 34, SIZE // 4, SIZE // 4), np.float32)

    def close(self) -> None: ...


@pytest.fixture
def records(tmp_path: Path) -> list[ImageRecord]:
    found = []
    for number in range(20):
        picture = np.zeros((SIZE, SIZE, 3), np.uint8)
        x, y = 4 * (2 + number % 12), 4 * (3 + number // 2)
        picture[y : y + 4, x : x + 4] = 255
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), picture)
        found.append(ImageRecord(number, path, SIZE, SIZE))
    return found


def model() -> PoseModel:
    return PoseModel(BrightRunner(), Path("bright.onnx"))


def test_the_poses_are_those_of_one_image_after_the_other(records: list[ImageRecord]) -> None:
    from samkr_edge.images import read_image

    streamed = list(stream(model(), records))
    assert [record.id for record, _ in streamed] == list(range(20))
    alone = model()
    for record, poses in streamed:
        expected = alone(read_image(record.path))
        assert len(expected) > 0
        np.testing.assert_array_equal(poses.keypoints, expected.keypoints)
        np.testing.assert_array_equal(poses.scores, expected.scores)


def test_the_network_keeps_the_callers_thread(records: list[ImageRecord]) -> None:
    found = model()
    list(stream(found, records))
    runner: Any = found.runner
    assert runner.threads == {threading.current_thread().name}


def test_few_images_are_held_however_many_there_are(
    records: list[ImageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, most, taken = stream_module.read_image, 0, 0
    started = 0

    def counting(path: Path) -> np.ndarray:
        nonlocal started
        started += 1
        return read(path)

    monkeypatch.setattr(stream_module, "read_image", counting)
    for _ in stream(model(), records * 10):
        most = max(most, started - taken)
        taken += 1
    assert taken == 200
    assert most <= 2 * AHEAD + 2


def test_an_unreadable_image_is_an_error_after_all_that_came_before_it(records: list[ImageRecord]) -> None:
    records[7].path.write_bytes(b"not an image")
    passing = stream(model(), records)
    assert [next(passing)[0].id for _ in range(7)] == list(range(7))
    with pytest.raises(SamkrError) as caught:
        next(passing)
    assert caught.value.code == "SE-D15"


def test_a_pass_that_is_left_early_leaves_no_thread(records: list[ImageRecord]) -> None:
    before = threading.active_count()
    passing = stream(model(), records)
    next(passing)
    passing.close()
    assert threading.active_count() == before
