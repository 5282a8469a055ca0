"""A budget in pixels: lost people are no way to move nobody."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.analysis.budget import LossBudget
from calibration.analysis.scoring import Difference, Followed
from calibration.analysis.trials import Trial
from samkr_edge.evaluation.against_reference import PeopleAgainst
from samkr_edge.evaluation.scores import Interval


def followed(moved: list[float], lost_joints: int = 0) -> Followed:
    return Followed.of(
        PeopleAgainst(5, int(lost_joints > 0), 0, np.array(moved, float), lost_joints, np.ones(5))
    )


def trial(points: float, found: Followed | None = None) -> Trial:
    lost = Interval(-points, -points, -points)
    return Trial(90.0, 0.9, Difference(lost, lost), {"heatmap": 0.0}, found)


def test_95_of_100_joints_decide_and_joints_of_lost_people_are_infinitely_far() -> None:
    near = [1.0] * 95
    assert followed([*near, *[50.0] * 5]).reach_px == 1.0
    assert followed(near, lost_joints=5).reach_px == 1.0
    assert followed(near[:94], lost_joints=6).reach_px is None
    assert followed([], lost_joints=17).reach_px is None
    assert "95 % of the joints at no distance, 1 of 6 people lost" in str(followed([], lost_joints=17))


@pytest.mark.parametrize(
    ("budget", "found", "points", "holds"),
    [
        (LossBudget(0.5), None, 0.5, True),
        (LossBudget(0.5), None, 0.6, False),
        (LossBudget(pixels=2), followed([1.0] * 20), 9, True),
        (LossBudget(pixels=2), followed([3.0] * 20), 0, False),
        (LossBudget(pixels=2), followed([0.0] * 20, lost_joints=2), 0, False),
        (LossBudget(pixels=2), None, 0, False),
        (LossBudget(0.5, 2), followed([1.0] * 20), 0.6, False),
        (LossBudget(0.5, 2), followed([1.0] * 20), 0.4, True),
    ],
)
def test_every_limit_has_to_hold(
    budget: LossBudget, found: Followed | None, points: float, holds: bool
) -> None:
    assert budget.holds(trial(points, found)) is holds


def test_the_better_policy_moves_joints_less_or_loses_less_ap() -> None:
    pixels, points = LossBudget(pixels=2), LossBudget(1.0)
    near, far, gone = (
        trial(p, f) for p, f in [(3, followed([1.0])), (2, followed([4.0])), (1, followed([], 9))]
    )
    assert sorted([gone, far, near], key=pixels.loss) == [near, far, gone]
    assert sorted([near, far, gone], key=points.loss) == [gone, far, near]
    assert str(LossBudget(0.5, 2, "AP against FP32")) == "2 px and 0.5 AP against FP32"


def test_a_trial_is_read_back_as_it_was_kept() -> None:
    for one in (trial(1.0), trial(1.0, followed([1.0, 2.0], 3))):
        assert Trial.from_dict(one.to_dict()) == one
