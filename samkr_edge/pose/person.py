"""One person of a result, and joints by name."""

from __future__ import annotations

from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np

from samkr_edge.pose.skeleton import Skeleton


class Joint(NamedTuple):
    """A joint's place in image pixels, and its score: the centre's score times the heatmap's value there."""

    x: float
    y: float
    score: float


@dataclass(frozen=True, repr=False)
class Pose:
    """One person: ``poses[0]``, or what iterating over ``Poses`` gives.

    Attributes:
        keypoints: float32 (K, 2), x and y in image pixels.
        joint_scores: float32 (K,).
        score: their mean.
        box: (x0, y0, x1, y1) around the sure joints.
        id: the same number for the same person from frame to frame; None without tracking.
        skeleton: what the joints are called; None if the poses do not say.
    """

    keypoints: np.ndarray
    joint_scores: np.ndarray
    score: float
    box: tuple[float, float, float, float]
    id: int | None = None
    skeleton: Skeleton | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pose) and same_values(self, other)

    def __getitem__(self, joint: str | int) -> Joint:
        """A joint by name or number: ``x, y, score = person["left_wrist"]``.

        Raises:
            KeyError: no joint has this name; IndexError: there are fewer joints.
        """
        number = self._number(joint) if isinstance(joint, str) else joint
        x, y = self.keypoints[number].tolist()
        return Joint(x, y, float(self.joint_scores[number]))

    @property
    def joints(self) -> dict[str, Joint]:
        """Every joint by its name, in the skeleton's order; empty without a skeleton."""
        names = () if self.skeleton is None else self.skeleton.keypoints
        return {name: self[number] for number, name in enumerate(names)}

    def _number(self, name: str) -> int:
        names = () if self.skeleton is None else self.skeleton.keypoints
        if name in names:
            return names.index(name)
        if not names:
            raise KeyError(f"no joint has the name {name!r}: these poses have no skeleton, only numbers")
        nearest = get_close_matches(name, names, 1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are {', '.join(names)}"
        raise KeyError(f"no joint has the name {name!r}; {hint}")

    def __repr__(self) -> str:
        number = "" if self.id is None else f"id {self.id}, "
        box = ", ".join(f"{side:.0f}" for side in self.box)
        return f"<Pose: {number}score {self.score:.2f}, {len(self.keypoints)} joints, box ({box})>"


def same_values(one: Any, other: Any) -> bool:
    """Whether two of one dataclass have the same values, arrays compared as a whole."""
    pairs = [(getattr(one, each.name), getattr(other, each.name)) for each in fields(one)]
    return all(
        type(a) is type(b) and bool(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b)
        for a, b in pairs
    )
