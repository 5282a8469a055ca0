"""People that a network sees on the probe images, and what became of them in a built model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class People:
    """People that a source sees clearly.

    Attributes:
        image: (P,) index of the image of each.
        centers: int (P, 2) x, y of the centre, map pixels; 0 with grouping, which has none.
        values: (P,) of the centre heatmap; with grouping the person's score.
        joints: (P, K, 2) x, y in input pixels.
        clear: bool (P, K) joints to be compared: with grouping those of a high peak, else all.
        grain: how far the smallest rounding may move a joint, input pixels: the steps in which peaks are found.
    """

    image: np.ndarray
    centers: np.ndarray
    values: np.ndarray
    joints: np.ndarray
    clear: np.ndarray
    grain: float = 0.0

    def __len__(self) -> int:
        return len(self.image)

    @property
    def diagonals(self) -> np.ndarray:
        """(P,) diagonals of the boxes around the clear joints, input pixels: the others may be anywhere."""
        clear = self.clear[..., None]
        low = np.where(clear, self.joints, np.inf).min(axis=1)
        high = np.where(clear, self.joints, -np.inf).max(axis=1)
        return np.asarray(np.linalg.norm(high - low, axis=1))


@dataclass(frozen=True)
class Staying:
    """What became of people: how many there are, how many stay, and how far the joints of those moved, input pixels."""

    people: int
    kept: int
    moved: np.ndarray  # of all joints of those kept that were compared, (M,)

    @property
    def median(self) -> float:
        return float(np.median(self.moved)) if self.moved.size else 0.0

    @property
    def largest(self) -> float:
        return float(self.moved.max(initial=0.0))
