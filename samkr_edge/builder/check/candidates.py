"""Judge a built model that outputs candidates instead of maps, by its source's maps at the same people.

Its list may be in another order, and rounding moves a flat peak to the next pixel. So only the source's distinct peaks
are matched, by the positions of their joints. Each match is compared with the source as a map of one pixel, so that the
rest works as for maps. With few people, INT8 noise hides the shape of a fault, and their quantization error is too
small a sample for a bound: in INT8, people and joints decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from samkr_edge.builder.check.agreement import Agreement, Reference, judge_pairs
from samkr_edge.builder.check.maps import Maps
from samkr_edge.builder.check.people import joints_at
from samkr_edge.builder.check.seen_people import People, Staying
from samkr_edge.builder.check.suspects import Suspect
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.decode import find_peaks

# Two candidates are the same up to this mean distance of their joints: input pixels, as a multiple of the stride.
NEAR = 2.0
# To be compared, a peak must exceed its neighbours by this share of the largest value.
STANDING_OUT = {"fp32": 0.002, "fp16": 0.005, "int8": 0.05}
# If a map has fewer peaks than the list has rows, the graph fills the rest with scores far below this.
NO_PEAK = -1e3
# Share of the compared peaks that must be found.
LEAST_FOUND = 0.5


def judge_candidates(
    reference: Reference, outputs: Sequence[np.ndarray], card: ModelCard, precision: str
) -> Agreement:
    """Compare candidates ``poses`` (N, P, K, 3), ``scores`` (N, P)[, ``proposals`` (N, P, K, 2)] with maps."""
    poses, scores, *proposals = outputs
    joints = proposals[0] if proposals else poses[..., :2]
    everybody = replace(
        card.decode, center_threshold=-1e3
    )  # as the graph, which leaves the threshold to the host
    images, places, twins = [], [], []
    for number, (heatmap, offset) in enumerate(zip(*reference.maps, strict=True)):
        centers, _ = find_peaks(heatmap[-1], everybody)
        centers = centers[_sure(heatmap[-1], centers, precision)]
        images.append(np.full(len(centers), number))
        places.append(centers)
        wanted = card.stride * joints_at(offset, centers)
        twins.append(_nearest(wanted, joints[number], scores[number] > NO_PEAK, card.stride))
    image, center, twin = (np.concatenate(parts) for parts in (images, places, twins))
    seen = twin >= 0
    image, center, twin = image[seen], center[seen], twin[seen]
    keypoints = joints.shape[2]
    found = Maps(
        scores[image, twin].reshape(-1, 1, 1, 1),
        (center[:, None] - joints[image, twin] / card.stride)
        .reshape(-1, 2 * keypoints, 1, 1)
        .astype(np.float32),
    )

    def at_centers(maps: Maps) -> Maps:
        here = image < len(maps.association)  # suspects may be known for the first images only
        where = image[here], slice(None), center[here, 1], center[here, 0]
        heatmap, offset = maps.heatmap[where][:, -1:], maps.association[where]
        return Maps(heatmap[..., None, None], offset[..., None, None])

    staying = _stay(reference.people, joints, scores, card)
    agreement = judge_pairs(
        reference._replace(
            maps=at_centers(reference.maps),
            unquantized=None,
            suspects=[Suspect(s.words, at_centers(s.change)) for s in reference.suspects],
        ),
        found,
        staying,
        reference.by_quantizing(card),
        card.maps,
        precision,
    )
    if not len(seen):
        agreement = replace(
            agreement, probe=f"{reference.probe} (no peak stands out, so no candidates were compared)"
        )
    if len(twin) < LEAST_FOUND * len(seen):
        agreement = replace(agreement, faults=(*agreement.faults, "most people were somewhere else"))
    return agreement


def _sure(center: np.ndarray, places: np.ndarray, precision: str) -> np.ndarray:
    """(P,) whether each peak at x, y is so distinct that rounding cannot move it to another pixel."""
    neighbours = np.ones((3, 3), np.uint8)
    neighbours[1, 1] = 0
    above = center - cv2.dilate(center, neighbours)
    least = STANDING_OUT.get(precision, STANDING_OUT["int8"]) * float(np.abs(center).max())
    return np.asarray(above[places[:, 1], places[:, 0]] >= least)


def _nearest(wanted: np.ndarray, there: np.ndarray, valid: np.ndarray, stride: int) -> np.ndarray:
    """For each of (P, K, 2), the index of the nearest valid one of (Q, K, 2), or -1 if none is near."""
    apart = np.linalg.norm(wanted[:, None] - there[None], axis=3).mean(axis=2)  # (P, Q)
    apart[:, ~valid] = np.inf
    best = apart.argmin(axis=1)
    return np.where(apart[np.arange(len(best)), best] <= NEAR * stride, best, -1)


def _stay(people: People, joints: np.ndarray, scores: np.ndarray, card: ModelCard) -> Staying:
    moved = []
    for image, wanted in zip(people.image, people.joints, strict=True):
        above = joints[image][scores[image] > card.decode.center_threshold]
        if len(above):
            apart = np.linalg.norm(wanted - above, axis=2)  # (Q, K)
            nearest = apart[apart.mean(axis=1).argmin()]
            if nearest.mean() <= NEAR * card.stride:
                moved.append(nearest)
    return Staying(len(people), len(moved), np.concatenate(moved) if moved else np.zeros(0))
