"""Which joints of a sample prediction moved relative to the baseline's, and which people are lost or new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.sample_pictures import SamplePerson
from samkr_edge.pose.oks import pose_area
from samkr_edge.pose.pairs import pair_people
from samkr_edge.pose.placed_joints import placed_joints
from samkr_edge.pose.poses import SURE_JOINT

# A joint has moved if its OKS term is below this, AP75's threshold.
MOVED_OKS = 0.75


@dataclass(frozen=True)
class Movement:
    """How one model's people differ from the baseline's in one image.

    Attributes:
        moved: (person of the model, joint) pairs that moved, of joints that the baseline is sure of.
        extra: people of the model that the baseline does not see.
        missing: people of the baseline that the model does not see.
        joints: joints compared.
    """

    moved: frozenset[tuple[int, int]]
    extra: int
    missing: int
    joints: int


def compare(
    baseline: Sequence[SamplePerson],
    people: Sequence[SamplePerson],
    sigmas: Sequence[float],
    *,
    grouped: bool = False,
) -> Movement:
    """Pair people by OKS over the joints that the baseline is sure of; those whose own term is below MOVED_OKS have
    moved. ``grouped``: the baseline's people are, see ``placed_joints``.
    """
    if not baseline or not people:
        return Movement(frozenset(), len(people), len(baseline), 0)
    truth, others = (np.array([person.joints for person in each]) for each in (baseline, people))
    sure = truth[..., 2] >= SURE_JOINT
    placed = placed_joints(truth[..., 2], grouped=grouped)
    areas = np.array([pose_area(joints[there, :2]) for joints, there in zip(truth, placed, strict=True)])
    pairs = pair_people(truth[..., :2], others[..., :2], sigmas, sure, areas)
    moved = {
        (second, int(joint))
        for first, second in pairs.kept
        for joint in np.flatnonzero((pairs.similarities[second, first] < MOVED_OKS) & sure[first])
    }
    compared = int(sure[[first for first, _ in pairs.kept]].sum())
    return Movement(frozenset(moved), len(pairs.new), len(pairs.lost), compared)
