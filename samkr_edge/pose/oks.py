"""Object keypoint similarity, and who counts: the definitions of the COCO and CrowdPose evaluations.

OKS of a pose and a person is the mean over the person's labelled joints of ``exp(-d^2 / (2 k^2 s^2))``: d the joints'
distance in pixels, s^2 the person's area in square pixels, k = 2 sigma a measure of annotators' disagreement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

# CrowdPose's evaluation takes this share of a person's box as the area; COCO's outlines cover about as much.
BOX_AREA_SHARE = 0.53
# CrowdPose's levels of crowding, by an image's crowdIndex.
_EASY_BELOW, _MEDIUM_BELOW = 0.2, 0.8
# Assumed length, in pixels, of people with a single joint.
_LONE_EXTENT = 64.0
CrowdingLevel: TypeAlias = Literal["easy", "medium", "hard"]


def oks(
    joints: np.ndarray,
    people: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
    counted: np.ndarray,
) -> np.ndarray:
    """Object keypoint similarity float64 (P, G), 0..1, of every pose with every person; NaN where no joint counts.

    Args:
        joints: (P, K, 2) of the poses, in pixels.
        people: (G, K, 2) of the people, in the same pixels.
        areas: (G,) of the people, or (P, G) by the pose, in square pixels; 0 is similar to nothing but itself.
        sigmas: (K,) fall-offs, see ``samkr_edge.pose.skeleton.Skeleton``.
        counted: bool, broadcast to (P, G, K): the joints to compare, usually the people's labelled ones.
    """
    terms = joint_similarities(joints, people, areas, sigmas)
    counted = np.broadcast_to(counted, terms.shape)
    return np.asarray((terms * counted).sum(axis=2) / counted.sum(axis=2))


def joint_similarities(
    joints: np.ndarray, people: np.ndarray, areas: np.ndarray, sigmas: Sequence[float] | np.ndarray
) -> np.ndarray:
    """The terms of ``oks``, float64 (P, G, K), of joints (P, K, 2), people (G, K, 2), sigmas (K,) and areas
    (G,) or (P, G).
    """
    squares = ((joints[:, None] - people[None]) ** 2).sum(axis=3)
    variances = (2 * np.asarray(sigmas)) ** 2
    return np.asarray(np.exp(-squares / (2 * variances * (areas[..., None] + np.spacing(1)))))


def box_area(width: float, height: float) -> float:
    """Area of a person in a box, in the unit of its sides squared."""
    return width * height * BOX_AREA_SHARE


def pose_area(joints: np.ndarray) -> float:
    """Square pixels that a person of these joints (K, 2) covers, about: by their box, at least a third as wide as long.

    People seen from the side are about that wide. All joints that are where the person is are needed, see
    ``placed_joints``: of a person who is hidden but for the face, the sure ones alone would give an area in which no
    joint may move by a pixel.
    """
    width, height = np.ptp(joints, axis=0).tolist()
    longer = max(width, height, 8.0 if len(joints) > 1 else _LONE_EXTENT)
    return box_area(longer, max(min(width, height), longer / 3))


def person_area(annotation: Mapping[str, Any], kind: str) -> float:
    """Square pixels of an annotated person: as annotated, or by the box in a data set of kind ``crowdpose``."""
    return box_area(*annotation["bbox"][2:]) if kind == "crowdpose" else float(annotation["area"])


def is_labelled(keypoints: np.ndarray) -> np.ndarray:
    """Bool (..., K): the keypoints (..., K, 3) x, y, v that are labelled, whether seen (v = 2) or hidden (v = 1)."""
    return np.asarray(keypoints[..., 2] > 0)


def labelled_joints(keypoints: Sequence[float]) -> int:
    """How many joints of an annotation are labelled; keypoints are its 3 K numbers x, y, v."""
    return sum(v > 0 for v in keypoints[2::3])


def is_labelled_person(annotation: Mapping[str, Any]) -> bool:
    """Somebody with a labelled joint, and not a crowd."""
    return not annotation["iscrowd"] and labelled_joints(annotation["keypoints"]) > 0


def is_ignored(annotation: Mapping[str, Any]) -> bool:
    """A crowd, or a person of 0 ``num_keypoints``: not evaluated, and neither target nor background in training."""
    return bool(annotation["iscrowd"]) or annotation["num_keypoints"] == 0


def crowding_level(crowd_index: float | None) -> CrowdingLevel:
    """CrowdPose's level of an image; one without a crowdIndex is easy."""
    index = crowd_index or 0.0
    return "easy" if index < _EASY_BELOW else "medium" if index < _MEDIUM_BELOW else "hard"
