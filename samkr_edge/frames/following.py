"""People from frame to frame: tracked, and smoothed."""

from __future__ import annotations

from samkr_edge.frames.smooth import Smoother
from samkr_edge.frames.track import Tracker
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.poses import Poses


class Following:
    """Called with the people of each frame of one source, in order."""

    def __init__(self, card: ModelCard, *, track: bool, smooth: bool) -> None:
        """Of the network with this card. Without ``track`` nobody has an id, although smoothing follows people too."""
        grouped = card.grouping is not None
        self._track = track
        self._tracker = Tracker(card.skeleton, grouped=grouped) if track or smooth else None
        self._smoother = Smoother(grouped=grouped) if smooth else None

    def __call__(self, poses: Poses, seconds: float) -> Poses:
        """The same people, with ids and steadier joints if that is wanted."""
        if self._tracker is not None:
            poses = self._tracker(poses, seconds)
        if self._smoother is not None:
            poses = self._smoother(poses, seconds)
        return poses if self._track else poses.without_ids()
