"""What the maps hold where a joint may be: the pixels at which a heatmap responds, their tags, and which are peaks.

A network's heatmap is almost nothing at almost all pixels, so grouping works on the few others.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from samkr_edge.pose.grouping_settings import GroupingSettings
from samkr_edge.pose.response_peaks import peaks_among

# The least value of a response; where more than this share of all pixels reaches it, the next.
_FAINT, _FEW = (0.0125, 0.05), 1 / 8


@dataclass(frozen=True)
class Responses:
    """The S pixels of K heatmaps that respond, keypoint by keypoint, and the N peaks among them.

    Attributes:
        level: every pixel of at least this value is among them.
        places: int64 (S,), row-major over all maps (K, h, w), ascending.
        values: float32 (S,), the heatmap's.
        tags: float32 (S, T).
        ends: K + 1 numbers: those of keypoint k are ``ends[k]`` to ``ends[k + 1]``.
        peaks: int64 (N,), numbers below S: keypoint by keypoint, best first.
        peak_ends: K + 1 numbers, the same of the peaks.
    """

    level: float
    places: np.ndarray
    values: np.ndarray
    tags: np.ndarray
    ends: list[int]
    peaks: np.ndarray
    peak_ends: list[int]


def find_responses(heatmap: np.ndarray, tag: np.ndarray, settings: GroupingSettings) -> Responses:
    """Where the maps respond.

    Args:
        heatmap: float32 (K, h, w), contiguous.
        tag: float32 (K, H, W, T).
        settings: thresholds.
    """
    count, h, w = heatmap.shape
    level, places = _not_faint(heatmap.ravel(), settings.joint_threshold)
    values = heatmap.ravel().take(places)
    ends = np.searchsorted(places, np.arange(count + 1) * (h * w))
    keypoints = np.repeat(np.arange(count), np.diff(ends))
    within = places - keypoints * (h * w)
    tags = np.empty((len(places), tag.shape[3]), np.float32)
    # One buffer for all keypoints: a fresh one of this size would be taken from the system every time.
    fine = np.empty((h, w, tag.shape[3]), np.float32)
    for k, part in enumerate(map(slice, ends, ends[1:])):
        finer = enlarged_tags(tag[k], (h, w), fine).reshape(h * w, -1)
        finer.take(within[part], axis=0, out=tags[part], mode="clip")
    peaks = peaks_among(heatmap, places, values, settings.joint_threshold)
    peaks = peaks[np.lexsort((-values[peaks], keypoints[peaks]))]
    first = np.searchsorted(keypoints[peaks], np.arange(count))
    peaks = peaks[np.arange(len(peaks)) - first[keypoints[peaks]] < settings.candidates]
    peak_ends = np.searchsorted(keypoints[peaks], np.arange(count + 1))
    return Responses(level, places, values, tags, ends.tolist(), peaks, peak_ends.tolist())


def _not_faint(values: np.ndarray, threshold: float) -> tuple[float, np.ndarray]:
    """The level, and int64 (S,) which of ``values`` (n,) reach it."""
    for level in (*(level for level in _FAINT if level < threshold), threshold):
        places = np.flatnonzero(values >= level)
        if len(places) <= _FEW * len(values):
            break
    return level, places


def enlarged_tags(tag: np.ndarray, size_hw: tuple[int, ...], out: np.ndarray | None = None) -> np.ndarray:
    """One keypoint's tags as fine as its heatmap, bilinear with aligned edges, as torch and the official code enlarge.

    Args:
        tag: float32 (H, W, T).
        size_hw: (h, w) of the heatmap.
        out: float32 (h, w, T) that may be written to.

    Returns:
        Float32 (h, w, T).
    """
    if tag.shape[:2] == tuple(size_hw):
        return tag
    height, width = size_hw
    resized = cv2.resize(tag, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    return resized.reshape(height, width, -1)
