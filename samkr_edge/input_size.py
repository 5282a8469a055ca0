"""Sizes of network inputs: which are possible, and the nearest possible one."""

from __future__ import annotations

from samkr_edge.errors import SamkrError

# HRNet's last branch has one position per so many pixels.
STEP = 32
# With an input of this size, a single map takes gigabytes.
LARGEST = 8192


def is_possible(size: tuple[int, int]) -> bool:
    """Whether (H, W) are positive multiples of 32, up to ``LARGEST``."""
    return all(STEP <= side <= LARGEST and side % STEP == 0 for side in size)


def nearest(size: tuple[int, int]) -> tuple[int, int]:
    """The possible (H, W) nearest to this one; of two, the larger."""
    height, width = (min(LARGEST, STEP * max(1, (side + STEP // 2) // STEP)) for side in size)
    return height, width


def parse_size(text: str) -> tuple[int, int]:
    """``HxW`` -> (H, W).

    Raises:
        SamkrError: SE-U03 no size, or none that a network can have.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise SamkrError(
            "SE-U03",
            f"{text!r} is not a size",
            {"expected": "HxW, for example 256x192"},
            fix="run the same command with --size 256x192",
        )
    size = int(parts[0]), int(parts[1])
    if not is_possible(size):
        height, width = nearest(size)
        raise SamkrError(
            "SE-U03",
            f"no network takes {text}, so nothing was done",
            {"needed": f"height and width multiples of {STEP}, at most {LARGEST}"},
            fix=f"run the same command with --size {height}x{width}",
        )
    return size
