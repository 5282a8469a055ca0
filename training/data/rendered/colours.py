"""Colours of rendered scenes, RGB in 0..255."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Colour = tuple[float, float, float]


def any_colour(rng: np.random.Generator) -> Colour:
    """Any colour, saturated ones as often as gray ones."""
    red, green, blue, gray, share = rng.random(5).tolist()
    keep = share
    return tuple(20 + 215 * (keep * value + (1 - keep) * gray) for value in (red, green, blue))


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    return tuple(a + (b - a) * float(share) for a, b in zip(first, second, strict=True))  # type: ignore[return-value]


def scaled(colour: Colour, factor: float) -> Colour:
    return tuple(min(255.0, value * factor) for value in colour)  # type: ignore[return-value]
