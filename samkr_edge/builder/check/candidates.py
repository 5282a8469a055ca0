"""A built model that gives candidates and no maps, judged by what its source's maps say at the same people.

Its list may have another order, and rounding moves a flat peak to the next pixel: so the peaks of the source that stand
out are looked for by where their joints are. What is found is put beside the source's as maps of one pixel each, so
that all else is judged as maps are. Of few people, noise as large as that of INT8 hides the shape of a fault, and what
quantizing does to those few is no measure of it: behind INT8, people and joints decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from samkr_edge.builder.check.agreement import Agreement, Reference, judge_pairs
from samkr_edge.builder.check.maps import Maps
from samkr_edge.builder.check.people import People, Staying, joints_at
from samkr_edge.builder.check.suspects import Suspect
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.decode import find_peaks

# Mean distance of joints in input pixels, as a multiple of the stride, up to which two candidates are the same.
NEAR = 2.0
# How far a peak has to stand out of its neighbours, as a share of the largest value, to be compared.
STANDING_OUT = {"fp32": 0.002, "fp16": 0.005, "int8": 0.05}
# Where a map has fewer peaks than the list has rows, the graph fills up with scores far below this.
NO_PEAK = -1e3
# Share of these that must be found.
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
        here = image < len(maps.offset)  # suspects may be known for the first images only
        where = image[here], slice(None), center[here, 1], center[here, 0]
        heatmap, offset = maps.heatmap[where][:, -1:], maps.offset[where]
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
    """(P,) whether each peak at x, y stands out so far that rounding moves it to no other pixel."""
    neighbours = np.ones((3, 3), np.uint8)
    neighbours[1, 1] = 0
    above = center - cv2.dilate(center, neighbours)
    least = STANDING_OUT.get(precision, STANDING_OUT["int8"]) * float(np.abs(center).max())
    return np.asarray(above[places[:, 1], places[:, 0]] >= least)


def _nearest(wanted: np.ndarray, there: np.ndarray, valid: np.ndarray, stride: int) -> np.ndarray:
    """For each of (P, K, 2) the index of the nearest valid one of (Q, K, 2), or -1 where none is near."""
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
