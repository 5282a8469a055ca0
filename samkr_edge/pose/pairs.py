"""Whose pose is whose: the people that two networks find in one image, paired by OKS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samkr_edge.pose.oks import joint_similarities, pose_area

# Below this OKS two poses are two people, not one that moved.
SAME_PERSON = 0.1


@dataclass(frozen=True)
class PairedPeople:
    """People of a reference and of another network.

    Attributes:
        kept: (index in the reference, index in the other) of each pair, the most similar first.
        lost: indices in the reference of people that the other does not have.
        new: indices in the other of people that the reference does not have.
        similarities: float64 (P, G, K), the OKS term of each joint, of every pose of the other with every one of the
            reference.
    """

    kept: list[tuple[int, int]]
    lost: list[int]
    new: list[int]
    similarities: np.ndarray


def pair_people(
    reference: np.ndarray,
    others: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
    counted: np.ndarray | None = None,
    areas: np.ndarray | None = None,
) -> PairedPeople:
    """Pair people by OKS, the best pair first.

    Args:
        reference: (G, K, 2) joints, in pixels.
        others: (P, K, 2) in the same pixels.
        sigmas: (K,) fall-offs, see ``samkr_edge.pose.skeleton.Skeleton``.
        counted: bool (G, K), the reference's joints to compare; all by default.
        areas: (G,) of the reference's people, square pixels; by default ``pose_area`` of all their joints.
    """
    if areas is None:
        areas = np.array([pose_area(joints) for joints in reference])
    terms = joint_similarities(others, reference, areas, sigmas)
    weights = np.ones(reference.shape[:2]) if counted is None else counted.astype(float)
    oks = (terms * weights).sum(axis=2) / np.maximum(weights.sum(axis=1), 1)
    left, right = set(range(len(reference))), set(range(len(others)))
    kept = []
    # Equal pairs in the order of the reference's people, who come best first.
    for first, second in zip(
        *np.unravel_index(np.argsort(-oks.T, axis=None, kind="stable"), oks.T.shape), strict=True
    ):
        if first in left and second in right and oks[second, first] >= SAME_PERSON:
            left.remove(first)
            right.remove(second)
            kept.append((int(first), int(second)))
    return PairedPeople(kept, sorted(left), sorted(right), terms)
