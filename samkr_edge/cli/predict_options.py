"""The options of `predict` that apply to all sources."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from samkr_edge.pose.decode_settings import SURE_PERSON
from samkr_edge.pose.poses import Poses


@dataclass(frozen=True)
class Options:
    """What to keep, what to draw and where to write; ``out`` None writes nothing."""

    out: Path | None
    threshold: float = SURE_PERSON
    max_people: int | None = None
    overlays: bool = True
    boxes: bool = True
    track: bool = False
    smooth: bool = False
    reconnect: bool = False

    def choose(self, poses: Poses) -> Poses:
        """The people to keep."""
        return poses.above(self.threshold).best(self.max_people)
