"""Grouping: from heatmaps and tags to people, by associative embedding.

Sources: Newell et al., "Associative Embedding", 2017; the procedure is that of HigherHRNet's official code, to the
letter: peaks, keypoint by keypoint in a fixed order, join the people whose mean tag is nearest. Its last step, which
fills in missing joints, is in ``samkr_edge.pose.missing_joints``.

Conventions: x and y are map pixels; map pixel i covers network-input pixels ``stride * i`` to ``stride * (i + 1)``, so
its middle is at ``stride * (i + 0.5)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samkr_edge.pose.decode import not_finite, usable
from samkr_edge.pose.grouping_settings import GroupingSettings
from samkr_edge.pose.missing_joints import find_missing
from samkr_edge.pose.poses import Poses
from samkr_edge.pose.responses import Responses, find_responses

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


def get_ready() -> None:
    """Import the solver, which takes as long as hundreds of images."""
    import scipy.optimize  # noqa: F401


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
        SamkrError: SE-A20 when the maps hold NaN, infinity or numbers near it.
    """
    heatmap = np.ascontiguousarray(heatmap, np.float32)
    tag = np.ascontiguousarray(tag, np.float32).reshape(*tag.shape[:3], -1)
    if not usable(np.array([end(initial=0) for maps in (heatmap, tag) for end in (maps.min, maps.max)])):
        raise not_finite()
    responses = find_responses(heatmap, tag, settings)
    groups = match_peaks(responses, heatmap.shape[1:], settings)
    if not len(groups.values):
        return Poses.empty(len(heatmap))
    scores = groups.values.mean(axis=1)
    order = np.argsort(-scores, kind="stable")[: settings.max_people]
    groups = Groups(groups.joints[order], groups.values[order], groups.tags[order])
    joints, values = groups.joints, groups.values
    moved = np.full(values.shape, settings.adjust)
    if settings.refine:
        people, keypoints, places = find_missing(heatmap, tag, responses, values > 0, groups.tags)
        joints[people, keypoints] = places
        values[people, keypoints] = np.maximum(heatmap[keypoints, places[:, 1], places[:, 0]], 0)
        moved[people, keypoints] = True  # in any case, as in the official code
    joints = placed(heatmap, joints, moved)
    there = (values > 0)[..., None]
    if not there.all():
        middle = (joints * there).sum(axis=1, keepdims=True) / there.sum(axis=1, keepdims=True)
        joints = np.where(there, joints, middle)
    return Poses((joints * stride).astype(np.float32), values, scores[order])


def match_peaks(responses: Responses, size_hw: tuple[int, ...], settings: GroupingSettings) -> Groups:
    """Peaks of the heatmap, each given to the person with the nearest mean of tags.

    Keypoint by keypoint, an optimal assignment over the rounded distances of tags, then over the values, decides. A
    peak that is too far from the person it was assigned begins a new person. As in the official code, a person goes by
    the tag of its first peak: a later one of exactly this tag, too far from the mean, takes over the person's tags.

    Args:
        responses: of the maps.
        size_hw: of one map.
        settings: thresholds.
    """
    from scipy.optimize import linear_sum_assignment

    values, exact = responses.values[responses.peaks], responses.tags[responses.peaks].astype(np.float64)
    ends, count = responses.peak_ends, len(responses.ends) - 1
    chosen = np.full((len(exact), count), -1)  # the peak of each person's joint
    total, votes = np.zeros_like(exact), np.zeros((len(exact), 1))
    by_tag: dict[float, int] = {}
    for k in (*(k for k in _ORDER if k < count), *range(len(_ORDER), count)):
        first, own = ends[k], exact[ends[k] : ends[k + 1]]
        rows, columns, people = _NONE, _NONE, min(len(by_tag), settings.max_people)
        if people and len(own):
            apart = _distances(own, total[:people] / votes[:people])
            rows, columns = linear_sum_assignment(_costs(apart, values[first : ends[k + 1]], settings))
            close = apart[rows, columns] < settings.tag_threshold
            rows, columns = rows[close], columns[close]
            chosen[columns, k] = first + rows
            total[columns] += own[rows]
            votes[columns] += 1
        for peak in sorted(set(range(len(own))).difference(rows.tolist())):
            person, joined = by_tag.setdefault(float(own[peak, 0]), len(by_tag)), [peak]
            if person < people:
                # Who went by this tag already may have been given a lower peak just now, which then comes after this.
                joined += rows[(columns == person) & (rows > peak)].tolist()
            chosen[person, k] = first + joined[-1]
            total[person], votes[person] = sum(own[number] for number in joined), len(joined)
    return _gather(chosen[: len(by_tag)], responses, size_hw)


def _distances(tags: np.ndarray, means: np.ndarray) -> np.ndarray:
    """(N, P) between tags (N, T) and means (P, T)."""
    if tags.shape[1] == 1:
        return np.abs(tags - means.T)
    return np.asarray(np.sqrt(((tags[:, None] - means) ** 2).sum(axis=2)))


def _costs(apart: np.ndarray, values: np.ndarray, settings: GroupingSettings) -> np.ndarray:
    """What giving each peak to each person costs, (N, P), from the distances of their tags (N, P) and values (N,)."""
    count, people = apart.shape
    rank = np.where(apart < settings.tag_threshold, np.arange(people), people)
    costs: np.ndarray = _TAGS_BEFORE_VALUES * np.rint(apart)
    costs -= values[:, None]
    costs += rank * (_TIE_BREAK * np.arange(count, 0, -1))[:, None]
    return costs


def _gather(chosen: np.ndarray, responses: Responses, size_hw: tuple[int, ...]) -> Groups:
    """People whose joints are these peaks (P, K), of which a negative one is missing, of maps of this size."""
    height, width = size_hw
    which = responses.peaks[chosen]
    y, x = np.divmod(responses.places[which] % (height * width), width)
    joints = np.stack([x, y], axis=-1).astype(np.float32)
    values, tags, missing = responses.values[which], responses.tags[which], chosen < 0
    joints[missing], values[missing], tags[missing] = 0, 0, 0
    return Groups(joints, values, tags)


def placed(heatmap: np.ndarray, joints: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """The middle of each joint's pixel, and a quarter pixel towards its higher neighbour in x and in y.

    Args:
        heatmap: (K, h, w).
        joints: (P, K, 2), x and y of a pixel.
        moved: bool (P, K), which get the quarter pixels.

    Returns:
        Float32 (P, K, 2), map pixels from the map's corner.
    """
    count, h, w = heatmap.shape
    k, (x, y) = np.arange(count), joints.astype(np.int64).transpose(2, 0, 1)
    right = heatmap[k, y, np.minimum(x + 1, w - 1)] > heatmap[k, y, np.maximum(x - 1, 0)]
    down = heatmap[k, np.minimum(y + 1, h - 1), x] > heatmap[k, np.maximum(y - 1, 0), x]
    quarter = np.where(np.stack([right, down], axis=2), np.float32(0.25), np.float32(-0.25))
    return np.asarray(joints + np.float32(0.5) + quarter * moved[..., None])
