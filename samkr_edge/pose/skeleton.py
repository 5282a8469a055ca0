"""A skeleton: the keypoints of a data set, which mirror each other, which are joined, and their OKS sigmas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from samkr_edge.errors import SamkrError


@dataclass(frozen=True)
class Skeleton:
    """The set of keypoints of a network or data set.

    Attributes:
        name: ``coco17``, ``crowdpose14`` or the user's own.
        keypoints: K names, in channel order.
        flip_pairs: index pairs that swap when the image is mirrored; a keypoint is in at most one.
        edges: index pairs to draw as bones.
        sigmas: K OKS fall-offs, the per-keypoint constant of the COCO evaluation (k = 2 sigma).
    """

    name: str
    keypoints: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    edges: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]

    def __post_init__(self) -> None:
        count = len(self.keypoints)
        if count == 0 or len(self.sigmas) != count:
            raise ValueError(f"{count} keypoints but {len(self.sigmas)} sigmas")
        for first, second in (*self.flip_pairs, *self.edges):
            if not (0 <= first < count and 0 <= second < count):
                raise ValueError(f"pair ({first}, {second}) is outside 0..{count - 1}")
        bad = [sigma for sigma in self.sigmas if not (math.isfinite(sigma) and sigma > 0)]
        if bad:
            raise ValueError(f"a sigma of {bad[0]}, where each must be above 0")
        swapped = [index for pair in self.flip_pairs for index in {*pair}]
        twice = next((index for index in swapped if swapped.count(index) > 1), None)
        if twice is not None:
            raise ValueError(f"keypoint {twice} ({self.keypoints[twice]}) is in two flip pairs")

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def flip_order(self) -> tuple[int, ...]:
        """Permutation p of length K: channel i of a mirrored image is channel p[i] of the original."""
        order = list(range(len(self)))
        for first, second in self.flip_pairs:
            order[first], order[second] = second, first
        return tuple(order)

    def require_same(self, other: Skeleton, own: str, others: str, fix: str | None = None) -> None:
        """Refuse to combine two things whose keypoints differ, or come in another order.

        Args:
            own: what has this skeleton, for the message, such as ``model``.
            others: what has the other one, such as ``data``.
            fix: instead of "use data for the model, or a model for the data".

        Raises:
            SamkrError: SE-D26.
        """
        if self.keypoints == other.keypoints:
            return
        facts = {
            own: f"{len(self)} keypoints ({self.name})",
            others: f"{len(other)} keypoints ({other.name})",
        }
        pairs = zip(self.keypoints, other.keypoints, strict=False)
        unlike = [(number, *names) for number, names in enumerate(pairs, start=1) if len({*names}) > 1]
        if unlike and len(self) == len(other):
            number, mine, theirs = unlike[0]
            facts["differ"] = f"{len(unlike)}; the first is number {number}: {own} {mine}, {others} {theirs}"
        raise different_keypoints(facts, fix)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "keypoints": list(self.keypoints),
            "flip_pairs": [list(pair) for pair in self.flip_pairs],
            "edges": [list(pair) for pair in self.edges],
            "sigmas": list(self.sigmas),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Skeleton:
        return cls(
            name=str(data["name"]),
            keypoints=tuple(str(name) for name in data["keypoints"]),
            flip_pairs=tuple((int(a), int(b)) for a, b in data["flip_pairs"]),
            edges=tuple((int(a), int(b)) for a, b in data["edges"]),
            sigmas=tuple(float(s) for s in data["sigmas"]),
        )


def different_keypoints(found: Mapping[str, str], fix: str | None = None) -> SamkrError:
    """SE-D26.

    Args:
        found: what was compared -> its keypoints, in words; the first two are named in the message.
    """
    own, others = list(found)[:2]
    return SamkrError(
        "SE-D26",
        f"the {own} and the {others} have different keypoints, so nothing was done",
        found,
        fix=fix
        or "give data with the keypoints of the model, or train a model on this data: samkr-edge recipes",
    )


# Order and sigmas: COCO keypoint evaluation (pycocotools, Params.kpt_oks_sigmas).
COCO17 = Skeleton(
    name="coco17",
    keypoints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
        "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
        "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    edges=(
        (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10),
        (5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16),
    ),
    sigmas=(.026, .025, .025, .035, .035, .079, .079, .072, .072, .062, .062, .107, .107, .087, .087, .089, .089),
)  # fmt: skip

# Order and sigmas: the CrowdPose evaluation API.
CROWDPOSE14 = Skeleton(
    name="crowdpose14",
    keypoints=(
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head", "neck",
    ),
    flip_pairs=((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11)),
    edges=(
        (12, 13), (13, 0), (13, 1), (0, 2), (2, 4), (1, 3), (3, 5), (0, 6), (1, 7), (6, 7),
        (6, 8), (8, 10), (7, 9), (9, 11),
    ),
    sigmas=(.079, .079, .072, .072, .062, .062, .107, .107, .087, .087, .089, .089, .079, .079),
)  # fmt: skip
