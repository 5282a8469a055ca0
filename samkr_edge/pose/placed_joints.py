"""Which of a person's joints are where the person is.

An unsure joint of a network with offsets is still where its offset points, beside the others. One that grouping did not
find lies in the middle of the person, or is the best of a whole map on which nothing responds: it may be anywhere, and
says nothing of how large the person is or how fast it moves.
"""

from __future__ import annotations

import numpy as np

from samkr_edge.pose.poses import SURE_JOINT


def placed_joints(joint_scores: np.ndarray, *, grouped: bool) -> np.ndarray:
    """Bool (..., K) of scores (..., K): with offsets every joint, with grouping the sure ones, or all if none is."""
    if not grouped:
        return np.ones(joint_scores.shape, np.bool_)
    sure = joint_scores >= SURE_JOINT
    return np.asarray(sure | ~sure.any(axis=-1, keepdims=True))
