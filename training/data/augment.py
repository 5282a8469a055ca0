"""One similarity for image, mask and joints, mirroring included; jitter of light and colour.

Convention: integer coordinates are pixel centres. A matrix (2, 3) maps source (x, y, 1) to network-input pixels;
divided by the stride it maps to map pixels, since map pixel i is centred on input pixel ``stride * i``.
Mirroring maps x to W - 1 - x in **input** pixels, so that image and joints agree exactly. DEKR mirrors the joints
on the map instead (x to w - 1 - x), which is 0.75 map pixels away from the mirrored image; ``parity`` does so too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from samkr_edge.pose.geometry import fit_matrix
from training.data.encode import Points
from training.data.settings import AugmentSettings


@dataclass(frozen=True)
class Placement:
    """One random draw: ``matrix`` float64 (2, 3) source -> input pixels, mirroring included, and whether it mirrors."""

    matrix: npt.NDArray[np.float64]
    mirrored: bool

    @property
    def squared_scale(self) -> float:
        """Input pixels squared per source pixel squared."""
        return float(abs(np.linalg.det(self.matrix[:, :2])))


def draw_placement(
    source_hw: tuple[int, int],
    input_hw: tuple[int, int],
    settings: AugmentSettings,
    rng: np.random.Generator,
) -> Placement:
    """Draw a similarity about the middle of the image."""
    (height, width), (input_height, input_width) = source_hw, input_hw
    size, angle, shift_x, shift_y, mirror = rng.random(5).tolist()
    edge = 0 if settings.parity else 1  # the middle of n pixels is (n - 1) / 2; DEKR's is n / 2
    middle = np.array([(input_width - edge) / 2, (input_height - edge) / 2])
    matrix = fit_matrix(source_hw, input_hw)
    if settings.crop == "short":
        fitted = min(input_hw) / min(source_hw)
        source_middle = np.array([(width - edge) / 2, (height - edge) / 2])
        matrix = np.column_stack((fitted * np.eye(2), middle - fitted * source_middle))
    low, high = settings.scale
    zoom = 1.0 / (low + (high - low) * size)
    radians = math.radians(settings.rotation * (2 * angle - 1))
    cos, sin = zoom * math.cos(radians), zoom * math.sin(radians)
    reach = settings.translation * min(input_hw)
    turn = np.array([[cos, -sin], [sin, cos]])
    target = middle + reach * np.array([2 * shift_x - 1, 2 * shift_y - 1])
    matrix = np.concatenate(
        (turn @ matrix[:, :2], (turn @ (matrix[:, 2] - middle) + target)[:, None]), axis=1
    )
    mirrored = mirror < settings.flip
    if mirrored:
        matrix[0] = -matrix[0]
        matrix[0, 2] += input_width - 1
    return Placement(matrix, mirrored)


def place_joints(
    joints: Points, placement: Placement, flip_order: tuple[int, ...], stride: int, *, parity: bool = False
) -> Points:
    """Joints (P, K, 3) x, y, v from source pixels to **map** pixels; in a mirrored image left and right are swapped."""
    moved = joints.copy()
    matrix = placement.matrix / stride
    moved[..., :2] = joints[..., :2] @ matrix[:, :2].T + matrix[:, 2]
    if placement.mirrored:
        moved = moved[:, list(flip_order)]
        if parity:
            # Input pixel W - 1 - x is map pixel w - 1/stride - x/stride; DEKR takes w - 1 - x/stride.
            moved[..., 0] -= 1 - 1 / stride
    return moved


def jitter(image: npt.NDArray[np.uint8], strength: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A uint8 image (H, W, 3) with brightness, contrast and colour cast changed by up to ``strength``: same shape."""
    if strength <= 0:
        return image
    contrast, brightness, *cast = (strength * rng.uniform(-1, 1, 5)).tolist()
    gain = (1 + 0.5 * contrast) * (1 + 0.25 * np.array(cast))
    levels = (np.arange(256.0)[:, None] - 128) * gain + 128 + 64 * brightness
    table = np.clip(np.rint(levels), 0, 255).astype(np.uint8).reshape(1, 256, 3)
    changed: npt.NDArray[np.uint8] = cv2.LUT(image, table)
    return changed
