"""From image pixels to network-input pixels and back.

Convention: integer coordinates are pixel centres; a matrix (2, 3) maps source (x, y, 1) to target (x, y).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np


class Fit(NamedTuple):
    """How an image lies in the network input: ``matrix`` (2, 3) image -> input pixels, and the image's (H, W)."""

    matrix: np.ndarray
    image_hw: tuple[int, int]


def require_image(image: object) -> None:
    """Raises ValueError unless this is an image as all of samkr-edge takes it: uint8 (H, W, 3), not empty."""
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
            return
        found = f"{image.dtype} {image.shape}"
    else:
        found = type(image).__name__
    raise ValueError(f"expected an image as a NumPy array, uint8 (H, W, 3) with pixels in it, found {found}")


def fit_matrix(source_hw: tuple[int, int], input_hw: tuple[int, int]) -> np.ndarray:
    """The similarity float64 (2, 3) that fits the whole image into the input, centred; the rest stays black."""
    (h, w), (height, width) = source_hw, input_hw
    scale = min(height / h, width / w)
    return np.array(
        [
            [scale, 0.0, (width - 1) / 2 - scale * (w - 1) / 2],
            [0.0, scale, (height - 1) / 2 - scale * (h - 1) / 2],
        ]
    )


def warp(
    image: np.ndarray,
    matrix: np.ndarray,
    input_hw: tuple[int, int],
    out: np.ndarray | None = None,
    scratch: dict[tuple[int, int], np.ndarray] | None = None,
) -> np.ndarray:
    """Resample an image, bilinear, black border; returns uint8 (h, w, 3) of ``input_hw``.

    A strong reduction first halves the image by area averaging: bilinear sampling alone would skip pixels and alias.

    Args:
        image: uint8 (H, W, 3).
        matrix: (2, 3), image pixels -> input pixels.
        input_hw: height and width of the result.
        out: uint8 (h, w, 3) to write to; None: a new array.
        scratch: keeps the halved images, uint8 (H / 2^i, W / 2^i, 3), for the next call to overwrite: fresh pages
            cost as much as the resampling.
    """
    height, width = input_hw
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    while scale < 0.5 and max(image.shape[:2]) > 1:
        half = (max(image.shape[1] // 2, 1), max(image.shape[0] // 2, 1))
        # Pixel centres: x_full = (x_half + 0.5) * (w / w_half) - 0.5.
        sx, sy = image.shape[1] / half[0], image.shape[0] / half[1]
        to_full = np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1.0]])
        kept = None if scratch is None else scratch.get(half)
        image = cv2.resize(image, half, dst=kept, interpolation=cv2.INTER_AREA)
        if scratch is not None:
            scratch[half] = image
        matrix = matrix @ to_full
        scale *= 2.0
    return cv2.warpAffine(image, matrix, (width, height), dst=out, flags=cv2.INTER_LINEAR)


def invert(matrix: np.ndarray) -> np.ndarray:
    """The inverse (2, 3) of an affine (2, 3)."""
    return cv2.invertAffineTransform(matrix)


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 2), x then y, mapped by a matrix (2, 3): float32 of the same shape."""
    return (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
