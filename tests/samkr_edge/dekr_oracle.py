"""DEKR's multi-scale test and its matching, read off the description of its code and written down plainly.

An oracle for the product, of which it uses nothing: one joint, one pose, one peak after the other, in float64.
Fitting is SciPy's ``curve_fit``, as in DEKR. Two things of DEKR's matching are left out here as in the product: where
its 13x13 window is cut off by the map its axes no longer match, so the joints of the tests keep away from there; and
where a fit ends outside its window DEKR takes it, wherever that is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

STRIDE = 4
PEOPLE = 30
CENTER_THRESHOLD = 0.01
NMS_DISTANCE = {False: 0.05, True: 0.15}  # by whether there are several scales


@dataclass
class ForwardPass:
    """The network's outputs for one scale: maps (K+1, h, w) and (2K, h, w), the mirrored image's where flipped."""

    scale: float
    heatmap: np.ndarray
    offset: np.ndarray
    mirrored_heatmap: np.ndarray | None = None
    mirrored_offset: np.ndarray | None = None


@dataclass
class Person:
    """Joints (K, 2) in base-input pixels, their scores (K,), the person's score."""

    joints: np.ndarray
    joint_scores: np.ndarray
    score: float


def people_of(
    passes: Sequence[ForwardPass],
    base_hw: tuple[int, int],
    flip_order: Sequence[int],
    *,
    near_joints: int,
    decrease: float,
    match: bool = False,
) -> list[Person]:
    """People in base-input pixels, in no order."""
    keypoints = len(flip_order)
    summed = np.zeros((keypoints + 1, *base_hw))
    found: dict[float, list[tuple[np.ndarray, float]]] = {}
    for one in sorted(passes, key=lambda p: -p.scale):
        heatmap, poses = flipped(one, flip_order)
        step = STRIDE / one.scale
        for channel in range(keypoints + 1):
            summed[channel] += upsampled(heatmap[channel], step, base_hw)
        found[one.scale] = [
            (step * poses[:, :, y, x], value) for value, x, y in center_peaks(heatmap[keypoints])
        ]
    mean = summed / len(passes)
    highest = max((value for _, value in found[1.0]), default=1.0)
    proposals: list[tuple[np.ndarray, float]] = []
    for scale, poses_there in found.items():
        own = max((value for _, value in poses_there), default=1.0)
        for joints, value in poses_there:
            proposals.append((joints, value if scale == 1.0 else value / own * highest * decrease))
    heat = [[looked_up(mean[k], *joints[k]) for k in range(keypoints)] for joints, _ in proposals]
    kept = survivors([joints for joints, _ in proposals], heat, NMS_DISTANCE[len(passes) > 1], near_joints)
    people = []
    for index in kept:
        joints, center = proposals[index]
        joint_scores = np.array([center * value for value in heat[index]])
        people.append(Person(joints.copy(), joint_scores, float(joint_scores.mean())))
    if match:
        absorb(people, mean)
        adjust(people, mean)
    return people


