"""The part of an image where heatmaps are learned: outside crowds and people without keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.float32]


def known_area(source_hw: tuple[int, int], ignored: Sequence[Any]) -> Mask:
    """(H, W) float32 of an image: 1 outside every ignored segmentation, else 0."""
    known = np.ones(source_hw, np.float32)
    for segmentation in ignored:
        _erase(known, segmentation)
    return known


def valid_area(
    known: Mask, matrix: npt.NDArray[np.float64], map_hw: tuple[int, int], *, padding: bool = True
) -> Mask:
    """The known area (H, W) on a map: (h, w) float32 1 where the heatmap loss counts, else 0.

    Args:
        known: (H, W), as ``known_area`` gives it.
        matrix: (2, 3) from source pixels to pixels of the map.
        map_hw: its height and width.
        padding: whether the loss counts beyond the image. DEKR and HigherHRNet leave it out; a network that never
            learned what padding is finds people in it, and a camera's frame in a square input is 44 % padding.
    """
    warped = cv2.warpAffine(known, matrix, (map_hw[1], map_hw[0]), borderValue=float(padding))
    return (warped > 0.5).astype(np.float32)


def _erase(known: Mask, segmentation: Any) -> None:
    """Set the region of a segmentation as ``checked_segmentation`` gives it to 0."""
    from pycocotools import mask

    size = known.shape
    if isinstance(segmentation, list):
        runs = mask.merge(mask.frPyObjects(segmentation, *size))
    elif segmentation is not None and segmentation["size"] == list(size):
        runs = segmentation
        if isinstance(runs["counts"], list):
            runs = mask.frPyObjects(runs, *size)
    else:
        return
    known[mask.decode(runs).astype(bool)] = 0
