"""Which pixels of the heatmaps are peaks: those above a threshold that no pixel within two rows and columns exceeds.

What exceeds a pixel beside it is compared first, and the whole neighbourhood only of the few pixels that are left.
"""

from __future__ import annotations

import cv2
import numpy as np

# Rows and columns on each side of a pixel that belong to its neighbourhood.
REACH = 2
# Where more pixels than this share of all are left, the maximum of every neighbourhood costs less than theirs.
_MANY = 1 / 32


def peaks_among(heatmap: np.ndarray, places: np.ndarray, values: np.ndarray, threshold: float) -> np.ndarray:
    """The peaks among the pixels that respond.

    Args:
        heatmap: float32 (K, h, w), contiguous.
        places: int64 (S,), row-major over all maps, ascending: every pixel above the threshold is among them.
        values: float32 (S,), the heatmap's there.
        threshold: what a peak is above.

    Returns:
        int64 (N,), numbers below S, ascending. Of equal values beside each other all are peaks.
    """
    h, w = heatmap.shape[1:]
    peaks = np.flatnonzero(_highest_of_line(heatmap, places, values, threshold))
    at, own = places[peaks], values[peaks]
    flat, y = heatmap.ravel(), at // w % h
    highest = (own >= flat[at - w * (y > 0)]) & (own >= flat[at + w * (y < h - 1)])
    peaks, at, own = peaks[highest], at[highest], own[highest]
    if len(at) > _MANY * heatmap.size:
        side = np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)
        around = np.stack([cv2.dilate(one, side) for one in heatmap]).ravel()[at]
    else:
        line, x = np.divmod(at, w)
        reach = np.arange(-REACH, REACH + 1)
        rows = np.clip((line % h)[:, None] + reach, 0, h - 1) + (line - line % h)[:, None]
        columns = np.clip(x[:, None] + reach, 0, w - 1)
        around = heatmap.reshape(-1, w)[rows[:, :, None], columns[:, None]].max(axis=(1, 2))
    return peaks[own == around]


def _highest_of_line(
    heatmap: np.ndarray, places: np.ndarray, values: np.ndarray, threshold: float
) -> np.ndarray:
    """Bool (S,): those above the threshold that the pixels left and right of them do not exceed.

    A neighbour that exceeds a pixel above the threshold is one of the S itself, the one before or after it.
    """
    width = heatmap.shape[2]
    beside = np.diff(places) == 1
    begins = np.searchsorted(places, np.flatnonzero(heatmap[..., 0] > threshold) * width)
    beside[begins[begins > 0] - 1] = False  # the end of the line before
    highest = values > threshold
    highest[1:] &= ~(beside & (values[:-1] > values[1:]))
    highest[:-1] &= ~(beside & (values[1:] > values[:-1]))
    return np.asarray(highest)
