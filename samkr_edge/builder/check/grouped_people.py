"""The people of the probe images whom grouping finds: do they stay in a built model, and how far do their joints move?

Grouping makes choices: the smallest rounding can move a peak to the next pixel, fill a missing joint elsewhere, or
change whose joint it is. So only joints with a high peak are compared, and a person stays if most of them do.
"""

from __future__ import annotations

import numpy as np

from samkr_edge.builder.check.maps import Maps
from samkr_edge.builder.check.seen_people import People, Staying
from samkr_edge.decoding import people_of
from samkr_edge.model_card import ModelCard

# A person's mean of its joints' values, and a joint's value, from which the smallest change does not lose them.
CLEAR_SCORE, CLEAR_JOINT = 0.2, 0.25
# Of a person, this share of the clear joints must be within this share of the diagonal.
LEAST_JOINTS, NEAR = 0.6, 0.1
# Map pixels that a peak moves when its neighbour becomes the larger one: with its quarter pixels, along the diagonal.
GRAIN = 1.5 * 2**0.5


def clear_groups(maps: Maps, card: ModelCard) -> People:
    """Group the maps and keep the people and joints of whom the network is sure; none for an untrained network."""
    image: list[int] = []
    joints: list[np.ndarray] = []
    clear: list[np.ndarray] = []
    scores: list[float] = []
    if not card.provenance.get("untrained"):
        for number, (heatmap, tag) in enumerate(zip(*maps, strict=True)):
            found = people_of(heatmap, tag, card)
            sure = found.joint_scores >= CLEAR_JOINT
            for person in np.flatnonzero(
                (found.scores >= CLEAR_SCORE) & (2 * sure.sum(axis=1) > len(sure.T))
            ):
                image.append(number)
                joints.append(found.keypoints[person])
                clear.append(sure[person])
                scores.append(float(found.scores[person]))
    keypoints = len(card.skeleton)
    where = np.array(joints, np.float32).reshape(-1, keypoints, 2)
    return People(
        np.array(image, np.int64),
        np.zeros((len(image), 2), np.int64),
        np.array(scores, np.float32),
        where,
        np.array(clear, np.bool_).reshape(-1, keypoints),
        grain=GRAIN * card.stride,
    )


def stay_grouped(people: People, maps: Maps, card: ModelCard) -> Staying:
    """Group other maps of the same images, and look for each of the people among those found; NaN shows nobody."""
    if not maps.finite:
        return Staying(len(people), 0, np.zeros(0))
    heatmaps, tags = maps
    found = {
        image: people_of(heatmaps[image], tags[image], card).keypoints for image in set(people.image.tolist())
    }
    moved: list[np.ndarray] = []
    reach = NEAR * people.diagonals + people.grain
    for image, joints, clear, near in zip(people.image, people.joints, people.clear, reach, strict=True):
        if len(found[image]):
            apart = np.linalg.norm(found[image][:, clear] - joints[clear], axis=2)  # (Q, clear joints)
            own = apart[(apart <= near).sum(axis=1).argmax()]
            if (own <= near).mean() >= LEAST_JOINTS:
                moved.append(own[own <= near])
    return Staying(len(people), len(moved), np.concatenate(moved) if moved else np.zeros(0))
