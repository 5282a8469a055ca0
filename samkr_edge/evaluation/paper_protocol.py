"""The test protocol by which papers measure AP, DEKR's or HigherHRNet's: resize, flip, several scales, rescoring.

The deployment path (``model(image, None)``) is one pass over an image fitted into a fixed input. Each part here is
optional, gains some AP and costs time; none is meant for a device.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from samkr_edge.evaluation.grouping_protocol import TaggedMaps, group_scales, mirrored_back
from samkr_edge.evaluation.protocol import Protocol, require_able
from samkr_edge.pose.decode import ScaledMaps, decode_scales
from samkr_edge.pose.geometry import apply, fit_matrix, invert, require_image, warp
from samkr_edge.pose.poses import Poses
from samkr_edge.pose.skeleton import CROWDPOSE14

if TYPE_CHECKING:
    from samkr_edge.pose_model import PoseModel

# Several scales find one person several times, so DEKR's pose NMS is wider.
MULTI_SCALE_NMS_DISTANCE = 0.15
_INPUT_STEP = 32  # HRNet's coarsest stride


def predict(model: PoseModel, image: np.ndarray, protocol: Protocol) -> Poses:
    """People in a uint8 (H, W, 3) RGB image, in its pixels, best first.

    Raises:
        SamkrError: SE-U75 the protocol needs other input sizes, or maps, and the model has neither.
    """
    return rescored(
        model(image, None) if protocol.deployment else _augmented(model, image, protocol), protocol
    )


def rescored(poses: Poses, protocol: Protocol) -> Poses:
    """The poses with new scores, best first, where the protocol has a rescoring network."""
    return protocol.rescoring.rescore(poses) if protocol.rescoring and len(poses) else poses


def _augmented(model: PoseModel, image: np.ndarray, protocol: Protocol) -> Poses:
    require_image(image)
    require_able(model, protocol)
    card, source_hw = model.card, (image.shape[0], image.shape[1])
    if protocol.paper_resize:
        # HigherHRNet's code rounds the smallest input up, and the others follow; DEKR's rounds that of scale 1.
        least = 1.0 if card.grouping is None else min(protocol.scales)
        base_hw = paper_size(source_hw, min(card.input_size), least)
        matrix = paper_matrix(source_hw, base_hw)
    else:
        base_hw = card.input_size
        matrix = fit_matrix(source_hw, base_hw)
    # Base pixel x is pixel scale * x of a scaled input, as in both papers' code.
    batches = {scale: _input(image, matrix, base_hw, scale, protocol) for scale in protocol.scales}
    test = _by_offsets if card.grouping is None else _by_grouping
    poses = test(model, batches, base_hw, protocol)
    poses = replace(poses, keypoints=apply(invert(matrix), poses.keypoints), skeleton=card.skeleton)
    # DEKR's resize leaves almost no padding, and its protocol drops nobody.
    return poses if protocol.paper_resize else poses.centred_in(source_hw)


def _input(
    image: np.ndarray, matrix: np.ndarray, base_hw: tuple[int, int], scale: float, protocol: Protocol
) -> np.ndarray:
    """The network input (1, H, W, 3) that shows an image (h, w, 3) at a scale."""
    size, scaled = _input_size(base_hw, scale), matrix * scale
    if protocol.paper_resize:
        shown = cv2.warpAffine(image, scaled, size[::-1], flags=cv2.INTER_LINEAR)
    else:
        shown = warp(image, scaled, size)
    return np.ascontiguousarray(shown[None])


def _by_offsets(
    model: PoseModel, batches: dict[float, np.ndarray], base_hw: tuple[int, int], protocol: Protocol
) -> Poses:
    """People in base-input pixels, from inputs (1, H, W, 3) by scale."""
    card, maps = model.card, []
    for scale, batch in batches.items():
        heatmap, offset = (output[0] for output in model.runner.run(batch))
        if protocol.flip:
            mirrored = model.runner.run(mirror(batch, card.stride))
            heatmap, offset = mirror_mean(
                heatmap, offset, mirrored[0][0], mirrored[1][0], card.skeleton.flip_order
            )
        maps.append(ScaledMaps(heatmap, offset, scale))
    settings, decrease = card.decode, 1.0
    if len(maps) > 1:
        settings = replace(settings, nms_distance=max(settings.nms_distance, MULTI_SCALE_NMS_DISTANCE))
        decrease = 0.8 if card.skeleton.keypoints == CROWDPOSE14.keypoints else 0.9
    poses = decode_scales(maps, settings, card.stride, decrease=decrease)
    if not protocol.match:
        return poses
    from samkr_edge.evaluation.match import match_to_heatmaps

    joints = match_to_heatmaps(maps, poses.keypoints, poses.joint_scores, base_hw, card.stride)
    return replace(poses, keypoints=joints)


def _by_grouping(
    model: PoseModel, batches: dict[float, np.ndarray], base_hw: tuple[int, int], protocol: Protocol
) -> Poses:
    """The same with tags, and mirrored maps as they come, as HigherHRNet's code takes them: they lie an input pixel
    beside.
    """
    card, maps = model.card, []
    assert card.grouping is not None
    for scale, batch in batches.items():
        passes = [[output[0] for output in model.runner.run(batch)]]
        if protocol.flip:
            mirrored = model.runner.run(np.ascontiguousarray(batch[:, :, ::-1]))
            passes.append(mirrored_back(mirrored[0][0], mirrored[1][0], card.skeleton.flip_order))
        maps.append(TaggedMaps([p[0] for p in passes], [p[1] for p in passes], scale))
    poses = group_scales(maps, card.grouping, base_hw, card.stride)
    if not protocol.paper_resize:
        return poses
    # The official code leaves a joint that it found nowhere in the corner.
    return replace(poses, keypoints=poses.keypoints * (poses.joint_scores > 0)[..., None])


def paper_size(source_hw: tuple[int, int], short: int, least: float = 1.0) -> tuple[int, int]:
    """(H, W) of the input at scale 1: the image's short side becomes ``short``, the long one follows.

    Both are rounded up to 64 at the scale ``least``, so with 0.5 to 128 here.
    """
    h, w = source_hw
    least_short = int((least * short + 63) // 64 * 64)
    least_long = int((least_short / min(h, w) * max(h, w) + 63) // 64 * 64)
    short, long = int(least_short / least), int(least_long / least)
    return (long, short) if w < h else (short, long)


def paper_matrix(source_hw: tuple[int, int], input_hw: tuple[int, int]) -> np.ndarray:
    """The similarity float64 (2, 3) of DEKR: short side to short side, the image's middle pixel to the input's middle.

    It aligns corners, not pixel centres: half a pixel off ``fit_matrix``.
    """
    (h, w), (height, width) = source_hw, input_hw
    scale = width / w if w < h else height / h
    middle = (int(w / 2 + 0.5), int(h / 2 + 0.5))
    return np.array(
        [[scale, 0.0, width / 2 - scale * middle[0]], [0.0, scale, height / 2 - scale * middle[1]]]
    )


def _input_size(base_hw: tuple[int, int], scale: float) -> tuple[int, int]:
    """(H, W) of the input at a scale, rounded up to what HRNet can halve; the added part is black."""
    height, width = (-int(side * scale) // _INPUT_STEP * -_INPUT_STEP for side in base_hw)
    return max(height, _INPUT_STEP), max(width, _INPUT_STEP)


def mirror(batch: np.ndarray, stride: int) -> np.ndarray:
    """Images (N, H, W, 3) mirrored and shifted so that both grids of the maps coincide (DEKR): same shape.

    Map pixel i looks at input pixel ``stride * i``; shifted by stride - 1 pixels to the left, map pixel w - 1 - i of
    the mirrored image looks at the same place. The last columns are unchanged.
    """
    mirrored = batch[:, :, ::-1].copy()
    shift = stride - 1
    mirrored[:, :, :-shift] = mirrored[:, :, shift:].copy()
    return mirrored


def mirror_mean(
    heatmap: np.ndarray,
    offset: np.ndarray,
    mirrored_heatmap: np.ndarray,
    mirrored_offset: np.ndarray,
    flip_order: tuple[int, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the maps (K+1, h, w) and (2K, h, w) of an image and, same shape, of its ``mirror``."""
    keypoints = len(flip_order)
    order = [*flip_order, keypoints]  # the centre stays the centre
    pairs = mirrored_offset.reshape(keypoints, 2, *mirrored_offset.shape[1:])[
        list(flip_order), :, :, ::-1
    ].copy()
    pairs[:, 0] *= -1
    with np.errstate(over="ignore", invalid="ignore"):
        return (
            (heatmap + mirrored_heatmap[order, :, ::-1]) / 2,
            (offset + pairs.reshape(offset.shape)) / 2,
        )
