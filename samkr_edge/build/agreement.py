"""Does a built model compute what its source does? Judged on one noise image, by what quantization itself does there.

No runtime rounds like another, and behind INT8 layers every rounding that falls to the other side moves all that
follows. How far depends on the network and the image: on noise, which no network was trained on, a sound build can
differ from its source by half. What bounds it is the difference between the source and its own float network: a
runtime that computes the same graph is not much further away than quantization has moved the maps already. A broken
graph is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samkr_edge.model_card import ModelCard

# Relative L2 error that any build may have (FP16 rounding is far below), and multiples of the quantization error.
FLOAT_ERROR, QUANTIZATION_ERRORS = 0.05, 2.0
MAPS = ("heatmap", "offset")


@dataclass(frozen=True)
class Agreement:
    """How close two pairs of maps are, heatmap and offset: cosines, relative L2 errors, and the errors allowed."""

    cosines: tuple[float, float]
    errors: tuple[float, float]
    allowed: tuple[float, float]

    @property
    def holds(self) -> bool:
        """False also where an error is NaN."""
        return all(error <= bound for error, bound in zip(self.errors, self.allowed, strict=True))

    def facts(self) -> list[str]:
        """Lines for an error message."""
        return [
            f"{name:<10} relative error {error:.3f}, allowed {bound:.3f}"
            for name, error, bound in zip(MAPS, self.errors, self.allowed, strict=True)
        ]


def noise_input(card: ModelCard) -> np.ndarray:
    """The image to compare on, uint8 (1, H, W, 3)."""
    return np.random.default_rng(0).integers(0, 256, (1, *card.input_size, 3), dtype=np.uint8)


def compare(
    expected: Sequence[np.ndarray], found: Sequence[np.ndarray], unquantized: Sequence[np.ndarray]
) -> Agreement:
    """Compare ``found`` with ``expected``.

    Args:
        expected: heatmap and offset of the source.
        found: those of the built model.
        unquantized: those of the source without its quantizers; the source's own for a float model.
    """
    noise = [relative_error(a, b) for a, b in zip(expected, unquantized, strict=True)]
    heatmap, offset = (FLOAT_ERROR + QUANTIZATION_ERRORS * error for error in noise)
    cosines = [_cosine(a, b) for a, b in zip(expected, found, strict=True)]
    errors = [relative_error(a, b) for a, b in zip(expected, found, strict=True)]
    return Agreement((cosines[0], cosines[1]), (errors[0], errors[1]), (heatmap, offset))


def relative_error(expected: np.ndarray, found: np.ndarray) -> float:
    """L2 norm of the difference as a share of the expected one's."""
    return float(np.linalg.norm(expected - found) / max(float(np.linalg.norm(expected)), 1e-12))


def _cosine(expected: np.ndarray, found: np.ndarray) -> float:
    scale = max(float(np.linalg.norm(expected) * np.linalg.norm(found)), 1e-12)
    return float((expected * found).sum()) / scale
