"""Training targets: Gaussians for joints and centres, offsets around centres, and the weights of both.

Source: DEKR (HRNet/DEKR), with the facts and quirks of its data code. Convention: map pixel i is centred on input
pixel 4 i, so a joint's map coordinate is its input coordinate / 4; offset = location - joint in map pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EncodeSettings:
    """How targets are made.

    Attributes:
        sigma: of keypoint Gaussians, map pixels.
        center_sigma: of the person centre's.
        offset_radius: offsets are learnt in a window of this half width around each centre.
        background_weight: heatmap weight away from every Gaussian.
        parity: reproduce two quirks of the official code, for comparing losses with it: on 14-keypoint data the
            centre has the keypoints' sigma (its test is ``channel < 17``), and a person's "area" is
            max_x^2 + max_y^2 in image coordinates (its minimum is always 0), which depends on where the person
            stands. The default is what was meant: the centre's own sigma and the squared diagonal of the joints' box.
    """

    sigma: float = 2.0
    center_sigma: float = 4.0
    offset_radius: int = 4
    background_weight: float = 0.1
    parity: bool = False


@dataclass(frozen=True)
class Targets:
    """Targets of one image; all float32.

    heatmap and heatmap_weight (K+1, h, w), offset and offset_weight (2K, h, w).
    """

    heatmap: np.ndarray
    heatmap_weight: np.ndarray
    offset: np.ndarray
    offset_weight: np.ndarray


def encode(
    joints: np.ndarray,
    areas: np.ndarray,
    map_hw: tuple[int, int],
    settings: EncodeSettings,
    valid: np.ndarray | None = None,
    has_center: np.ndarray | None = None,
) -> Targets:
    """Targets of one image.

    Args:
        joints: float (P, K, 3): x, y in map pixels and visibility; > 0 means labelled.
        areas: float (P,): squared size of each person in input pixels; smaller people win where windows overlap.
        map_hw: (h, w).
        settings: sigmas and radii.
        valid: float (h, w), 0 where nothing is known (crowds, unlabelled people, padding); None is 1 everywhere.
        has_center: bool (P,): False leaves a person (too small) without centre and offsets; None is all True.
    """
    people, keypoints = joints.shape[:2]
    h, w = map_hw
    heatmap = np.zeros((keypoints + 1, h, w), np.float32)
    weight = np.full((keypoints + 1, h, w), settings.background_weight, np.float32)
    offset = np.zeros((2 * keypoints, h, w), np.float32)
    offset_weight = np.zeros((2 * keypoints, h, w), np.float32)
    center_sigma = settings.center_sigma
    if settings.parity and keypoints < 17:
        center_sigma = settings.sigma
    for person in range(people):
        labelled = joints[person, :, 2] > 0
        for k in np.flatnonzero(labelled):
            _draw(heatmap[k], weight[k], joints[person, k, :2], settings.sigma)
        if not labelled.any() or (has_center is not None and not has_center[person]):
            continue
        center = joints[person, labelled, :2].mean(axis=0)
        if _draw(heatmap[-1], weight[-1], center, center_sigma):
            _offsets(
                offset, offset_weight, joints[person], center, float(areas[person]), settings.offset_radius
            )
    if valid is not None:
        weight *= valid
    return Targets(heatmap, weight, offset, offset_weight)


def _draw(target: np.ndarray, weight: np.ndarray, point: np.ndarray, sigma: float) -> bool:
    """Add one Gaussian around a sub-pixel point, by maximum; False where the point is outside the map."""
    h, w = target.shape
    x, y = float(point[0]), float(point[1])
    if not (0 <= x < w and 0 <= y < h):
        return False
    left, right = max(0, int(np.floor(x - 3 * sigma - 1))), min(w, int(np.ceil(x + 3 * sigma + 2)))
    top, bottom = max(0, int(np.floor(y - 3 * sigma - 1))), min(h, int(np.ceil(y + 3 * sigma + 2)))
    column = np.exp(-((np.arange(left, right) - x) ** 2) / (2 * sigma**2))
    row = np.exp(-((np.arange(top, bottom) - y) ** 2) / (2 * sigma**2))
    window = target[top:bottom, left:right]
    np.maximum(window, np.outer(row, column), out=window)
    weight[top:bottom, left:right] = 1.0
    return True


def _offsets(
    offset: np.ndarray, weight: np.ndarray, joints: np.ndarray, center: np.ndarray, area: float, radius: int
) -> None:
    """Write location - joint into the window around the integer centre, where no smaller person stands already."""
    _, h, w = offset.shape
    cx, cy = int(center[0]), int(center[1])
    left, right = max(0, cx - radius), min(w, cx + radius)
    top, bottom = max(0, cy - radius), min(h, cy + radius)
    ys, xs = np.mgrid[top:bottom, left:right].astype(np.float32)
    own = 1.0 / np.sqrt(max(area, 1e-6))
    for k in np.flatnonzero(joints[:, 2] > 0):
        x, y = joints[k, :2]
        if not (0 <= x < w and 0 <= y < h):
            continue
        window = weight[2 * k, top:bottom, left:right]
        free = window <= own  # a larger weight is a smaller person, who keeps the place
        for channel, values in ((2 * k, xs - x), (2 * k + 1, ys - y)):
            offset[channel, top:bottom, left:right][free] = values[free]
            weight[channel, top:bottom, left:right][free] = own
