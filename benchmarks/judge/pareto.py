"""Which models are worth having: those that no other beats in both accuracy and latency."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (latency, AP) points that no other point dominates, fastest first.

    A point dominates another when it is at least as fast and at least as accurate, and better in one of the two.
    Of equal points all are kept.
    """
    kept = [
        index
        for index, (latency, ap) in enumerate(points)
        if not any(
            (other[0] <= latency and other[1] >= ap) and (other[0] < latency or other[1] > ap)
            for other in points
        )
    ]
    return sorted(kept, key=lambda index: points[index])
