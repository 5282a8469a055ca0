"""What ``samkr_edge.watch`` gives of every frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from samkr_edge.pose.poses import Poses


@dataclass(frozen=True, eq=False)
class WatchedFrame:
    """One frame; ``frame, time, poses = ...`` unpacks it.

    Attributes:
        frame: uint8 (H, W, 3) RGB, the caller's own.
        time: seconds in the video, or since the camera was opened.
        poses: its people, in pixels of the frame.
        index: its number in the video, or how many of the camera's were read before it.
        source: the number of its source, from 0.
    """

    frame: np.ndarray
    time: float
    poses: Poses
    index: int = 0
    source: int = 0

    def __iter__(self) -> Iterator[Any]:
        return iter((self.frame, self.time, self.poses))
