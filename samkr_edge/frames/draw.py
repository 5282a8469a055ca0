"""Overlays: people drawn into an image, and the stream's rate in its corner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from samkr_edge.pose.geometry import require_image
from samkr_edge.pose.poses import SURE_JOINT, Poses
from samkr_edge.pose.skeleton import Skeleton
from samkr_edge.pose.stick_figures import Colour, colour_of

_DARK: Colour = (24, 24, 28)
_WHITE: Colour = (255, 255, 255)
# A joint of this score is drawn solid; below it, down to SURE_JOINT, as a ring.
SOLID_JOINT = 0.25
# Images with a longer side below this are enlarged before people are drawn: lines need pixels.
SMALL = 480
# Subpixel bits of OpenCV's drawing coordinates.
_SHIFT = 3
# Coordinates are clamped to this many pixels.
_FAR = 16384
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_poses(
    image: np.ndarray,
    poses: Poses,
    skeleton: Skeleton,
    joint_threshold: float = SURE_JOINT,
    *,
    boxes: bool = True,
    bgr: bool = False,
    in_place: bool = False,
) -> np.ndarray:
    """People drawn into a copy, same shape, of a uint8 image (H, W, 3), or into the image itself.

    Bones have the person's colour (their tracking id's, else their rank's) and are left out where one of their joints
    scores below ``joint_threshold``; sure joints are solid, doubtful ones rings. Line widths follow the person's size.
    Corner marks show the box, a label its score.

    Raises:
        ValueError: not such an image, it cannot be drawn into in place, or the poses are of another skeleton.
    """
    canvas = _canvas(image, in_place)
    if not len(poses):
        return canvas
    if poses.keypoints.shape[1] != len(skeleton):
        raise ValueError(f"poses of {poses.keypoints.shape[1]} joints, a skeleton of {len(skeleton)}")
    frames = poses.boxes
    places = _fixed(poses.keypoints)
    sure = poses.joint_scores >= joint_threshold
    edges = np.array(skeleton.edges, np.intp).reshape(-1, 2)
    # The best person is drawn last, on top.
    for index in range(len(poses) - 1, -1, -1):
        colour = colour_of(index, None if poses.ids is None else int(poses.ids[index]))
        colour = colour[::-1] if bgr else colour
        box = frames[index]
        width = _line_width(box, canvas.shape)
        if boxes:
            _draw_corners(canvas, box, colour, max(1, width // 2))
        bones = edges[sure[index][edges].all(axis=1)]
        _draw_bones(canvas, places[index][bones], colour, width)
        shown = sure[index]
        _draw_joints(canvas, places[index][shown], poses.joint_scores[index][shown], colour, width + 1)
        label = f"{poses.scores[index]:.2f}"
        if poses.ids is not None:
            label = f"{poses.ids[index]}  {label}"
        _draw_label(canvas, label, box, colour)
    return canvas


def enlarge(image: np.ndarray, poses: Poses) -> tuple[np.ndarray, Poses]:
    """A small image, uint8 (H, W, 3), and its poses enlarged to (f * H, f * W, 3), so that lines have pixels.

    A large image is returned as it is.
    """
    require_image(image)
    factor = -(-SMALL // max(image.shape[:2]))
    if factor <= 1:
        return image, poses
    size = (image.shape[1] * factor, image.shape[0] * factor)
    # Pixel centres: x_large = (x + 0.5) * factor - 0.5.
    joints = (poses.keypoints + np.float32(0.5)) * np.float32(factor) - np.float32(0.5)
    large = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    return large, replace(poses, keypoints=joints)


def draw_status(canvas: np.ndarray, text: str) -> None:
    """One line on a dark ground in the upper left corner of the canvas, uint8 (H, W, 3), in place."""
    _canvas(canvas, in_place=True)
    scale = _text_scale(canvas.shape)
    (width, height), base = cv2.getTextSize(text, _FONT, scale, 1)
    pad = height // 2
    corner = canvas[: height + base + 2 * pad, : width + 2 * pad]
    np.multiply(corner, 0.35, out=corner, casting="unsafe")
    cv2.putText(canvas, text, (pad, height + pad), _FONT, scale, _WHITE, 1, cv2.LINE_AA)


def _canvas(image: np.ndarray, in_place: bool) -> np.ndarray:
    """The image itself, or a copy of it, as OpenCV draws into it."""
    require_image(image)
    if not in_place:
        return image.copy(order="C")
    if not (image.flags.c_contiguous and image.flags.writeable):
        raise ValueError("only an image that is contiguous and may be written to is drawn into in place")
    return image


def _line_width(box: np.ndarray, shape: Sequence[int]) -> int:
    """Pixels: by the person's size, within what the image's size allows."""
    size = float(max(box[2] - box[0], box[3] - box[1]))
    largest = max(1, round(max(shape[:2]) / 200))
    return max(1, min(round(size / 90), largest))


def _text_scale(shape: Sequence[int]) -> float:
    return max(0.4, min(max(shape[:2]) / 2200, 1.2))


def _fixed(points: np.ndarray) -> np.ndarray:
    """Fixed-point coordinates for OpenCV, int32, clamped against overflow."""
    return np.rint(np.clip(points, -_FAR, _FAR) * (1 << _SHIFT)).astype(np.int32)


def _draw_bones(canvas: np.ndarray, bones: np.ndarray, colour: Colour, width: int) -> None:
    """Lines between the fixed-point ends (B, 2, 2), one call for all of them."""
    lines = list(bones)
    # A dark edge below all bones keeps them readable on any ground.
    cv2.polylines(canvas, lines, False, _DARK, width + 2, cv2.LINE_AA, _SHIFT)
    cv2.polylines(canvas, lines, False, colour, width, cv2.LINE_AA, _SHIFT)


def _draw_joints(
    canvas: np.ndarray, points: np.ndarray, scores: np.ndarray, colour: Colour, radius: int
) -> None:
    """Discs at fixed-point positions (J, 2): solid where the score is high, else rings."""
    large, middle, small = ((radius + 1) << _SHIFT, radius << _SHIFT, (radius << _SHIFT) // 2)
    for point, solid in zip(points.tolist(), (scores >= SOLID_JOINT).tolist(), strict=True):
        cv2.circle(canvas, point, large, _DARK, -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(canvas, point, middle, colour, -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(canvas, point, small, _WHITE if solid else _DARK, -1, cv2.LINE_AA, _SHIFT)


def _draw_corners(canvas: np.ndarray, box: np.ndarray, colour: Colour, width: int) -> None:
    x0, y0, x1, y1 = np.rint(np.clip(box, -_FAR, _FAR)).astype(np.int32).tolist()
    arm = max(3, min(x1 - x0, y1 - y0) // 6)
    corners = [
        [(x + to_x, y), (x, y), (x, y + to_y)]
        for x, to_x in ((x0, arm), (x1, -arm))
        for y, to_y in ((y0, arm), (y1, -arm))
    ]
    cv2.polylines(canvas, list(np.array(corners, np.int32)), False, colour, width)


def _draw_label(canvas: np.ndarray, text: str, box: np.ndarray, colour: Colour) -> None:
    """The text on the person's colour, above the upper left corner of the box, moved to where it is visible."""
    scale = _text_scale(canvas.shape)
    (width, height), base = cv2.getTextSize(text, _FONT, scale, 1)
    pad = max(2, height // 4)
    tall = height + base + 2 * pad
    left = max(0, min(int(box[0]), canvas.shape[1] - width - 2 * pad))
    bottom = max(tall, min(int(box[1]), canvas.shape[0] - 1))
    top = bottom - height - base - pad
    cv2.rectangle(canvas, (left, top), (left + width + 2 * pad, bottom), colour, -1)
    bright = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] > 110
    ink = _DARK if bright else _WHITE
    cv2.putText(canvas, text, (left + pad, bottom - base), _FONT, scale, ink, 1, cv2.LINE_AA)
