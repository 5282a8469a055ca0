"""Targets of DEKR from keypoints: heatmaps, offsets, and the weights of both losses.

Source: Geng et al., "Bottom-Up Human Pose Estimation Via Disentangled Keypoint Regression", CVPR 2021, sections 3
and 4, and its official code, whose quirks ``parity`` reproduces.

Convention: all coordinates are map pixels; map pixel i is centred on input pixel ``stride * i``, so a map
coordinate is the input coordinate divided by the stride, without a half pixel. An offset is location - joint.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from samkr_edge.pose.oks import is_labelled
from training.data.settings import EncodeSettings, Extent

Maps = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]


class Targets(NamedTuple):
    """All float32.

    Attributes:
        heatmap: (K+1, h, w), the last channel is the person centre.
        mask: (K+1, h, w) weight of the heatmap loss, 0 outside the valid area.
        valid: (1, h, w) 1 in that area, else 0, for a loss that weighs the background itself.
        offset: (2K, h, w), channels x0, y0, x1, y1, ..., location - joint, 0 where there is none.
        offset_weight: (2K, h, w), 1 / extent of the person in input pixels, 0 where there is none.
    """

    heatmap: Maps
    mask: Maps
    valid: Maps
    offset: Maps
    offset_weight: Maps


def person_centers(joints: Points, *, parity: bool = False) -> Points:
    """Mean of the labelled joints: (P, K, 3) x, y, v -> (P, 3) x, y, v; v is 0 where nothing is labelled.

    ``parity``: a person without labelled joints has a centre at the origin, with v = 1.
    """
    labelled = is_labelled(joints)
    count = labelled.sum(axis=1)
    total = np.where(labelled[:, :, None], joints[:, :, :2], 0).sum(axis=1)
    centers = np.ones((len(joints), 3))
    centers[:, :2] = total / np.maximum(count, 1)[:, None]
    if not parity:
        centers[:, 2] = count > 0
    return centers


def offset_weights(areas: Points, settings: EncodeSettings) -> Points:
    """Weight of the offset loss of people with these squared extents, input pixels squared: (P,) -> (P,)."""
    least = settings.smallest_extent if settings.offset_extent == "person" else 1.0
    weights: Points = 1 / np.maximum(np.sqrt(areas), least)
    return weights


def person_size(joints: Points, extent: Extent = "person") -> Points:
    """Squared box diagonal of the labelled joints, (P, K, 3) -> (P,), in the joints' own unit squared.

    ``image``: the official code takes the box over an extra row that is still zero, so its box begins at the
    image's origin and the "size" depends on the person's position.
    """
    labelled = is_labelled(joints)[:, :, None]
    low: Points = np.where(labelled, joints[:, :, :2], np.inf).min(axis=1)
    high: Points = np.where(labelled, joints[:, :, :2], -np.inf).max(axis=1)
    if extent == "image":
        low, high = np.zeros_like(low), np.maximum(high, 0)
    some = labelled.any(axis=1)
    sides = np.where(some, high, 0) - np.where(some, low, 0)
    squared: Points = (sides**2).sum(axis=1)
    return squared


def encode(
    joints: Points,
    areas: Points,
    valid: Maps | None,
    map_hw: tuple[int, int],
    settings: EncodeSettings,
    *,
    centers: Points | None = None,
) -> Targets:
    """Draw the targets of one image.

    Args:
        joints: (P, K, 3) x, y in map pixels and v; v > 0 is labelled.
        areas: (P,) squared extents in **input** pixels (``person_size`` times the squared scale).
        valid: (h, w) 1 where the loss counts; None: everywhere.
        map_hw: height and width of the maps.
        settings: see ``EncodeSettings``.
        centers: (P, 3) x, y, v in map pixels; default ``person_centers``. v = 0: no centre, no offsets.
    """
    height, width = map_hw
    keypoints = joints.shape[1]
    if centers is None:
        centers = person_centers(joints, parity=settings.parity)
    points = np.concatenate((joints, centers[:, None]), axis=1)
    drawn = _in_map(points, map_hw)

    heatmap = _heatmaps(points[:, :, :2], drawn, map_hw, settings)
    mask = np.where(heatmap > 0, np.float32(1), np.float32(settings.background_weight))
    if valid is None:
        valid = np.ones(map_hw, np.float32)
    mask *= valid

    offset = np.zeros((keypoints, 2, height, width), np.float32)
    weight = np.zeros((keypoints, 2, height, width), np.float32)
    owner = np.zeros((height, width)) if settings.parity else np.full((keypoints, height, width), np.inf)
    person_weights = offset_weights(areas, settings)
    for person in np.flatnonzero(drawn[:, -1]):
        rows, columns = _offset_window(centers[person], map_hw, settings)
        area = max(float(areas[person]), 1.0)
        y, x = np.mgrid[rows, columns]
        if settings.parity:
            write = _parity_writes(
                offset[:, :, rows, columns], owner[rows, columns], drawn[person, :-1], area
            )
        else:
            # Where two people's windows overlap, the smaller person's offsets are kept.
            held = owner[:, rows, columns]
            write = drawn[person, :-1, None, None] & ~(held < area)
            held[write] = area
        for axis, location in enumerate((x, y)):
            values = location - joints[person, :, axis, None, None]
            np.copyto(offset[:, axis, rows, columns], values, where=write, casting="same_kind")
            np.copyto(weight[:, axis, rows, columns], np.float32(person_weights[person]), where=write)
    shape = (2 * keypoints, height, width)
    return Targets(heatmap, mask, valid[None], offset.reshape(shape), weight.reshape(shape))


def _parity_writes(
    offset: Maps, owner: Points, drawn: npt.NDArray[np.bool_], area: float
) -> npt.NDArray[np.bool_]:
    """Where the official code writes a person's offsets, (K, rows, columns), within the person's window.

    It keeps one area per position for all keypoints together, in float32, and compares it with a float64. So after a
    person's first keypoint it finds the person's own area, rounded; if that was rounded down, the other person's
    offsets are kept for all further keypoints.
    """
    write = np.zeros((len(drawn), *owner.shape), np.bool_)
    for keypoint in np.flatnonzero(drawn):
        written = (offset[keypoint] != 0).any(axis=0)
        write[keypoint] = ~(written & (owner < area))
        owner[write[keypoint]] = np.float32(area)
    return write


def _in_map(points: Points, map_hw: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """(..., 3) -> (...): labelled and within [0, width) x [0, height)."""
    x, y = points[..., 0], points[..., 1]
    inside: npt.NDArray[np.bool_] = (
        is_labelled(points) & (x >= 0) & (y >= 0) & (x < map_hw[1]) & (y < map_hw[0])
    )
    return inside


def _heatmaps(
    xy: Points, drawn: npt.NDArray[np.bool_], map_hw: tuple[int, int], settings: EncodeSettings
) -> Maps:
    """exp(-d^2 / 2 sigma^2) around the sub-pixel joint, cut to [x - 3 sigma - 1, x + 3 sigma + 2), largest wins."""
    height, width = map_hw
    channels = xy.shape[1]
    sigma = np.full(channels, settings.sigma)
    if not (settings.parity and channels - 1 < 17):
        sigma[-1] = settings.center_sigma
    # The Gaussian and its window are products of one function of x and one of y.
    profiles = [_profile(xy[:, :, axis], sigma, size) for axis, size in ((0, width), (1, height))]
    across, down = (np.where(drawn[:, :, None], profile, 0).astype(np.float32) for profile in profiles)
    heatmap = np.zeros((channels, height, width), np.float32)
    one = np.empty_like(heatmap)
    for person in range(len(xy)):
        np.multiply(down[person, :, :, None], across[person, :, None, :], out=one)
        np.maximum(heatmap, one, out=heatmap)
    return heatmap


def _profile(centers: Points, sigma: Points, size: int) -> Points:
    """One axis of the windowed Gaussians: (P, C), (C,) -> (P, C, size)."""
    position = np.arange(size)
    center, spread = centers[:, :, None], sigma[:, None]
    inside = (position >= np.floor(center - 3 * spread - 1)) & (position < np.ceil(center + 3 * spread + 2))
    profile: Points = np.exp(-((position - center) ** 2) / (2 * spread**2)) * inside
    return profile


def _offset_window(center: Points, map_hw: tuple[int, int], settings: EncodeSettings) -> tuple[slice, slice]:
    """Rows and columns of the map where a person's offsets are learned."""
    radius = settings.offset_radius
    windows = []
    for middle, size in ((center[1], map_hw[0]), (center[0], map_hw[1])):
        if settings.parity:
            first, last = int(int(middle) - radius), int(int(middle) + radius)
        else:
            first, last = int(np.ceil(middle - radius)), int(np.floor(middle + radius)) + 1
        windows.append(slice(max(first, 0), max(min(last, size), 0)))
    return windows[0], windows[1]
