"""From a network's maps to people, in the way that its card names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from samkr_edge.model_card import ModelCard
from samkr_edge.pose.decode import decode
from samkr_edge.pose.geometry import Fit, apply, invert
from samkr_edge.pose.grouping import get_ready, group
from samkr_edge.pose.poses import Poses
from samkr_edge.pose.proposals import select


def people_in_image(outputs: Sequence[np.ndarray], card: ModelCard, fit: Fit) -> Poses:
    """All candidates of one image in its pixels, best first, from all that its network gives.

    Args:
        outputs: float32, in the order of ``card.outputs`` and without the batch: maps as for ``people_of``, or with
            decoding in the graph candidates (P, K, 3), scores (P,) and, where joints are refined, proposals (P, K, 2).
        card: of the network that gave them.
        fit: how the image lay in the network's input.

    Raises:
        SamkrError: SE-A20 when they hold NaN, infinity or numbers near it.
    """
    if card.decode_in == "host":
        heatmap, association = outputs
        return in_image(people_of(heatmap, association, card), card, fit)
    candidates, scores, *proposals = outputs
    return in_image(select(candidates, scores, card.decode, *proposals), card, fit)


def in_image(poses: Poses, card: ModelCard, fit: Fit) -> Poses:
    """People in network-input pixels -> those whose centre is in the image, in its pixels."""
    joints = apply(invert(fit.matrix), poses.keypoints)
    found = Poses(joints, poses.joint_scores, poses.scores, skeleton=card.skeleton)
    return found.centred_in(fit.image_hw)


def people_of(heatmap: np.ndarray, association: np.ndarray, card: ModelCard) -> Poses:
    """People of one image in network-input pixels, best first.

    Args:
        heatmap: float32 (K+1, h, w), with grouping (K, h, w).
        association: what says whose joint is where: offset (2K, h, w), with grouping tag (K, h/2, w/2).
        card: of the network that gave them.

    Raises:
        SamkrError: SE-A20 when the maps hold NaN, infinity or numbers near it.
    """
    if card.grouping is None:
        return decode(heatmap, association, card.decode, card.stride)
    return group(heatmap, association, card.grouping, card.stride)


def get_ready_for(card: ModelCard) -> None:
    """Import what decoding this network takes, so that the first image need not wait for it.

    Raises:
        ImportError: a package is missing, or does not import.
    """
    if card.grouping is not None:
        get_ready()
