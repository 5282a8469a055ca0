"""Matching of regressed joints to the peaks of their heatmaps (DEKR's optional ``MATCH_HMP``), for base-input pixels.

Two steps: a joint moves to the nearest peak of its heatmap within 75 pixels, and then to the centre of a Gaussian
fitted there. Scores do not change. DEKR fits each joint alone with a general solver, in 220 to 360 ms an image; here
all joints are fitted together, and pixels outside the image have weight 0, where DEKR's window loses its shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from samkr_edge.pose.decode import ScaledMaps

MAX_DISTANCE = 75.0
PEAKS = 30
LEAST_SCORE = 0.05
RADIUS = 6
_POOL = np.ones((5, 5), np.uint8)


def match_to_heatmaps(
    maps: Sequence[ScaledMaps],
    joints: np.ndarray,
    joint_scores: np.ndarray,
    base_hw: tuple[int, int],
    stride: int,
) -> np.ndarray:
    """The moved joints (P, K, 2), base pixels.

    Args:
        maps: of every scale.
        joints: (P, K, 2), base pixels.
        joint_scores: (P, K).
        base_hw: height and width of the base input.
        stride: input pixels a map pixel.
    """
    if not len(joints):
        return joints
    full = sum(upsample(m.heatmap[:-1], stride / m.scale, base_hw) for m in maps) / np.float32(len(maps))
    moved = absorb(full, joints)
    return fit_gaussians(full, moved, joint_scores > LEAST_SCORE).astype(np.float32)


def upsample(maps: np.ndarray, factor: float, size_hw: tuple[int, int]) -> np.ndarray:
    """(K, h, w) -> float32 (K, H, W), bilinear: pixel i is map position i / factor, clamped to the last."""
    for axis, size in ((1, size_hw[0]), (2, size_hw[1])):
        at = np.minimum(np.arange(size) / factor, maps.shape[axis] - 1)
        low = at.astype(np.int64)
        share = (at - low).astype(np.float32).reshape(-1, 1) if axis == 1 else (at - low).astype(np.float32)
        below = maps.take(low, axis)
        maps = below + (maps.take(np.minimum(low + 1, maps.shape[axis] - 1), axis) - below) * share
    return maps


def absorb(full: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Joints (P, K, 2), same shape, moved to the nearest of the 30 highest peaks of maps (K, H, W) within 75 px."""
    moved = joints.astype(np.float32, copy=True)
    width = full.shape[2]
    for k, heat in enumerate(full):
        places = np.flatnonzero((heat == cv2.dilate(heat, _POOL)) & (heat > 0))
        places = places[np.argsort(-heat.ravel()[places], kind="stable")[:PEAKS]]
        if not len(places):
            continue
        peaks = np.stack([places % width, places // width], axis=1).astype(np.float32)
        distance = np.linalg.norm(joints[:, k, None] - peaks[None], axis=2)  # (P, peaks)
        nearest = distance.argmin(axis=1)
        close = distance.min(axis=1) < MAX_DISTANCE
        moved[close, k] = peaks[nearest[close]]
    return moved


def fit_gaussians(full: np.ndarray, joints: np.ndarray, chosen: np.ndarray, steps: int = 30) -> np.ndarray:
    """Joints (P, K, 2) moved to the centre of ``A exp(-d^2 / 2 s^2)`` fitted to the 13x13 pixels around them.

    Levenberg-Marquardt in A, x, y, s for all ``chosen`` (P, K) at once, on ``full`` (K, H, W); same shape comes out. A
    fit that leaves its window has failed, and its joint is not moved.
    """
    height, width = full.shape[1:]
    rounded = np.rint(joints).astype(np.int64)
    inside = ((rounded >= 0) & (rounded < (width, height))).all(axis=2)
    people, parts = np.nonzero(chosen & inside)
    if not len(people):
        return joints
    center = rounded[people, parts]  # (M, 2)
    reach = np.arange(-RADIUS, RADIUS + 1)
    ys, xs = (grid.ravel() for grid in np.meshgrid(reach, reach, indexing="ij"))  # (169,)
    at_x, at_y = center[:, :1] + xs, center[:, 1:] + ys
    weight = ((at_x >= 0) & (at_x < width) & (at_y >= 0) & (at_y < height)).astype(np.float64)
    value = full[parts[:, None], at_y.clip(0, height - 1), at_x.clip(0, width - 1)].astype(np.float64)
    start = joints[people, parts] - center
    peak = full[parts, center[:, 1], center[:, 0]]
    p = np.column_stack([peak, start, np.full(len(peak), 2.0)]).astype(np.float64)  # A, x, y, s
    damping = np.full(len(p), 1e-3)
    residual, jacobian = _gaussian(p, xs, ys, value, weight)
    for _ in range(steps):
        normal = np.einsum("mni,mnj->mij", jacobian, jacobian)
        slope = np.einsum("mni,mn->mi", jacobian, residual)
        diagonal = np.einsum("mii->mi", normal)
        damped = normal + np.eye(4) * (damping[:, None] * diagonal + 1e-12)[:, None]
        tried = p - np.linalg.solve(damped, slope[..., None])[..., 0]
        tried_residual, tried_jacobian = _gaussian(tried, xs, ys, value, weight)
        better = (tried_residual**2).sum(axis=1) < (residual**2).sum(axis=1)
        if not better.any() and damping.min() > 1e6:
            break
        p[better] = tried[better]
        residual[better], jacobian[better] = tried_residual[better], tried_jacobian[better]
        damping = np.where(better, damping * 0.2, damping * 5.0)
    found = np.isfinite(p).all(axis=1) & (np.abs(p[:, 1:3]) <= RADIUS).all(axis=1)
    moved = joints.astype(np.float32, copy=True)
    moved[people[found], parts[found]] = center[found] + p[found, 1:3]
    return moved


def _gaussian(
    p: np.ndarray, xs: np.ndarray, ys: np.ndarray, value: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted residual (M, 169) and its derivative (M, 169, 4) by A, x, y, s."""
    height, x, y, s = p.T[:, :, None]
    s = np.where(np.abs(s) < 1e-3, 1e-3, s)
    dx, dy = xs - x, ys - y
    shape = weight * np.exp(np.maximum(-(dx**2 + dy**2) / (2 * s**2), -700.0))
    model = height * shape
    derivative = np.stack(
        [shape, model * dx / s**2, model * dy / s**2, model * (dx**2 + dy**2) / s**3], axis=2
    )
    return model - weight * value, derivative
