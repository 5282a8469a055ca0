"""Which joints of a sample prediction moved relative to the baseline's, and which people are lost or new."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.sample_pictures import SamplePerson
from samkr_edge.pose.oks import box_area, joint_similarities

# A joint has moved if its OKS term is below this, AP75's threshold.
MOVED_OKS = 0.75
# Below this OKS two poses are two people, not one that moved.
_SAME_PERSON_OKS = 0.1


@dataclass(frozen=True)
class Movement:
    """How one model's people differ from the baseline's in one image.

    Attributes:
        moved: (person of the model, joint) pairs that moved.
        extra: people of the model that the baseline does not see.
        missing: people of the baseline that the model does not see.
        joints: joints compared.
    """

    moved: frozenset[tuple[int, int]]
    extra: int
    missing: int
    joints: int


def compare(
    baseline: Sequence[SamplePerson], people: Sequence[SamplePerson], sigmas: Sequence[float]
) -> Movement:
    """Match people by OKS over all joints, best pair first; joints whose own term is below MOVED_OKS have moved."""
    if not baseline or not people:
        return Movement(frozenset(), len(people), len(baseline), 0)
    truth, others = (np.array([person.joints for person in each])[..., :2] for each in (baseline, people))
    areas = np.array([max(1.0, box_area(*joints)) for joints in np.ptp(truth, axis=1)])
    terms_of = joint_similarities(others, truth, areas, sigmas).tolist()  # [person][baseline's person][joint]
    pairs = sorted(
        (
            (-sum(terms) / len(terms), first, second, terms)
            for second, of_baseline in enumerate(terms_of)
            for first, terms in enumerate(of_baseline)
        ),
        key=lambda pair: pair[:3],
    )
    left, right = set(range(len(baseline))), set(range(len(people)))
    moved: set[tuple[int, int]] = set()
    joints = 0
    for similarity, first, second, terms in pairs:
        if first not in left or second not in right or -similarity < _SAME_PERSON_OKS:
            continue
        left.remove(first)
        right.remove(second)
        joints += len(terms)
        moved |= {(second, joint) for joint, term in enumerate(terms) if term < MOVED_OKS}
    return Movement(frozenset(moved), len(right), len(left), joints)
