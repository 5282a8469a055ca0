"""The learning rate as a function of how much of the run is done."""

from __future__ import annotations

import math

from training.loop.recipe import ScheduleSection


def rate_factor(schedule: ScheduleSection, done: float, step: int) -> float:
    """Factor on the base rate.

    Args:
        schedule: the recipe's.
        done: share of the run that is done, 0..1: of its steps, or of its minutes.
        step: updates so far, for the warm-up.
    """
    warm, rising = 1.0, schedule.warmup_share
    if schedule.warmup_steps:
        warm = min(1.0, (step + 1) / schedule.warmup_steps)
    elif done < rising:
        warm = 0.1 + 0.9 * done / rising
    if schedule.kind == "linear":
        left = min(1.0, max(0.0, (1 - done) / (1 - rising)))
        return warm * (schedule.final + (1 - schedule.final) * left)
    if schedule.kind == "cosine":
        return warm * (schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))
    return warm * schedule.gamma ** sum(done >= milestone for milestone in schedule.milestones)
