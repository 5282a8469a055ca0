"""Grouping as it reads in HigherHRNet's paper and code: person by person, joint by joint, over whole maps.

The oracle of ``samkr_edge.pose.grouping``, and what ``benchmarks.host.grouping`` compares its speed with. Of
assignments that cost the same, the one in which higher peaks go to earlier people is taken, as there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from samkr_edge.pose.grouping_settings import GroupingSettings

Solver = Callable[[np.ndarray], tuple[Iterable[int], Iterable[int]]]

ORDER = [0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16]


class PlainPerson:
    """Somebody who was begun by one peak: joints {keypoint: (x, y, value)}, and the tags that count."""

    def __init__(self) -> None:
        self.joints: dict[int, tuple[float, float, float]] = {}
        self.tags: list[np.ndarray] = []


def peaks_of(heatmap: np.ndarray, settings: GroupingSettings) -> list[tuple[int, int, float]]:
    """x, y and value of the highest of their 5 x 5 neighbourhood in a map (h, w), best first."""
    highest = cv2.dilate(heatmap, np.ones((5, 5), np.uint8))
    found = [
        (int(x), int(y), float(heatmap[y, x]))
        for y, x in np.argwhere((heatmap == highest) & (heatmap > settings.joint_threshold))
    ]
    return sorted(found, key=lambda peak: -peak[2])[: settings.candidates]


def by_munkres(cost: np.ndarray) -> tuple[list[int], list[int]]:
    """The assignment of costs (N, P) by the package that the official code uses, which is plain Python."""
    from munkres import Munkres

    peaks, people = cost.shape
    padded = np.pad(cost, ((0, 0), (0, max(peaks - people, 0))), constant_values=1e10)
    pairs = [(i, j) for i, j in Munkres().compute(padded.tolist()) if i < peaks and j < people]
    return [i for i, _ in pairs], [j for _, j in pairs]


def assigned(
    distances: np.ndarray, values: np.ndarray, settings: GroupingSettings, solve: Solver
) -> dict[int, int]:
    """Peak -> person, for those near enough, by distances of tags (N, P) and values (N,)."""
    peaks, people = distances.shape
    cost = np.zeros((peaks, people))
    for i, j in product(range(peaks), range(people)):
        rank = j if distances[i, j] < settings.tag_threshold else people
        cost[i, j] = np.round(distances[i, j]) * 100 - values[i] + 1e-9 * rank * (peaks - i)
    rows, columns = solve(cost)
    return {
        int(i): int(j) for i, j in zip(rows, columns, strict=True) if distances[i, j] < settings.tag_threshold
    }


def quarter(heatmap: np.ndarray, x: int, y: int) -> tuple[float, float]:
    """The middle of a pixel of a map (h, w), moved a quarter towards the higher neighbours."""
    h, w = heatmap.shape
    right = heatmap[y, min(x + 1, w - 1)] > heatmap[y, max(x - 1, 0)]
    down = heatmap[min(y + 1, h - 1), x] > heatmap[max(y - 1, 0), x]
    return x + 0.5 + (0.25 if right else -0.25), y + 0.5 + (0.25 if down else -0.25)


def plain_group(
    heatmap: np.ndarray, tag: np.ndarray, settings: GroupingSettings, solve: Solver = linear_sum_assignment
) -> tuple[np.ndarray, np.ndarray]:
    """People in the order in which they were begun.

    Args:
        heatmap: (K, h, w).
        tag: (K, H, W) or (K, H, W, T), as fine as the heatmap or coarser.
        settings: thresholds.
        solve: costs (N, P) -> rows and columns of an assignment.

    Returns:
        Poses (P, K, 3), x and y in map pixels and value, 0 where a joint is missing; scores (P,).
    """
    count, h, w = heatmap.shape
    full = np.stack(
        [cv2.resize(one, (w, h), interpolation=cv2.INTER_LINEAR).reshape(h, w, -1) for one in tag]
    )
    people: dict[float, PlainPerson] = {}
    for k in [k for k in ORDER if k < count] + list(range(17, count)):
        peaks = peaks_of(heatmap[k], settings)
        tags = [full[k, y, x] for x, y, _ in peaks]
        known = list(people)[: settings.max_people]
        owner: dict[int, int] = {}
        if known and peaks:
            means = [np.mean([t.astype(np.float64) for t in people[key].tags], axis=0) for key in known]
            distances = np.array([[np.linalg.norm(t - mean) for mean in means] for t in tags])
            owner = assigned(distances, np.array([value for *_, value in peaks]), settings, solve)
        for i, peak in enumerate(peaks):
            if i in owner:
                person = people[known[owner[i]]]
                person.tags.append(tags[i])
            else:
                person = people.setdefault(float(tags[i][0]), PlainPerson())
                person.tags = [tags[i]]
            person.joints[k] = peak
    poses = np.zeros((len(people), count, 3))
    for row, person in zip(poses, people.values(), strict=True):
        for k, (x, y, value) in person.joints.items():
            row[k] = (
                *(quarter(heatmap[k], int(x), int(y)) if settings.adjust else (x + 0.5, y + 0.5)),
                value,
            )
    scores = poses[:, :, 2].mean(axis=1)
    if settings.refine:
        for row, person in zip(poses, people.values(), strict=True):
            refine(heatmap, full, row, person)
    return poses, scores


def refine(heatmap: np.ndarray, full: np.ndarray, pose: np.ndarray, person: PlainPerson) -> None:
    """Look for every joint of a person on the whole map, and put in those that are missing.

    Args:
        heatmap: (K, h, w).
        full: tags (K, h, w, T).
        pose: (K, 3), changed.
        person: whose it is.
    """
    own = [full[k, int(y), int(x)] for k, (x, y, _) in person.joints.items()]
    mean = np.mean(own, axis=0)
    for k in range(len(heatmap)):
        apart = np.sqrt(((full[k] - mean) ** 2).sum(axis=2))
        y, x = np.unravel_index(np.argmax(heatmap[k] - np.round(apart)), apart.shape)
        if heatmap[k, y, x] > 0 and pose[k, 2] == 0:
            pose[k] = (*quarter(heatmap[k], int(x), int(y)), heatmap[k, y, x])
