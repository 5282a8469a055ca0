"""Offline mode, as MLPerf calls it: all images are at hand, what counts is images a second, not one image's wait."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from samkr_edge.pose.poses import Poses
from samkr_edge.pose_model import PoseModel, StageTimes


class Batched:
    """A model that takes a list of images a call. Times are of the whole batch."""

    def __init__(self, model: PoseModel, batch: int) -> None:
        self.model = model
        self._input = np.zeros((batch, *model.card.input_size, 3), np.uint8)

    def timed(self, images: Sequence[np.ndarray]) -> tuple[list[Poses], StageTimes]:
        """``batch`` uint8 (H, W, 3) RGB images -> their poses."""
        started = time.perf_counter()
        fits = [self.model.preprocess(image, out) for image, out in zip(images, self._input, strict=True)]
        prepared = time.perf_counter()
        outputs = self.model.runner.run(self._input)
        ran = time.perf_counter()
        poses = [self.model.poses(one, fit) for *one, fit in zip(*outputs, fits, strict=True)]
        done = time.perf_counter()
        inside = self.model.runner.last_run_ms or (0.0, (ran - prepared) * 1e3, 0.0)
        times = StageTimes((prepared - started) * 1e3, inside[1], (done - ran) * 1e3, inside[0], inside[2])
        return poses, times


def batches(images: Sequence[np.ndarray], size: int) -> list[list[np.ndarray]]:
    """Images (H, W, 3) in groups of ``size``, going round where they do not come out even; each begins one group."""
    return [[images[(start + k) % len(images)] for k in range(size)] for start in range(0, len(images), size)]
