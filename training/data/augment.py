"""One affine for the image, the masks and the joints; mirroring; photometric jitter.

Convention: integer coordinates are pixel centres. Mirroring maps x to W - 1 - x in input pixels, so that image and
joints agree exactly (DEKR mirrors the joints on the map, which leaves a bias of 0.75 map pixels).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True)
class AugmentSettings:
    """Ranges of the random affine, as the paper's: rotation in degrees, scale, translation as a share of the side."""

    rotation: float = 30.0
    scale: tuple[float, float] = (0.75, 1.5)
    translation: float = 0.2
    flip: float = 0.5
    jitter: float = 0.0


@dataclass(frozen=True)
class Draw:
    """One draw: ``matrix`` float64 (2, 3) source -> input pixels (mirroring included), and whether it mirrors."""

    matrix: np.ndarray
    mirrored: bool


def draw_affine(
    source_hw: tuple[int, int],
    input_hw: tuple[int, int],
    settings: AugmentSettings,
    random: np.random.Generator,
) -> Draw:
    """Draw a similarity around the image centre; without augmentation the whole image fits the input."""
    (h, w), (height, width) = source_hw, input_hw
    fit = min(height / h, width / w)
    zoom = fit * random.uniform(*settings.scale)
    angle = math.radians(random.uniform(-settings.rotation, settings.rotation))
    shift = random.uniform(-settings.translation, settings.translation, 2) * min(height, width)
    cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]])
    center = np.array([(w - 1) / 2, (h - 1) / 2])
    target = np.array([(width - 1) / 2, (height - 1) / 2]) + shift
    matrix = np.concatenate([linear, (target - linear @ center)[:, None]], axis=1)
    mirrored = bool(random.random() < settings.flip)
    if mirrored:
        matrix[0] = -matrix[0]
        matrix[0, 2] += width - 1
    return Draw(matrix, mirrored)


def move_joints(joints: np.ndarray, draw: Draw, flip_order: tuple[int, ...]) -> np.ndarray:
    """Joints (P, K, 3) in source pixels -> input pixels; left and right change places where the draw mirrors."""
    moved = joints.copy()
    moved[..., :2] = joints[..., :2] @ draw.matrix[:, :2].T + draw.matrix[:, 2]
    return moved[:, list(flip_order)] if draw.mirrored else moved


def jitter(image: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """Brightness, contrast and colour of a uint8 image (H, W, 3), each by up to ``strength``."""
    if strength <= 0:
        return image
    gain = 1 + strength * random.uniform(-1, 1, 3) * 0.5 + strength * random.uniform(-1, 1)
    bias = 255 * 0.3 * strength * random.uniform(-1, 1)
    return cv2.convertScaleAbs(np.clip(image * gain + bias, 0, 255))
