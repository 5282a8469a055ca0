"""The options of `predict` that apply to all sources."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from samkr_edge.cli.json_lines import JsonLines
from samkr_edge.frames.excerpt import Excerpt
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.poses import Poses


@dataclass(frozen=True)
class Options:
    """What to keep, what to draw and where to write; ``out`` None writes nothing.

    Attributes:
        threshold: least score of a person; None: the model's, as the card says.
        reconnect: open a camera or stream again that dropped.
        excerpt: the frames of video files that are wanted.
        lines: get every frame as it happens.
    """

    out: Path | None
    threshold: float | None = None
    max_people: int | None = None
    overlays: bool = True
    boxes: bool = True
    track: bool = False
    smooth: bool = False
    reconnect: bool = False
    excerpt: Excerpt = field(default_factory=Excerpt)
    lines: JsonLines = field(default_factory=lambda: JsonLines(None))

    def choose(self, poses: Poses, card: ModelCard) -> Poses:
        """The people to keep of those that the network of this card found."""
        return poses.above(self.least(card)).best(self.max_people)

    def least(self, card: ModelCard) -> float:
        """The least score of a person."""
        return card.sure_person if self.threshold is None else self.threshold
