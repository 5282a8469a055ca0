"""Steadier joints in video: the One-Euro filter, one for each tracked person.

Casiez, Roussel, Vogel: "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive Systems",
CHI 2012. A low-pass filter whose cut-off rises with speed: still joints do not tremble, fast ones do not lag. Speeds
are measured in units of the person's size, so one setting fits near and far people.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from samkr_edge.pose.placed_joints import placed_joints
from samkr_edge.pose.poses import Poses


@dataclass(frozen=True)
class SmoothSettings:
    """Attributes:

    min_cutoff: cut-off of a joint at rest, Hz; lower is steadier.
    beta: Hz by which the cut-off rises for each body size a second; higher lags less.
    speed_cutoff: cut-off of the speed's own filter, Hz.
    forget: seconds without a person after which their filter begins again.
    """

    min_cutoff: float = 1.5
    beta: float = 4.0
    speed_cutoff: float = 2.0
    forget: float = 0.5


class OneEuro:
    """The filter for one array of fixed shape; ``scale`` is the unit of length for speeds."""

    def __init__(self, settings: SmoothSettings | None = None) -> None:
        self.settings = settings or SmoothSettings()
        self.time = -np.inf
        self._value: np.ndarray | None = None
        self._speed: np.ndarray | None = None
        self._known: np.ndarray | bool = True

    def __call__(
        self, value: np.ndarray, seconds: float, scale: float = 1.0, known: np.ndarray | bool = True
    ) -> np.ndarray:
        """The filtered value (..., 2), same shape, at a time that never runs backwards.

        Where ``known`` (...,) is false the value is no measurement: it is returned as it is, and the filter begins
        again with the next one.
        """
        step = seconds - self.time
        if self._value is None or self._speed is None or step <= 0 or step > self.settings.forget:
            self._value, self._speed = value.astype(np.float64), np.zeros_like(value, np.float64)
            self.time, self._known = seconds, known
            return value
        goes_on, self._known = np.logical_and(self._known, known)[..., None], known
        speed = (value - self._value) / step
        self._speed += _share(self.settings.speed_cutoff, step) * (speed - self._speed)
        self._speed = np.where(goes_on, self._speed, 0.0)
        # One cut-off for both axes: a joint that moves along x should not freeze along y.
        pace = np.linalg.norm(self._speed, axis=-1, keepdims=True) / max(scale, 1e-6)
        share = _share(self.settings.min_cutoff + self.settings.beta * pace, step)
        self._value = np.where(goes_on, self._value + share * (value - self._value), value)
        self.time = seconds
        return self._value.astype(value.dtype)


def _share(cutoff: np.ndarray | float, step: float) -> np.ndarray | float:
    """Weight of the new value in a first-order low-pass filter of this cut-off (Hz) and time step (s)."""
    rate = 2 * np.pi * cutoff * step
    return rate / (rate + 1)


class Smoother:
    """Filters the joints of people with tracking ids; ``grouped``: see ``placed_joints``."""

    def __init__(self, settings: SmoothSettings | None = None, *, grouped: bool = False) -> None:
        self.settings = settings or SmoothSettings()
        self._grouped = grouped
        self._filters: dict[int, OneEuro] = {}

    def __call__(self, poses: Poses, seconds: float) -> Poses:
        """The same people with smoothed joints; ``poses.ids`` must be set."""
        if poses.ids is None:
            raise ValueError("smoothing needs tracking ids")
        joints = poses.keypoints.copy()
        boxes, placed = poses.boxes, placed_joints(poses.joint_scores, grouped=self._grouped)
        for row, number in enumerate(poses.ids.tolist()):
            size = float(np.hypot(*(boxes[row, 2:] - boxes[row, :2])))
            joints[row] = self._filters.setdefault(number, OneEuro(self.settings))(
                joints[row], seconds, max(size, 1.0), placed[row]
            )
        stale = [n for n, f in self._filters.items() if seconds - f.time > self.settings.forget]
        for number in stale:
            del self._filters[number]
        return replace(poses, keypoints=joints)
