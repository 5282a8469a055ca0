"""Tags at places of a heatmap, from a tag map that may be coarser: bilinear, as if it were enlarged (edges aligned)."""

from __future__ import annotations

import numpy as np


def tags_at(tag: np.ndarray, places: np.ndarray, size_hw: tuple[int, ...]) -> np.ndarray:
    """Float32 (M, T), the tags of one keypoint.

    Args:
        tag: (H, W, T), as fine as the heatmap or coarser.
        places: int64 (M, 2), x and y of pixels of the heatmap.
        size_hw: (h, w) of the heatmap.
    """
    (height, width), (h, w) = tag.shape[:2], size_hw
    if (height, width) == (h, w):
        return np.asarray(tag[places[:, 1], places[:, 0]], np.float32)
    left, right, across = neighbours(places[:, 0], w, width)
    up, down, along = neighbours(places[:, 1], h, height)
    across, along = across[:, None], along[:, None]
    above = tag[up, left] * (1 - across) + tag[up, right] * across
    below = tag[down, left] * (1 - across) + tag[down, right] * across
    return np.asarray(above * (1 - along) + below * along, np.float32)


def neighbours(at: np.ndarray, size: int, coarse: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two pixels of a side of ``coarse`` pixels that pixel ``at`` (M,) of a side of ``size`` lies between.

    Returns:
        Indices int64 (M,) of both, and the share float32 (M,) of the second.
    """
    position = np.maximum(
        (at.astype(np.float32) + np.float32(0.5)) * np.float32(coarse / size) - np.float32(0.5), 0
    )
    first = np.minimum(position.astype(np.int64), coarse - 1)
    return first, np.minimum(first + 1, coarse - 1), (position - first).astype(np.float32)
