"""The images that models are timed on: real ones where there is data, else one of random blobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measure.samples import evenly_spaced

if TYPE_CHECKING:
    from samkr_edge.dataset.keypoint_dataset import ImageRecord

# Enough that no cache holds one of them.
_TIMED_IMAGES = 50
_RANDOM_SIZE = (480, 640)


def timing_images(records: Sequence[ImageRecord]) -> list[np.ndarray]:
    """What the timing rotates over: uint8 (H, W, 3) RGB images, spread over the evaluated ones.

    Without data it is one random image.
    """
    from samkr_edge.images import read_image

    if not records:
        return [random_image()]
    return [read_image(record.path) for record in evenly_spaced(records, _TIMED_IMAGES)]


def random_image(seed: int = 0) -> np.ndarray:
    """A uint8 (480, 640, 3) image of random blobs of all sizes, the same for the same seed."""
    import cv2

    generator = np.random.default_rng(seed)
    height, width = _RANDOM_SIZE
    image = np.zeros((height, width, 3), np.float32)
    for octave in range(2, 8):
        noise = generator.random((2**octave, 2**octave, 3), dtype=np.float32)
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) / octave
    low, high = float(image.min()), float(image.max())
    return ((image - low) / (high - low) * 255).astype(np.uint8)
