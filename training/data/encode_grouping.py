"""Targets of HigherHRNet and SWAHR from keypoints: heatmaps at two resolutions, and where a person's tags are.

Source: Cheng et al., "HigherHRNet", CVPR 2020, section 3, and its official code, which ``parity`` reproduces.

Convention: all coordinates are map pixels; map pixel i covers input pixels ``stride * i`` to ``stride * (i + 1)``, so a
map coordinate is the input coordinate divided by the stride, minus a half, and the pixel that shows it is the nearest
one. In ``parity`` it is the input coordinate divided by the stride, cut to the whole pixel.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from samkr_edge.pose.oks import is_labelled
from training.data.encode import Maps, Points, person_size
from training.data.settings import GroupingEncodeSettings


def gaussians(joints: Points, map_hw: tuple[int, int], settings: GroupingEncodeSettings) -> Maps:
    """exp(-d^2 / 2 sigma^2) around each joint, cut to [x - 3 sigma - 1, x + 3 sigma + 2), largest wins.

    Args:
        joints: (P, K, 3) x, y in pixels of the map, and v; v > 0 is labelled.
        map_hw: height and width of the map.
        settings: see ``GroupingEncodeSettings``.

    Returns:
        float32 (K, h, w).
    """
    height, width = map_hw
    keypoints = joints.shape[1]
    person, keypoint = np.nonzero(_shown(joints, map_hw, settings))
    x, y = joints[person, keypoint, :2].T
    columns, across, in_columns = _window(x, width, settings)
    rows, down, in_rows = _window(y, height, settings)
    values = np.exp(-(down[:, :, None] ** 2 + across[:, None, :] ** 2) / (2 * settings.sigma**2))
    places = (keypoint[:, None] * height + rows)[:, :, None] * width + columns[:, None, :]
    inside = in_rows[:, :, None] & in_columns[:, None, :]
    heatmap = np.zeros(keypoints * height * width, np.float32)
    np.maximum.at(heatmap, places[inside], values[inside].astype(np.float32))
    return heatmap.reshape(keypoints, height, width)


def tag_places(
    joints: Points, map_hw: tuple[int, int], settings: GroupingEncodeSettings
) -> npt.NDArray[np.int64]:
    """Where the tags of each person's joints are.

    People who show no joint are left out, and of more than ``max_people`` the smallest.

    Args:
        joints: as ``gaussians`` takes them.
        map_hw: height and width of the tag maps.
        settings: see ``GroupingEncodeSettings``.

    Returns:
        int64 (max_people, K, 2): the place in the flattened (K, h, w) maps, and 1 for a visible joint; else 0, 0.
    """
    height, width = map_hw
    shown = _shown(joints, map_hw, settings)
    people = np.flatnonzero(shown.any(axis=1))
    if len(people) > settings.max_people:
        largest = np.argsort(-person_size(joints[people]), kind="stable")[: settings.max_people]
        people = people[np.sort(largest)]
    keypoint = np.arange(joints.shape[1])
    x, y = np.moveaxis(_pixel(joints[people, :, :2], settings), -1, 0)
    seen = shown[people]
    places = np.zeros((settings.max_people, joints.shape[1], 2), np.int64)
    places[: len(people), :, 0] = np.where(seen, (keypoint * height + y) * width + x, 0)
    places[: len(people), :, 1] = seen
    return places


def _pixel(xy: Points, settings: GroupingEncodeSettings) -> npt.NDArray[np.int64]:
    """The map pixel that shows a coordinate, any shape."""
    whole = np.trunc(xy) if settings.parity else np.floor(xy + 0.5)
    return whole.astype(np.int64)


def _shown(
    joints: Points, map_hw: tuple[int, int], settings: GroupingEncodeSettings
) -> npt.NDArray[np.bool_]:
    """(P, K, 3) -> (P, K): labelled, and its pixel is within the map."""
    x, y = np.moveaxis(_pixel(joints[..., :2], settings), -1, 0)
    inside: npt.NDArray[np.bool_] = (x >= 0) & (y >= 0) & (x < map_hw[1]) & (y < map_hw[0])
    return inside & is_labelled(joints)


def _window(
    center: Points, size: int, settings: GroupingEncodeSettings
) -> tuple[npt.NDArray[np.int64], Points, npt.NDArray[np.bool_]]:
    """One axis of the Gaussians' windows around (J,) coordinates.

    Returns:
        The map pixels (J, n) of the windows, their distances to the Gaussians' middles, and which of them count: those
        in the window and in the map.
    """
    reach = 3 * settings.sigma
    if settings.parity:
        # The official kernel begins at the rounded corner of the window: for a fractional sigma that moves its middle.
        center = np.trunc(center)
        first, end = np.rint(center - reach - 1), np.rint(center + reach + 2)
        middle = first + reach + 1
    else:
        first, end, middle = np.floor(center - reach - 1), np.ceil(center + reach + 2), center
    position = first[:, None] + np.arange(math.ceil(2 * reach + 3) + 1)
    counts = (position < end[:, None]) & (position >= 0) & (position < size)
    return position.astype(np.int64), position - middle[:, None], counts
