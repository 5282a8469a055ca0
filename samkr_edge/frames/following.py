"""People from frame to frame: tracked, and smoothed."""

from __future__ import annotations

from samkr_edge.frames.smooth import Smoother
from samkr_edge.frames.track import Tracker
from samkr_edge.pose.poses import Poses
from samkr_edge.pose.skeleton import Skeleton


class Following:
    """Called with the people of each frame of one source, in order."""

    def __init__(self, skeleton: Skeleton, *, track: bool, smooth: bool) -> None:
        """Without ``track`` nobody has an id, although smoothing follows people too."""
        self._track = track
        self._tracker = Tracker(skeleton) if track or smooth else None
        self._smoother = Smoother() if smooth else None

    def __call__(self, poses: Poses, seconds: float) -> Poses:
        """The same people, with ids and steadier joints if that is wanted."""
        if self._tracker is not None:
            poses = self._tracker(poses, seconds)
        if self._smoother is not None:
            poses = self._smoother(poses, seconds)
        return poses if self._track else poses.without_ids()
