"""Decoding, from heatmaps and offsets to people, in vectorised NumPy and OpenCV; well below a millisecond.

Conventions: map pixel i is centred on input pixel ``stride * i``; the offset at a location is location - joint in map
pixels, so joint = location - offset (DEKR). Peaks, scoring and pose NMS are DEKR's (facts: HRNet/DEKR), for one or
several sizes of the input; matching to heatmap peaks is in ``samkr_edge.evaluation.match``; the refinement on the
heatmap is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from samkr_edge.errors import SamkrError
from samkr_edge.pose.decode_settings import DecodeSettings
from samkr_edge.pose.poses import Poses

# DEKR's neighbourhood of a centre peak grows with the map: side 3, 5 where mean(h, w) > 200, 7 where > 300.
_POOLS = ((300, np.ones((7, 7), np.uint8)), (200, np.ones((5, 5), np.uint8)), (0, np.ones((3, 3), np.uint8)))

# OpenCV resamples images of at most so many rows.
_TALLEST = 32766
# Network-input pixels, that is two map pixels: how far apart the joints of centres on one plateau can be.
_LONE_REACH = 8.0
# No network means more. Float32 has room for the squares and sums of what is below.
_LARGEST = 1e10


@dataclass(frozen=True)
class ScaledMaps:
    """The network's maps of one image.

    Attributes:
        heatmap: float32 (K+1, h, w), last channel the person centre.
        offset: float32 (2K, h, w), channels x0 y0 x1 y1 ...
        scale: size of the network input relative to the base input; base pixel x is pixel ``scale * x`` there.
    """

    heatmap: np.ndarray
    offset: np.ndarray
    scale: float = 1.0


def decode(heatmap: np.ndarray, offset: np.ndarray, settings: DecodeSettings, stride: int = 4) -> Poses:
    """People in one image.

    Args:
        heatmap: float32 (K+1, h, w), last channel the person centre.
        offset: float32 (2K, h, w), channels x0 y0 x1 y1 ...
        settings: thresholds.
        stride: input pixels per map pixel.

    Returns:
        Poses in network-input pixels, best first; P = 0 when nothing was found.

    Raises:
        SamkrError: SE-A20 when the maps hold NaN, infinity or numbers near it.
    """
    return decode_scales([ScaledMaps(heatmap, offset)], settings, stride)


def decode_scales(
    maps: Sequence[ScaledMaps], settings: DecodeSettings, stride: int = 4, *, decrease: float = 1.0
) -> Poses:
    """People in one image from its maps at several scales, one of them 1 (DEKR's multi-scale test).

    Every scale proposes people; joints are scored on the mean of all heatmaps. Centre values of different scales are
    not comparable: those of other scales are mapped to the range of scale 1, times ``decrease``.

    Returns:
        Poses in base-input pixels, best first.

    Raises:
        SamkrError: see ``decode``.
    """
    keypoints = len(maps[0].heatmap) - 1
    proposals = [_propose(m, settings, stride) for m in sorted(maps, key=lambda m: -m.scale)]
    joints = np.concatenate([found for found, _ in proposals])  # (P, K, 2) base pixels, x then y
    if not all(usable(part) for found in proposals for part in found):
        raise not_finite()
    center_scores = np.concatenate(_comparable(maps, proposals, decrease))
    if not len(joints):
        if not all(np.isfinite(m.heatmap).all() and np.isfinite(m.offset).all() for m in maps):
            raise not_finite()
        return Poses.empty(keypoints)
    heat = np.zeros(joints.shape[:2], np.float32)
    for m in maps:
        step = stride / m.scale
        found = sample(m.heatmap[:-1], joints / step, step)
        if not usable(found):
            raise not_finite()
        heat += found
    heat /= len(maps)
    kept = suppress(joints, heat.mean(axis=1), settings)
    joints, heat, center_scores = joints[kept], heat[kept], center_scores[kept]
    if settings.refine_radius:
        base = next(m for m in maps if m.scale == 1.0)
        with np.errstate(over="ignore", invalid="ignore"):
            joints = stride * refine(
                base.heatmap[:-1], joints / stride, settings.refine_radius, settings.refine_blend
            )
        if not np.isfinite(joints).all():
            raise not_finite()
    joint_scores = center_scores[:, None] * heat
    scores = joint_scores.mean(axis=1)
    order = np.argsort(-scores, kind="stable")
    return Poses(
        joints[order].astype(np.float32),
        joint_scores[order].astype(np.float32),
        scores[order].astype(np.float32),
    )


def _propose(maps: ScaledMaps, settings: DecodeSettings, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """One pose for each centre peak: joints (P, K, 2) in base pixels and centre values (P,), best first."""
    centers, values = find_peaks(maps.heatmap[-1], settings)
    at = maps.offset[:, centers[:, 1], centers[:, 0]].T.reshape(len(centers), len(maps.offset) // 2, 2)
    with np.errstate(over="ignore", invalid="ignore"):
        return (centers[:, None, :].astype(np.float32) - at) * np.float32(stride / maps.scale), values


def _comparable(
    maps: Sequence[ScaledMaps], proposals: list[tuple[np.ndarray, np.ndarray]], decrease: float
) -> list[np.ndarray]:
    """Centre values of every scale in the range of scale 1; proposals come largest scale first."""
    if len(maps) == 1:
        return [values for _, values in proposals]
    scales = sorted((m.scale for m in maps), reverse=True)
    base = proposals[scales.index(1.0)][1]
    highest = base[0] if len(base) else np.float32(1)  # as in DEKR's code where scale 1 finds nobody
    return [
        values if scale == 1.0 or not len(values) else values * (highest / values[0] * decrease)
        for scale, (_, values) in zip(scales, proposals, strict=True)
    ]


def usable(values: np.ndarray) -> bool:
    """Whether values of any shape are numbers that can be computed with in float32; not NaN, for one."""
    return bool((np.abs(values) < _LARGEST).all())


def not_finite() -> SamkrError:
    """SE-A20: maps, or candidates decoded by a graph, hold NaN or infinity, or are not ``usable``."""
    return SamkrError(
        "SE-A20",
        f"the network's output holds NaN or infinity, or numbers beyond {_LARGEST:g}, so there are no poses",
        {"usual": "weights damaged in training, or FP16 overflow"},
        fix="samkr-edge eval CHECKPOINT --data DIR   # the FP32 one first, to see where it starts",
    )


def find_peaks(center: np.ndarray, settings: DecodeSettings) -> tuple[np.ndarray, np.ndarray]:
    """Local maxima of the centre heatmap (h, w): int64 (P, 2) x, y and float32 (P,) values, best first."""
    pool = next(kernel for above, kernel in _POOLS if sum(center.shape) / 2 > above)
    # Comparing first and then sorting the few hits is 40 times faster than partitioning a map full of ties.
    flat = np.flatnonzero((center == cv2.dilate(center, pool)) & (center > settings.center_threshold))
    values = center.ravel()[flat]
    best = np.argsort(-values, kind="stable")[: settings.max_people]
    width = center.shape[1]
    return np.stack([flat[best] % width, flat[best] // width], axis=1), values[best]


def sample(maps: np.ndarray, joints: np.ndarray, steps: float = 4.0) -> np.ndarray:
    """Bilinear values (P, K) of maps (K, h, w) at joints (P, K, 2), map pixels, clamped to the map.

    DEKR samples an up-sampled map (``steps`` times, 4 at scale 1) at the floored base pixel, so positions are floored
    to quarter pixels here. OpenCV resolves 1/32 pixel: exact for every power of two that occurs.
    """
    count, h, w = maps.shape
    if not len(joints):
        return np.zeros((0, count), np.float32)  # OpenCV takes no empty map
    if count * h > _TALLEST:
        half = count // 2
        parts = (sample(maps[:half], joints[:, :half], steps), sample(maps[half:], joints[:, half:], steps))
        return np.concatenate(parts, axis=1)
    step = np.float32(steps)
    x = np.clip(np.floor(joints[..., 0] * step) / step, 0, w - 1).astype(np.float32)
    y = np.clip(np.floor(joints[..., 1] * step) / step, 0, h - 1).astype(np.float32)
    # The maps as one tall image. On a map's last row, the row below (the next map's first) has weight 0.
    y += h * np.arange(count, dtype=np.float32)
    return cv2.remap(maps.reshape(count * h, w), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def suppress(joints: np.ndarray, heat: np.ndarray, settings: DecodeSettings) -> np.ndarray:
    """DEKR's pose NMS: indices (M,) of the joints (P, K, 2) kept, best centre first; at most ``max_people``.

    Pose j is near pose i if more than ``nms_joints`` joints are closer than ``nms_distance`` times the diagonal of
    i's joint box; poses of a single keypoint, which has no box, if they are closer than ``_LONE_REACH``. Of a group
    the pose with the best mean of ``heat`` (P, K) survives.
    """
    # Joints first, one axis at a time: reductions over a last axis of 2 would take ten times as long.
    x, y = np.ascontiguousarray(joints.transpose(2, 1, 0))  # (K, P) each
    reach = settings.nms_distance * np.hypot(np.ptp(x, axis=0), np.ptp(y, axis=0))[:, None]  # (P, 1)
    if len(x) == 1:
        reach[:] = _LONE_REACH
    apart = np.square(x[:, :, None] - x[:, None])  # (K, P, P), squared distances
    apart += np.square(y[:, :, None] - y[:, None])
    near = (apart < reach**2).sum(axis=0, dtype=np.int16) > settings.nms_joints
    # A pose without extent is not near itself; the official code fails on it.
    np.fill_diagonal(near, True)
    alone = (near.sum(axis=1) == 1).tolist()
    ignored = np.zeros(len(joints), bool)
    kept = []
    for i in range(len(joints)):
        if ignored[i]:
            continue
        if alone[i]:
            kept.append(i)
            ignored[i] = True
            continue
        group = np.flatnonzero(near[i])
        best = group[np.argmax(heat[group])]
        if not ignored[best]:
            kept.append(best)
            ignored[group] = True
    chosen = np.array(kept, np.int64)
    if len(chosen) > settings.max_people:
        chosen = chosen[np.argsort(-heat[chosen], kind="stable")[: settings.max_people]]
    return chosen


def refine(maps: np.ndarray, joints: np.ndarray, radius: int, blend: float) -> np.ndarray:
    """Pull each joint towards the centre of mass of its heatmap around it.

    Offsets are least accurate at wrists and ankles, where the heatmap is sharper. The window is (2 radius + 1)^2 map
    pixels around the rounded joint; weights are squared, so that the peak counts more than the skirt; a window
    without a clear response leaves its joint alone.

    Args:
        maps: heatmaps (K, h, w).
        joints: float32 (P, K, 2), x and y in map pixels.
        radius: of the window, map pixels.
        blend: how far a joint is pulled where the map is sure, 0..1.

    Returns:
        Joints (P, K, 2).
    """
    count, h, w = maps.shape
    steps, moments = _window(radius)
    # Two rows of P * K, with the window's pixels first: a short last axis would take most of the time.
    place = joints.reshape(-1, 2).T.copy()
    center = np.rint(place)
    x, y = center.astype(np.int64)
    first = ((np.arange(count) * h + y.reshape(-1, count)) * w).ravel() + x
    # Positions outside the map read any value; their weight is 0.
    weight = maps.ravel().take(first + (steps * w + steps.T).reshape(-1, 1), mode="clip")  # (S * S, P * K)
    np.maximum(weight, 0.0, out=weight)
    if min(x.min(), y.min()) < radius or x.max() >= w - radius or y.max() >= h - radius:
        xs, ys = x + steps, y + steps
        window = weight.reshape(len(steps), len(steps), -1)  # y then x
        window *= ((ys >= 0) & (ys < h)).astype(np.float32)[:, None]
        window *= ((xs >= 0) & (xs < w)).astype(np.float32)
    weight *= weight
    total, *pull = moments @ weight
    pull = np.stack(pull) / np.maximum(total, 1e-12)
    pull += center
    pull -= place
    pull *= np.minimum(total * (blend / 0.05), blend)  # fades out where the map says nothing
    return (place + pull).T.reshape(joints.shape).astype(np.float32)


@lru_cache(maxsize=8)
def _window(radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps (S, 1) from a window's centre, and what sums 1, dx and dy over its pixels: float32 (3, S * S)."""
    steps = np.arange(-radius, radius + 1)
    ones = np.ones(len(steps) ** 2)
    moments = np.stack([ones, np.tile(steps, len(steps)), np.repeat(steps, len(steps))])
    return steps[:, None], moments.astype(np.float32)
