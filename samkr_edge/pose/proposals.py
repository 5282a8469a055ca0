"""The host's share of decoding when the graph does the rest: threshold, pose NMS and scores of P candidates.

The graph (training/models/decode_graph.py) reduces the maps to a few kilobytes:

* ``poses`` (P, K, 3): x and y in network-input pixels, and the heatmap's value at the joint;
* ``scores`` (P,): the centre's value, descending; below the threshold there is nobody;
* ``proposals`` (P, K, 2), only where joints are refined: the joints before refinement, network-input pixels. Pose NMS
  compares these, as ``samkr_edge.pose.decode.decode`` does.

The result equals ``decode`` on the same maps.
"""

from __future__ import annotations

import numpy as np

from samkr_edge.pose.decode import not_finite, suppress, usable
from samkr_edge.pose.decode_settings import DecodeSettings
from samkr_edge.pose.poses import Poses


def select(
    poses: np.ndarray, scores: np.ndarray, settings: DecodeSettings, proposals: np.ndarray | None = None
) -> Poses:
    """People of one image, network-input pixels, best first.

    Args:
        poses: (P, K, 3): x, y and heatmap value of every joint of a candidate.
        scores: (P,), of the candidates' centres, descending.
        settings: of the decoder.
        proposals: (P, K, 2): the joints before refinement, which pose NMS compares.

    Raises:
        SamkrError: SE-A20 the candidates hold NaN, infinity or numbers near it.
    """
    if not all(usable(part) for part in (poses, scores, proposals) if part is not None):
        raise not_finite()
    count = int((scores > settings.center_threshold).sum())
    if not count:
        return Poses.empty(poses.shape[1])
    joints, heat = poses[:count, :, :2], poses[:count, :, 2]
    kept = suppress(joints if proposals is None else proposals[:count], heat.mean(axis=1), settings)
    joint_scores = scores[kept, None] * heat[kept]
    people = joint_scores.mean(axis=1)
    order = np.argsort(-people, kind="stable")
    return Poses(joints[kept[order]], joint_scores[order], people[order])
