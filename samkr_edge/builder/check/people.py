"""The people of the probe images: do they stay in a built model, and how far do their joints move?

A built model is compared at the centres of its source's people, so that the order of its list does not matter.
"""

from __future__ import annotations

import numpy as np

from samkr_edge.builder.check.grouped_people import clear_groups, stay_grouped
from samkr_edge.builder.check.maps import Maps
from samkr_edge.builder.check.seen_people import People, Staying
from samkr_edge.errors import SamkrError
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.decode import find_peaks, sample, suppress

# People who score less are ignored: the smallest change may lose them.
CLEAR_SCORE = 0.1
# A person stays if the centre keeps this share of its value and is above the decoder's threshold.
KEPT_SHARE = 0.25
# A map must change from image to image by this share of its largest value; less is float rounding.
_LEAST_CHANGE = 1e-6


def clear_people(maps: Maps, card: ModelCard) -> People:
    """Decode the maps and keep the people the network is sure of; none for an untrained network."""
    if card.grouping is not None:
        return clear_groups(maps, card)
    found: list[tuple[int, np.ndarray, float, np.ndarray]] = []
    if not card.provenance.get("untrained"):
        for image, (heatmap, offset) in enumerate(zip(*maps, strict=True)):
            centers, values = find_peaks(heatmap[-1], card.decode)
            if not len(centers):
                continue
            joints = joints_at(offset, centers)
            heat = sample(heatmap[:-1], joints, card.stride)
            scores = values * heat.mean(axis=1)
            kept = suppress(card.stride * joints, heat.mean(axis=1), card.decode)
            found += [
                (image, centers[i], float(values[i]), card.stride * joints[i])
                for i in kept
                if scores[i] >= CLEAR_SCORE
            ]
    keypoints = maps.association.shape[1] // 2
    return People(
        np.array([one[0] for one in found], np.int64),
        np.array([one[1] for one in found], np.int64).reshape(-1, 2),
        np.array([one[2] for one in found], np.float32),
        np.array([one[3] for one in found], np.float32).reshape(-1, keypoints, 2),
        np.ones((len(found), keypoints), np.bool_),
    )


def refuse_blind(maps: Maps, card: ModelCard, probe: str) -> None:
    """Refuse a network whose output does not depend on the image: any build of it would agree.

    The output of an untrained network does depend on it.

    Args:
        maps: of several images (N, C, h, w); for a single one, its pixels are compared.
        card: says which channel shows people: the centre, or with grouping any keypoint.
        probe: what the images are, in words.

    Raises:
        SamkrError: SE-A28 the heatmap is the same for all images.
    """
    centers = maps.heatmap[:, -1] if card.grouping is None else maps.heatmap
    what = "centre heatmap" if card.grouping is None else "heatmap"
    change = np.ptp(centers, axis=0 if len(centers) > 1 else None).max()
    if change <= _LEAST_CHANGE * np.abs(centers).max():
        raise SamkrError(
            "SE-A28",
            f"the network gives the same {what} for every picture, so nothing was written",
            {
                "it is": f"{centers.min():.2g} to {centers.max():.2g} on {probe}",
                "so": "it finds nobody, or the same people in every picture",
            },
            fix="samkr-edge eval CHECKPOINT --data DIR   # weights that died in training or quantization",
        )


def joints_at(offset: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """(P, K, 2) map pixels of the people at ``centers`` (P, 2), from an offset map (2K, h, w)."""
    at = offset[:, centers[:, 1], centers[:, 0]].T.reshape(len(centers), len(offset) // 2, 2)
    return np.asarray(centers[:, None, :] - at, np.float32)


def stay(people: People, maps: Maps, card: ModelCard) -> Staying:
    """Look for the people in other maps, at the same centres; with grouping, where their joints are."""
    if card.grouping is not None:
        return stay_grouped(people, maps, card)
    moved, kept = [], 0
    for image, center, value, joints in zip(
        people.image, people.centers, people.values, people.joints, strict=True
    ):
        x, y = center
        around = maps.heatmap[image, -1, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        if around.max() > max(KEPT_SHARE * value, card.decode.center_threshold):
            kept += 1
            there = card.stride * joints_at(maps.association[image], center[None])[0]
            moved.append(np.linalg.norm(there - joints, axis=1))
    return Staying(len(people), kept, np.concatenate(moved) if moved else np.zeros(0))
