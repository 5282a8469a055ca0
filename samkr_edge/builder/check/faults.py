"""Which known fault does a built model have? Decided by the shape of its error, not its size.

A sampling grid rounded to FP16 changes offsets by 0.0004 of their size, and a correct FP16 graph by 0.0005; nearest
sampling changes them by 0.05, and so does a correct INT8 graph. But a fault's effect is known value by value. So the
error E is projected on the change D that a suspect would make: beta = <E, D> / <D, D> is 1 if E is that change and 0 if
it is anything else. Noise only spreads beta, by about |E| / |D| divided by the root of the number of values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Smallest and largest beta of a fault, and how many standard errors it must be above 0. Correct builds of trained and
# untrained networks: |beta| up to 0.03 with a spread up to 0.03, or, where noise hides a suspect, within 2 spreads. The
# same graphs with a fault: 0.39 to 1.03, at 11 spreads and more. A multiple of the change is another fault.
LEAST_SHARE, MOST_SHARE, LEAST_SPREADS = 0.25, 1.5, 6.0
# A suspect that would change the maps by less than this share is within the rounding of FP32.
LEAST_CHANGE = 2e-5
TILE = 8
# Share of values that are exact FP16 or BF16 numbers if the last operation computed in that type; otherwise it is about
# 0.001.
EXACT = 0.9


def project(
    error: Sequence[np.ndarray], change: Sequence[np.ndarray], size: Sequence[float]
) -> tuple[float, float]:
    """(beta, its standard error) of pairs of arrays of one shape (B, V), blocks and values; each divided by its size.

    The standard error is the jackknife's over blocks, leaving out one at a time: errors of neighbouring pixels are
    correlated, and a fault seen in only one block must not count as certain.
    """
    along = power = np.zeros(len(error[0]))
    for e, d, s in zip(error, change, size, strict=True):
        along = along + np.einsum("bi,bi->b", e, d, dtype=np.float64) / s**2
        power = power + np.einsum("bi,bi->b", d, d, dtype=np.float64) / s**2
    rest = power.sum() - power
    if len(rest) < 2 or not np.all(rest > 0):
        return 0.0, np.inf
    left_out = (along.sum() - along) / rest
    count = len(left_out)
    spread = np.sqrt((count - 1) / count * np.square(left_out - left_out.mean()).sum())
    return float(along.sum() / power.sum()), float(spread)


def is_seen(beta: float, spread: float) -> bool:
    """Whether a projection shows the fault."""
    return LEAST_SHARE <= beta <= MOST_SHARE and beta >= LEAST_SPREADS * spread


def explains(
    beta: float, error: Sequence[np.ndarray], change: Sequence[np.ndarray], allowed: Sequence[float]
) -> bool:
    """Whether the error without the fault's part is a correct build's, or less than half of what it was.

    Without this test, maps of zeros would pass for those of an image that was not normalised.

    Args:
        error: maps of any shape: what the build computes minus what it should.
        change: what the fault changes, of the same shapes.
        allowed: largest norms of a correct build's error.
    """
    pairs = zip(error, change, allowed, strict=True)
    return all(np.linalg.norm(e - beta * d) <= max(most, np.linalg.norm(e) / 2) for e, d, most in pairs)


def tiles(several: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Maps (N, C, h, w) of one image, each as T blocks of neighbouring pixels, (N * T, C * S * S).

    A block is 8 x 8 pixels of the coarsest map, and the same part of the image in the finer ones. Incomplete blocks are
    left out.
    """
    coarsest = min(maps.shape[2] for maps in several)
    return [_tiles(maps, maps.shape[2] // coarsest) for maps in several]


def _tiles(maps: np.ndarray, factor: int) -> np.ndarray:
    count, channels, height, width = maps.shape
    side = min(TILE * factor, height, width)
    rows, columns = height // side, width // side
    cut = maps[:, :, : rows * side, : columns * side].reshape(count, channels, rows, side, columns, side)
    return cut.transpose(0, 2, 4, 1, 3, 5).reshape(count * rows * columns, channels * side * side)


def narrow_type(expected: np.ndarray, found: np.ndarray) -> str | None:
    """``FP16`` or ``BF16`` if the values fit that type and the source's do not; 0 and NaN fit every type.

    Both are maps of any shape.
    """
    expected, found = (maps[np.isfinite(maps) & (maps != 0)] for maps in (expected, found))
    if not found.size or not expected.size:
        return None
    for name, exact in (("BF16", _in_bfloat16), ("FP16", _in_half)):
        if exact(found) > EXACT > 2 * exact(expected):
            return name
    return None


def _in_half(values: np.ndarray) -> float:
    with np.errstate(over="ignore"):
        return float((values.astype(np.float16).astype(np.float32) == values).mean())


def _in_bfloat16(values: np.ndarray) -> float:
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return float((bits & 0xFFFF == 0).mean())
