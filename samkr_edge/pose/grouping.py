"""Grouping: from heatmaps and tags to people, by associative embedding.

Sources: Newell et al., "Associative Embedding", 2017; the procedure is that of HigherHRNet's official code, to the
letter: peaks, keypoint by keypoint in a fixed order, join the people whose mean tag is nearest. Its last step, which
fills in missing joints, is in ``samkr_edge.pose.missing_joints``.

Conventions: x and y are map pixels; map pixel i covers network-input pixels ``stride * i`` to ``stride * (i + 1)``, so
its middle is at ``stride * (i + 0.5)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from samkr_edge.pose.decode import not_finite
from samkr_edge.pose.grouping_settings import GroupingSettings
from samkr_edge.pose.missing_joints import find_missing
from samkr_edge.pose.poses import Poses

# Side of the neighbourhood in which a peak is the highest, map pixels.
_POOL = np.ones((5, 5), np.uint8)
# COCO's keypoints from the head over the trunk to the limbs: the official code visits those of any skeleton so.
_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)
# A step of the rounded distance of tags outweighs any difference of heatmap values.
_TAGS_BEFORE_VALUES = 100.0
# Rounded distances leave many assignments equal. The official code takes the one that its solver meets first: mostly
# that in which higher peaks go to earlier people. Here it is always that one, whatever the solver.
_TIE_BREAK = 1e-9
_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Groups:
    """P people of K joints, of which some are missing.

    Attributes:
        joints: float32 (P, K, 2), x and y in map pixels; 0 where the joint is missing.
        values: float32 (P, K), the heatmap's value there; 0 where the joint is missing.
        tags: float32 (P, K, T).
    """

    joints: np.ndarray
    values: np.ndarray
    tags: np.ndarray


def group(heatmap: np.ndarray, tag: np.ndarray, settings: GroupingSettings, stride: int = 2) -> Poses:
    """People of one image.

    Args:
        heatmap: float32 (K, h, w).
        tag: float32 (K, H, W) or (K, H, W, T), T numbers a pixel; a coarser map is enlarged to (h, w).
        settings: thresholds.
        stride: network-input pixels per pixel of the heatmap.

    Returns:
        Poses in network-input pixels, best first. A joint's score is the heatmap's value, a person's the mean over all
        K joints of what the peaks gave, before missing joints were filled in. A joint that is still missing has the
        score 0 and lies in the middle of the person's joints.

    Raises:
        SamkrError: SE-A20 when the maps hold NaN or infinity.
    """
    heatmap = np.ascontiguousarray(heatmap, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        total = heatmap.sum() + tag.sum()
    if not np.isfinite(total):  # as it is if every value is
        raise not_finite()
    tag = enlarged_tags(tag, heatmap.shape[1:])
    groups = match_peaks(heatmap, tag, settings)
    if not len(groups.values):
        return Poses.empty(len(heatmap))
    scores = groups.values.mean(axis=1)
    order = np.argsort(-scores, kind="stable")[: settings.max_people]
    groups = Groups(groups.joints[order], groups.values[order], groups.tags[order])
    joints, values = placed(heatmap, groups.joints, settings), groups.values.copy()
    if settings.refine:
        people, keypoints, places = find_missing(heatmap, tag, values > 0, groups.tags)
        found = heatmap[keypoints, places[:, 1], places[:, 0]]
        sure = found > 0
        people, keypoints, places = people[sure], keypoints[sure], places[sure]
        values[people, keypoints] = found[sure]
        joints[people, keypoints] = placed_at(heatmap, keypoints, places, adjust=True)
    there = (values > 0)[..., None]
    middle = (joints * there).sum(axis=1, keepdims=True) / there.sum(axis=1, keepdims=True)
    joints = np.where(there, joints, middle)
    return Poses((joints * stride).astype(np.float32), values, scores[order])


def enlarged_tags(tag: np.ndarray, size_hw: tuple[int, ...]) -> np.ndarray:
    """Tags as fine as the heatmap, bilinear with aligned edges, as torch and the official code enlarge.

    Args:
        tag: (K, H, W) or (K, H, W, T).
        size_hw: (h, w) of the heatmap.

    Returns:
        Float32 (K, h, w, T).
    """
    tag = np.asarray(tag, np.float32).reshape(*tag.shape[:3], -1)
    if tag.shape[1:3] == tuple(size_hw):
        return np.ascontiguousarray(tag)
    height, width = size_hw
    enlarged = np.empty((len(tag), height, width, tag.shape[3]), np.float32)
    for one, out in zip(tag, enlarged, strict=True):
        cv2.resize(one, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    return enlarged


def match_peaks(heatmap: np.ndarray, tag: np.ndarray, settings: GroupingSettings) -> Groups:
    """Peaks of the heatmap, each given to the person with the nearest mean of tags.

    Keypoint by keypoint, an optimal assignment over the rounded distances of tags, then over the values, decides. A
    peak that is too far from the person it was assigned begins a new person. As in the official code, a person goes by
    the tag of its first peak: a later one of exactly this tag, too far from the mean, takes over the person's tags.

    Args:
        heatmap: float32 (K, h, w).
        tag: float32 (K, h, w, T).
        settings: thresholds.
    """
    from scipy.optimize import linear_sum_assignment

    count = len(heatmap)
    peaks = [find_peaks(one, settings) for one in heatmap]
    tags = [tag[k, places[:, 1], places[:, 0]] for k, (places, _) in enumerate(peaks)]
    most = sum(len(values) for _, values in peaks)
    chosen = np.full((most, count), -1)  # the peak of each person's joint
    total, votes = np.zeros((most, tag.shape[-1])), np.zeros((most, 1))
    by_tag: dict[float, int] = {}
    for k in (*(k for k in _ORDER if k < count), *range(len(_ORDER), count)):
        own = tags[k].astype(np.float64)
        if not len(own):
            continue
        new, rows, columns = np.ones(len(own), np.bool_), _NONE, _NONE
        people = min(len(by_tag), settings.max_people)
        if people:
            apart = _distances(own, total[:people] / votes[:people])
            rows, columns = linear_sum_assignment(_costs(apart, peaks[k][1], settings))
            close = apart[rows, columns] < settings.tag_threshold
            rows, columns = rows[close], columns[close]
            chosen[columns, k] = rows
            total[columns] += own[rows]
            votes[columns] += 1
            new[rows] = False
        for peak in np.flatnonzero(new).tolist():
            person = by_tag.setdefault(float(tags[k][peak, 0]), len(by_tag))
            # Who already went by this tag may have been given a lower peak just now, which then comes after this one.
            lower = rows[(columns == person) & (rows > peak)]
            chosen[person, k] = lower[0] if len(lower) else peak
            total[person], votes[person] = own[[peak, *lower]].sum(axis=0), 1 + len(lower)
    return _gather(chosen[: len(by_tag)], peaks, tags)


def _distances(tags: np.ndarray, means: np.ndarray) -> np.ndarray:
    """(N, P) between tags (N, T) and means (P, T)."""
    if tags.shape[1] == 1:
        return np.abs(tags - means.T)
    return np.asarray(np.sqrt(((tags[:, None] - means) ** 2).sum(axis=2)))


def _costs(apart: np.ndarray, values: np.ndarray, settings: GroupingSettings) -> np.ndarray:
    """What giving each peak to each person costs, (N, P), from the distances of their tags (N, P) and values (N,)."""
    count, people = apart.shape
    rank = np.where(apart < settings.tag_threshold, np.arange(people), people)
    ties = _TIE_BREAK * rank * np.arange(count, 0, -1)[:, None]
    return np.asarray(_TAGS_BEFORE_VALUES * np.rint(apart) - values[:, None] + ties)


def _gather(chosen: np.ndarray, peaks: list[tuple[np.ndarray, np.ndarray]], tags: list[np.ndarray]) -> Groups:
    people, count = chosen.shape
    joints = np.zeros((people, count, 2), np.float32)
    values = np.zeros((people, count), np.float32)
    their = np.zeros((people, count, tags[0].shape[1]), np.float32)
    for k, ((places, heights), tag) in enumerate(zip(peaks, tags, strict=True)):
        who = np.flatnonzero(chosen[:, k] >= 0)
        which = chosen[who, k]
        joints[who, k], values[who, k], their[who, k] = places[which], heights[which], tag[which]
    return Groups(joints, values, their)


def find_peaks(heatmap: np.ndarray, settings: GroupingSettings) -> tuple[np.ndarray, np.ndarray]:
    """Peaks above the threshold of one heatmap (h, w): int64 (P, 2) x, y and float32 (P,) values, best first."""
    flat = np.flatnonzero(heatmap > settings.joint_threshold)
    values = heatmap.ravel()[flat]
    highest = values == cv2.dilate(heatmap, _POOL).ravel()[flat]
    flat, values = flat[highest], values[highest]
    best = np.argsort(-values, kind="stable")[: settings.candidates]
    width = heatmap.shape[1]
    return np.stack([flat[best] % width, flat[best] // width], axis=1), values[best]


def placed(heatmap: np.ndarray, joints: np.ndarray, settings: GroupingSettings) -> np.ndarray:
    """Positions in the pixels of joints: see ``placed_at``.

    Args:
        heatmap: (K, h, w).
        joints: (P, K, 2), x and y of a pixel.
        settings: says whether they are adjusted.

    Returns:
        Float32 (P, K, 2), map pixels from the map's corner.
    """
    people, count = joints.shape[:2]
    keypoints = np.tile(np.arange(count), people)
    found = placed_at(heatmap, keypoints, joints.reshape(-1, 2).astype(np.int64), adjust=settings.adjust)
    return found.reshape(joints.shape)


def placed_at(heatmap: np.ndarray, keypoints: np.ndarray, places: np.ndarray, *, adjust: bool) -> np.ndarray:
    """The middle of each pixel, and a quarter pixel towards its higher neighbour in x and in y.

    Args:
        heatmap: (K, h, w).
        keypoints: int64 (M,), the map that each place is on.
        places: int64 (M, 2), x and y of a pixel.
        adjust: whether the quarter pixels are added.

    Returns:
        Float32 (M, 2), map pixels from the map's corner.
    """
    middle = places.astype(np.float32) + np.float32(0.5)
    if not adjust:
        return middle
    _, h, w = heatmap.shape
    x, y = places[:, 0], places[:, 1]
    right = heatmap[keypoints, y, np.minimum(x + 1, w - 1)] > heatmap[keypoints, y, np.maximum(x - 1, 0)]
    down = heatmap[keypoints, np.minimum(y + 1, h - 1), x] > heatmap[keypoints, np.maximum(y - 1, 0), x]
    quarter: np.ndarray = np.where(np.stack([right, down], axis=1), np.float32(0.25), np.float32(-0.25))
    return middle + quarter
