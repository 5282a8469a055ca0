"""From a network's maps to people, in the way that its card names."""

from __future__ import annotations

import numpy as np

from samkr_edge.model_card import ModelCard
from samkr_edge.pose.decode import decode
from samkr_edge.pose.grouping import get_ready, group
from samkr_edge.pose.poses import Poses


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
