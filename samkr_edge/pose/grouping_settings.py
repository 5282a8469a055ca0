"""How heatmaps and tags become people: the settings of decoding by grouping, and their limits."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class GroupingSettings:
    """How heatmaps and tags become poses. Defaults are HigherHRNet's (HRNet/HigherHRNet-Human-Pose-Estimation).

    Attributes:
        max_people: limit of people that a joint is matched with, and of poses kept.
        candidates: limit of heatmap peaks considered per keypoint; at most ``max_people``.
        joint_threshold: a peak is a joint above this heatmap value.
        tag_threshold: a joint belongs to a person when its tag is closer than this to the mean of the person's tags.
        adjust: joints move a quarter of a map pixel towards the higher neighbour.
        refine: a person's missing joints are looked for where heatmap and tags speak for them.

    Raises:
        ValueError: more candidates than people.
    """

    max_people: int = 30
    candidates: int = 30
    joint_threshold: float = 0.1
    tag_threshold: float = 1.0
    adjust: bool = True
    refine: bool = True

    def __post_init__(self) -> None:
        # Each candidate of the first keypoint begins a person.
        if self.candidates > self.max_people:
            raise ValueError(
                f"{self.candidates} candidates per keypoint are more than the {self.max_people} people allowed"
            )


# Limits of each number. A position without a response has the value 0, so no threshold lies below.
GROUPING_LIMITS = {
    "max_people": (1, inf),
    "candidates": (1, inf),
    "joint_threshold": (0, 1),
    "tag_threshold": (0, inf),
}
