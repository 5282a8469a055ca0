"""The papers' test of networks that are decoded by grouping (HigherHRNet's): flip, several scales, maps of the input's
size.

Heatmaps of all passes are resized to the base input and averaged. Tags of different networks, scales or mirrored images
are not comparable, so none are averaged: those of the mirrored image become a second number of every pixel, and only
scale 1 has any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from samkr_edge.pose.grouping import group
from samkr_edge.pose.grouping_settings import GroupingSettings
from samkr_edge.pose.poses import Poses
from samkr_edge.pose.responses import enlarged_tags


@dataclass(frozen=True)
class TaggedMaps:
    """Maps of one image at one scale.

    Attributes:
        heatmaps: float32 (K, h, w), of the image and, if it was asked for, of its mirror image, mirrored back.
        tags: float32 (K, h/2, w/2), the same.
        scale: size of the network input relative to the base input.
    """

    heatmaps: list[np.ndarray]
    tags: list[np.ndarray]
    scale: float


def mirrored_back(heatmap: np.ndarray, tag: np.ndarray, flip_order: Sequence[int]) -> list[np.ndarray]:
    """Maps of a mirrored image as those of the image: left joints are right ones again.

    Args:
        heatmap: (K, h, w).
        tag: (K, h, w), of half that size.
        flip_order: the keypoint that each one is in a mirror.

    Returns:
        Both, of the same shapes.
    """
    order = list(flip_order)
    return [np.ascontiguousarray(maps[order, :, ::-1]) for maps in (heatmap, tag)]


def group_scales(
    maps: Sequence[TaggedMaps], settings: GroupingSettings, base_hw: tuple[int, int], stride: int
) -> Poses:
    """People in base-input pixels, best first.

    Args:
        maps: of every scale, one of them 1.
        settings: thresholds.
        base_hw: height and width of the base input.
        stride: input pixels per pixel of a heatmap.

    Raises:
        SamkrError: SE-A20 when the maps hold NaN, infinity or numbers near it.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        heatmap = sum(
            enlarged(one, found.scale / stride, base_hw) / np.float32(len(found.heatmaps))
            for found in maps
            for one in found.heatmaps
        ) / np.float32(len(maps))
    (base,) = (found for found in maps if found.scale == 1.0)
    # Up to the heatmap's size first, as the official code does: twice bilinear is smoother than once.
    size_hw = base.heatmaps[0].shape[1:]
    tag = np.stack([enlarged_tags(one, size_hw) for one in np.stack(base.tags, axis=-1)])
    return group(heatmap, tag, settings, 1)


def enlarged(maps: np.ndarray, factor: float, size_hw: tuple[int, int]) -> np.ndarray:
    """(K, h, w) -> float32 (K, H, W), bilinear with aligned edges.

    A pixel of the result is ``factor`` pixels of the maps, from the top left; what they show beyond it is left out: an
    input is rounded up to what HRNet can halve.
    """
    height, width = size_hw
    if (height * factor, width * factor) == maps.shape[1:]:
        return np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in maps])
    # Pixel i of the result is position (i + 0.5) * factor - 0.5 of the map.
    matrix = np.array([[factor, 0, factor / 2 - 0.5], [0, factor, factor / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.stack(
        [
            cv2.warpAffine(one, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
            for one in maps
        ]
    )
