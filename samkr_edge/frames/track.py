"""The same number for the same person from frame to frame, by object keypoint similarity.

Each known person is moved on at its speed; poses are assigned to the most similar people, best pair first.
Similarity is OKS as in the COCO keypoint evaluation, with wider sigmas: people move between frames.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from samkr_edge.pose.oks import oks, pose_area
from samkr_edge.pose.placed_joints import placed_joints
from samkr_edge.pose.poses import SURE_JOINT, Poses
from samkr_edge.pose.skeleton import Skeleton

_LEAST_FRAMES = 3
# Number of intervals between frames whose median is the usual one; a late frame is not usual.
_INTERVALS = 9


@dataclass(frozen=True)
class TrackSettings:
    """Attributes:

    similarity: least OKS of a pose and the person it may be.
    wider: factor on the skeleton's sigmas.
    patience: seconds for which an unseen person is remembered, at least three frames.
    steadiness: share of the old speed in the new one.
    """

    similarity: float = 0.2
    wider: float = 2.0
    patience: float = 1.0
    steadiness: float = 0.6


@dataclass
class _Track:
    number: int
    joints: np.ndarray  # (K, 2) where last seen; a copy, since the caller may change the poses
    placed: np.ndarray  # bool (K,) joints that were seen in their place then
    known: np.ndarray  # bool (K,) or before, and have moved on with the person since
    seen: float
    speed: np.ndarray  # (2,) pixels a second, of the whole body

    def at(self, seconds: float) -> np.ndarray:
        return self.joints + self.speed * (seconds - self.seen)

    @property
    def area(self) -> float:
        return pose_area(self.joints[self.known])


class Tracker:
    """Gives ids to the poses of consecutive frames; ids start at 1 and are never reused.

    ``grouped``: see ``placed_joints``.
    """

    def __init__(
        self, skeleton: Skeleton, settings: TrackSettings | None = None, *, grouped: bool = False
    ) -> None:
        self.settings = settings or TrackSettings()
        self._grouped = grouped
        self._sigmas = np.array(skeleton.sigmas) * self.settings.wider
        self._people: list[_Track] = []
        self._next = 1
        self._last: float | None = None
        self._intervals: deque[float] = deque(maxlen=_INTERVALS)

    def __call__(self, poses: Poses, seconds: float) -> Poses:
        """The same poses with ids; frames must come in order."""
        patience = self._patience(seconds)
        self._people = [p for p in self._people if seconds - p.seen <= patience]
        ids = np.zeros(len(poses), np.int64)
        free = set(range(len(self._people)))
        placed = placed_joints(poses.joint_scores, grouped=self._grouped)
        similarities = self._similarities(poses, placed, seconds)
        for flat in np.argsort(-similarities, axis=None, kind="stable"):
            row, column = np.unravel_index(flat, similarities.shape)
            if similarities[row, column] < self.settings.similarity:
                break
            if column in free and not ids[row]:
                free.remove(int(column))
                person = self._people[column]
                ids[row] = person.number
                self._move(person, poses.keypoints[row].copy(), placed[row], seconds)
        for row in np.flatnonzero(ids == 0):
            ids[row] = self._next
            joints = poses.keypoints[row].copy()
            self._people.append(_Track(self._next, joints, placed[row], placed[row], seconds, np.zeros(2)))
            self._next += 1
        return poses.with_ids(ids)

    def _patience(self, seconds: float) -> float:
        """Seconds after which an unseen person is forgotten, at the current frame rate."""
        if self._last is not None:
            self._intervals.append(seconds - self._last)
        self._last = seconds
        usual = sorted(self._intervals)[(len(self._intervals) - 1) // 2] if self._intervals else 0.0
        return max(self.settings.patience, (_LEAST_FRAMES + 0.5) * usual)

    def _similarities(self, poses: Poses, placed: np.ndarray, seconds: float) -> np.ndarray:
        """OKS (P, known people), over the joints that are sure in the new frame, over all if none is; 0 where the known
        person has none of these.
        """
        if not self._people or not len(poses):
            return np.zeros((len(poses), len(self._people)))
        known = np.stack([person.at(seconds) for person in self._people])  # (T, K, 2)
        areas = np.array([person.area for person in self._people])
        if self._grouped:
            # Who was seen by the face alone is as large as the body that is there now.
            now = [pose_area(joints[there]) for joints, there in zip(poses.keypoints, placed, strict=True)]
            areas = np.maximum(areas, np.array(now)[:, None])
        sure = poses.joint_scores >= SURE_JOINT
        sure[~sure.any(axis=1)] = True
        comparable = np.stack([person.known for person in self._people])
        with np.errstate(invalid="ignore"):
            similar = oks(poses.keypoints, known, areas, self._sigmas, sure[:, None] & comparable)
        return np.nan_to_num(similar, nan=0.0)

    def _move(self, person: _Track, joints: np.ndarray, placed: np.ndarray, seconds: float) -> None:
        """Joints that are not placed go on with the person."""
        step, expected, both = seconds - person.seen, person.at(seconds), placed & person.placed
        if step > 0 and both.any():
            speed = (joints - person.joints)[both].mean(axis=0) / step
            keep = self.settings.steadiness
            person.speed = keep * person.speed + (1 - keep) * speed
        person.joints = np.where(placed[:, None], joints, expected).astype(joints.dtype)
        person.placed, person.known, person.seen = placed, placed | person.known, seconds