def flipped(one: ForwardPass, flip_order: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps (K+1, h, w), and for every pixel the joints (K, 2, h, w), both averaged with the mirrored image's."""
    heatmap, joints = one.heatmap.astype(np.float64), joints_of(one.offset)
    if one.mirrored_heatmap is None or one.mirrored_offset is None:
        return heatmap, joints
    width = heatmap.shape[2]
    mirrored = joints_of(one.mirrored_offset)
    mean_heatmap, mean_joints = heatmap.copy(), joints.copy()
    for k, partner in enumerate([*flip_order, len(flip_order)]):
        mean_heatmap[k] = (heatmap[k] + one.mirrored_heatmap[partner][:, ::-1]) / 2
    for k, partner in enumerate(flip_order):
        mean_joints[k, 0] = (joints[k, 0] + (width - 1 - mirrored[partner, 0])[:, ::-1]) / 2
        mean_joints[k, 1] = (joints[k, 1] + mirrored[partner, 1][:, ::-1]) / 2
    return mean_heatmap, mean_joints


def joints_of(offset: np.ndarray) -> np.ndarray:
    """location - offset for every pixel: (2K, h, w) -> (K, 2, h, w)."""
    joints = np.zeros((len(offset) // 2, 2, *offset.shape[1:]))
    ys, xs = np.mgrid[: offset.shape[1], : offset.shape[2]]
    for k in range(len(joints)):
        joints[k, 0] = xs - offset[2 * k]
        joints[k, 1] = ys - offset[2 * k + 1]
    return joints


def upsampled(channel: np.ndarray, step: float, size_hw: tuple[int, int]) -> np.ndarray:
    """(h, w) -> size_hw, bilinear: index i lands on step * i exactly; beyond the last one the border repeats."""
    height, width = channel.shape
    rows = [np.interp(np.arange(size_hw[1]) / step, np.arange(width), row) for row in channel]
    columns = [
        np.interp(np.arange(size_hw[0]) / step, np.arange(height), column) for column in np.array(rows).T
    ]
    return np.array(columns).T


def center_peaks(center: np.ndarray) -> list[tuple[float, int, int]]:
    """(value, x, y) of the local maxima above the threshold, best first, at most 30."""
    height, width = center.shape
    middle = (height + width) / 2
    reach = 3 if middle > 300 else 2 if middle > 200 else 1
    peaks = []
    for y in range(height):
        for x in range(width):
            around = center[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            if center[y, x] == around.max():
                peaks.append((float(center[y, x]), x, y))
    peaks.sort(key=lambda peak: -peak[0])
    return [peak for peak in peaks[:PEOPLE] if peak[0] > CENTER_THRESHOLD]


def looked_up(channel: np.ndarray, x: float, y: float) -> float:
    """The value at the pixel that holds (x, y); the nearest one of the border outside."""
    height, width = channel.shape
    return float(channel[min(max(int(np.floor(y)), 0), height - 1), min(max(int(np.floor(x)), 0), width - 1)])


def survivors(
    poses: Sequence[np.ndarray], heat: Sequence[Sequence[float]], distance: float, near_joints: int
) -> list[int]:
    """Pose NMS in the order of the proposals: of each group the one with the best mean heat."""
    mean_heat = [sum(values) / len(values) for values in heat]
    ignored: set[int] = set()
    kept: list[int] = []
    for i, pose in enumerate(poses):
        if i in ignored:
            continue
        diagonal = np.hypot(np.ptp(pose[:, 0]), np.ptp(pose[:, 1]))
        group = []
        for j, other in enumerate(poses):
            near = sum(np.hypot(*(pose[k] - other[k])) < distance * diagonal for k in range(len(pose)))
            if near > near_joints:
                group.append(j)
        best = max(group, key=lambda j: mean_heat[j])
        if best in ignored:
            continue
        kept.append(best)
        ignored.update(group)
    return sorted(kept, key=lambda i: -mean_heat[i])[:PEOPLE] if len(kept) > PEOPLE else kept


def absorb(people: Sequence[Person], mean: np.ndarray) -> None:
    """Each joint moves to the nearest of its map's 30 highest peaks (5x5), if that is nearer than 75 pixels."""
    for k in range(len(mean) - 1):
        padded = np.pad(mean[k], 2, constant_values=-np.inf)
        height, width = mean[k].shape
        highest = np.full((height, width), -np.inf)
        for dy in range(5):
            for dx in range(5):
                highest = np.maximum(highest, padded[dy : dy + height, dx : dx + width])
        at = [(mean[k][y, x], x, y) for y, x in zip(*np.nonzero(mean[k] == highest), strict=True)]
        peaks = sorted(at, key=lambda peak: -peak[0])[:30]
        for person in people:
            far = [np.hypot(x - person.joints[k, 0], y - person.joints[k, 1]) for _, x, y in peaks]
            nearest = int(np.argmin(far))
            if far[nearest] < 75:
                person.joints[k] = peaks[nearest][1:]


def adjust(people: Sequence[Person], mean: np.ndarray) -> None:
    """Joints with a score above 0.05 move to the centre of a Gaussian fitted to the 13x13 pixels around them."""
    curve_fit = pytest.importorskip("scipy.optimize").curve_fit

    def gaussian(
        at: tuple[np.ndarray, np.ndarray], height: float, x0: float, y0: float, sigma: float
    ) -> np.ndarray:
        return height * np.exp(-((at[0] - x0) ** 2 + (at[1] - y0) ** 2) / (2 * sigma**2))

    for person in people:
        for k in range(len(mean) - 1):
            if person.joint_scores[k] <= 0.05:
                continue
            x, y = (int(value + 0.5) for value in person.joints[k])
            left, top = x - 6, y - 6
            window = mean[k][max(top, 0) : top + 13, max(left, 0) : left + 13]
            assert window.shape == (13, 13), "the tests keep joints away from the border"
            ys, xs = np.mgrid[0:13, 0:13]
            try:
                fitted, _ = curve_fit(
                    gaussian,
                    (xs.ravel(), ys.ravel()),
                    window.ravel(),
                    p0=(mean[k][y, x], x - left, y - top, 2.0),
                    maxfev=300,
                )
            except RuntimeError:
                continue  # no fit within 300 evaluations: the joint stays
            if max(abs(fitted[1] - 6), abs(fitted[2] - 6)) <= 6:
                person.joints[k] = (left + fitted[1], top + fitted[2])
