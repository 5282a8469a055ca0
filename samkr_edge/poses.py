"""The result of looking at one image: people, their joints, and how sure the network is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Poses:
    """P people of K joints, best first.

    Attributes:
        keypoints: float32 (P, K, 2), x and y; in image pixels unless a function says otherwise.
        joint_scores: float32 (P, K).
        scores: float32 (P,).
    """

    keypoints: np.ndarray
    joint_scores: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        people, joints = self.joint_scores.shape
        if self.keypoints.shape != (people, joints, 2) or self.scores.shape != (people,):
            raise ValueError(
                f"keypoints {self.keypoints.shape}, joint scores {self.joint_scores.shape} and scores "
                f"{self.scores.shape} do not belong together"
            )

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls, keypoints: int) -> Poses:
        zero = np.zeros((0, keypoints), np.float32)
        return cls(np.zeros((0, keypoints, 2), np.float32), zero, np.zeros(0, np.float32))

    def above(self, threshold: float) -> Poses:
        """The people whose score is at least ``threshold``."""
        keep = self.scores >= threshold
        return Poses(self.keypoints[keep], self.joint_scores[keep], self.scores[keep])

    def to_coco(self, image_id: int, category_id: int = 1) -> list[dict[str, Any]]:
        """COCO results entries; the third number of a joint is its score."""
        triples = np.concatenate([self.keypoints, self.joint_scores[..., None]], axis=2).astype(float)
        return [
            {
                "image_id": int(image_id),
                "category_id": category_id,
                "keypoints": [round(value, 3) for value in person.ravel().tolist()],
                "score": float(score),
            }
            for person, score in zip(triples, self.scores, strict=True)
        ]
