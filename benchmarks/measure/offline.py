"""MLPerf's offline mode: all images are at hand; images per second count, not the latency of one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from samkr_edge.pose.poses import Poses
from samkr_edge.pose_model import PoseModel, StageTimes


class Batched:
    """A model that takes a list of images per call. Times are of the whole batch."""

    def __init__(self, model: PoseModel, batch: int) -> None:
        self.model = model
        self._input = model.new_input(batch)

    def timed(self, images: Sequence[np.ndarray]) -> tuple[list[Poses], StageTimes]:
        """``batch`` uint8 (H, W, 3) RGB images -> their poses."""
        return self.model.timed_batch(images, self._input)


def batches(images: Sequence[np.ndarray], size: int) -> list[list[np.ndarray]]:
    """Images (H, W, 3) in groups of ``size``, same shape, going round where the last is short; each begins one."""
    return [[images[(start + k) % len(images)] for k in range(size)] for start in range(0, len(images), size)]
