"""The result for one image: people, their joints, and how sure the network is."""

from __future__ import annotations

import html
import importlib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, overload

import numpy as np

from samkr_edge.packages import not_installed, resolve
from samkr_edge.pose.person import Pose, same_values
from samkr_edge.pose.skeleton import Skeleton
from samkr_edge.pose.stick_figures import stick_figures
from samkr_edge.printable import counted

# A joint below this score is a guess, unconfirmed by the heatmap, or was not found: not drawn, visibility 1.
SURE_JOINT = 0.05
# Scores in a ``repr``.
_SHOWN = 8


@dataclass(frozen=True, repr=False)
class Poses:
    """P people of K joints, best first. Checked on construction, so that no wrong shape, type or NaN spreads.

    ``len(poses)``, ``for person in poses``, ``poses[0]["left_wrist"]``; a slice, indices or a mask give ``Poses``.

    Attributes:
        keypoints: float32 (P, K, 2), x and y; in image pixels unless a function says otherwise.
        joint_scores: float32 (P, K), the heatmap's value at the joint; with offsets, times the centre's.
        scores: float32 (P,), the mean of a person's joint scores; with grouping, of what the peaks gave, 0 where none.
        ids: int64 (P,), the same number for the same person from frame to frame; None without tracking.
        skeleton: names of the joints and the bones between them; a model sets it.
    """

    keypoints: np.ndarray
    joint_scores: np.ndarray
    scores: np.ndarray
    ids: np.ndarray | None = None
    skeleton: Skeleton | None = None

    def __post_init__(self) -> None:
        for name in ("keypoints", "joint_scores", "scores"):
            if not isinstance(getattr(self, name), np.ndarray):
                raise ValueError(f"{name} must be a NumPy array, found {type(getattr(self, name)).__name__}")
        if self.joint_scores.ndim != 2:
            raise ValueError(f"joint scores must be (P, K), found {self.joint_scores.shape}")
        people, joints = self.joint_scores.shape
        if (
            self.keypoints.shape != (people, joints, 2)
            or self.scores.shape != (people,)
            or (self.ids is not None and self.ids.shape != (people,))
        ):
            raise ValueError(
                f"keypoints {self.keypoints.shape}, joint scores {self.joint_scores.shape}, scores "
                f"{self.scores.shape} and ids {None if self.ids is None else self.ids.shape} do not match"
            )
        if self.skeleton is not None and len(self.skeleton) != joints:
            raise ValueError(f"poses of {joints} joints, a skeleton of {len(self.skeleton)}")
        for name in ("keypoints", "joint_scores", "scores"):
            array = getattr(self, name)
            if array.dtype != np.float32:
                raise ValueError(f"{name} must be float32, found {array.dtype}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} hold NaN or infinity")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Poses) and same_values(self, other)

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Pose]:
        return (self[rank] for rank in range(len(self)))

    @overload
    def __getitem__(self, which: int) -> Pose: ...

    @overload
    def __getitem__(self, which: slice | np.ndarray | list[int]) -> Poses: ...

    def __getitem__(self, which: int | slice | np.ndarray | list[int]) -> Pose | Poses:
        """One person by rank, from 0; the people of a slice, at indices (N,), or where a bool mask (P,) is true."""
        if isinstance(which, str):
            raise TypeError(f"a joint is one person's: poses[0][{which!r}]")
        if isinstance(which, list):
            which = np.array(which, None if which else int)
        if isinstance(which, slice | np.ndarray):
            return self.take(which)
        number = None if self.ids is None else int(self.ids[which])
        x0, y0, x1, y1 = _boxes(self.keypoints[which, None], self.joint_scores[which, None])[0].tolist()
        return Pose(
            self.keypoints[which],
            self.joint_scores[which],
            float(self.scores[which]),
            (x0, y0, x1, y1),
            number,
            self.skeleton,
        )

    def __repr__(self) -> str:
        scores = ", ".join(f"{score:.2f}" for score in self.scores[:_SHOWN].tolist())
        more = ", ..." if len(self) > _SHOWN else ""
        joints = self.skeleton.name if self.skeleton else counted(self.joint_scores.shape[1], "joint")
        told = f": scores {scores}{more}" if len(self) else ""
        return f"<Poses of {counted(len(self), 'person', 'people')} ({joints}){told}>"

    def _repr_html_(self) -> str:
        """In a notebook: the people as stick figures, without their image. ``plot`` draws into that."""
        return f"{stick_figures(self)}<div><code>{html.escape(repr(self))}</code></div>"

    @classmethod
    def empty(cls, keypoints: int, skeleton: Skeleton | None = None) -> Poses:
        """Nobody, with K = ``keypoints``."""
        zero = np.zeros((0, keypoints), np.float32)
        return cls(np.zeros((0, keypoints, 2), np.float32), zero, np.zeros(0, np.float32), skeleton=skeleton)

    @property
    def visibility(self) -> np.ndarray:
        """uint8 (P, K), COCO's flags: 2 where the heatmap confirms the joint, 1 where its position is guessed."""
        return np.where(self.joint_scores >= SURE_JOINT, 2, 1).astype(np.uint8)

    @property
    def boxes(self) -> np.ndarray:
        """float32 (P, 4), x0 y0 x1 y1 around each person's sure joints; around all where fewer than two are sure."""
        return _boxes(self.keypoints, self.joint_scores)

    @property
    def centers(self) -> np.ndarray:
        """float32 (P, 2), the mean of each person's joints weighted by their scores.

        DEKR's centre is the mean of the labelled joints; joints out of sight score almost 0.
        """
        weights = np.maximum(self.joint_scores, 1e-6)[..., None]
        centers: np.ndarray = (self.keypoints * weights).sum(axis=1) / weights.sum(axis=1)
        return centers

    def take(self, which: np.ndarray | slice) -> Poses:
        """The people at these indices, or where a bool mask (P,) is true."""
        ids = None if self.ids is None else self.ids[which]
        return Poses(self.keypoints[which], self.joint_scores[which], self.scores[which], ids, self.skeleton)

    def above(self, threshold: float) -> Poses:
        """The people whose score is at least ``threshold``."""
        return self.take(self.scores >= threshold)

    def centred_in(self, image_hw: tuple[int, int]) -> Poses:
        """The people whose centre lies within an image of this (H, W).

        DEKR's training ignores the padding around an image, so a network may find people there.
        """
        x, y = self.centers.T
        height, width = image_hw
        inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
        return self if inside.all() else self.take(inside)

    def best(self, count: int | None) -> Poses:
        """The first ``count`` people; all for None."""
        return self if count is None or count >= len(self) else self.take(slice(count))

    def with_ids(self, ids: np.ndarray) -> Poses:
        """The same people with tracking ids (P,)."""
        return replace(self, ids=np.asarray(ids, np.int64))

    def without_ids(self) -> Poses:
        """The same people without tracking ids."""
        return self if self.ids is None else replace(self, ids=None)

    def with_skeleton(self, skeleton: Skeleton) -> Poses:
        """The same people, whose joints have the names of this skeleton."""
        return replace(self, skeleton=skeleton)

    def plot(self, image: np.ndarray, *, boxes: bool = True) -> np.ndarray:
        """The people drawn, as by `predict`, into a copy, same shape, of their image, uint8 (H, W, 3) RGB.

        Raises:
            ValueError: not such an image, or the poses have no skeleton.
        """
        if self.skeleton is None:
            raise ValueError("these poses have no skeleton to draw: poses.with_skeleton(...) gives them one")
        drawn: np.ndarray = resolve("samkr_edge.frames.draw:draw_poses")(
            image, self, self.skeleton, boxes=boxes
        )
        return drawn

    def to_coco(self, image_id: int, category_id: int = 1) -> list[dict[str, Any]]:
        """COCO results entries; the third number of a joint is its score. A tracking id is ``track_id``."""
        triples = (
            np.concatenate([self.keypoints, self.joint_scores[..., None]], axis=2).astype(float).round(3)
        )
        entries: list[dict[str, Any]] = [
            {
                "image_id": int(image_id),
                "category_id": category_id,
                "keypoints": person.ravel().tolist(),
                "score": score,
            }
            for person, score in zip(triples, self.scores.tolist(), strict=True)
        ]
        if self.ids is not None:
            for entry, number in zip(entries, self.ids, strict=True):
                entry["track_id"] = int(number)
        return entries

    def to_supervision(self) -> Any:
        """As ``supervision.KeyPoints``; everybody is of class 0.

        Raises:
            SamkrError: SE-U70 the package supervision is not installed.
        """
        try:
            make = importlib.import_module("supervision").KeyPoints
        except ModuleNotFoundError as error:
            if error.name != "supervision":
                raise
            raise not_installed("Poses.to_supervision", "supervision", "pip install supervision") from error
        # The joints' confidences were renamed between versions of supervision.
        known = {field.name for field in fields(make)}
        confidence = "keypoint_confidence" if "keypoint_confidence" in known else "confidence"
        return make(xy=self.keypoints, class_id=np.zeros(len(self), int), **{confidence: self.joint_scores})


def _boxes(keypoints: np.ndarray, joint_scores: np.ndarray) -> np.ndarray:
    sure = joint_scores >= SURE_JOINT
    sure |= sure.sum(axis=1, keepdims=True) < 2
    mask = sure[..., None]
    low = np.where(mask, keypoints, np.inf).min(axis=1, initial=np.inf)
    high = np.where(mask, keypoints, -np.inf).max(axis=1, initial=-np.inf)
    return np.concatenate([low, high], axis=1).astype(np.float32)
