"""The inputs of mmpose's rescoring networks in the order of ours, which is that of DEKR's authors.

Both describe a pose by its links, first their differences and then their lengths, in units of the same two links, and
by its joints' scores. mmpose lists the links in the order of its data sets, half of them the other way round.
(Read off mmpose's definitions of its data sets and of ``RescoreNet``.)
"""

from __future__ import annotations

import numpy as np

from samkr_edge.evaluation.rescoring import PoseFeatures

# By the number of links, first joint - second joint. The units are links 5 and 6, and 0 and 1.
_LINKS = {
    19: (
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
        (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    15: (
        (10, 8), (8, 6), (11, 9), (9, 7), (6, 7), (0, 6), (1, 7), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (12, 13),
        (1, 13), (0, 13),
    ),
}  # fmt: skip


def in_our_order(weight: np.ndarray, features: PoseFeatures) -> np.ndarray:
    """mmpose's first layer for our ``features`` of COCO's or CrowdPose's poses.

    Args:
        weight: of shape (D, 3L + K), float32: D units, L links, K joints.
        features: ours.

    Returns:
        of shape (D, 3L + K), the columns in our order.
    """
    theirs, links = _LINKS[len(features.links)], len(features.links)
    place, sign = [], []
    for first, second in features.links:
        same = (first, second) in theirs
        place.append(theirs.index((first, second) if same else (second, first)))
        sign.append(1.0 if same else -1.0)
    differences = weight[:, : 2 * links].reshape(len(weight), links, 2)
    parts = [
        (differences[:, place] * np.array(sign, np.float32)[:, None]).reshape(len(weight), 2 * links),
        weight[:, 2 * links : 3 * links][:, place],
        weight[:, 3 * links :],
    ]
    return np.concatenate(parts, axis=1)
