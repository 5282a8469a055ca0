"""AP as numbers: of one network, the difference of two, and the value below which it means little. Pure Python."""

from __future__ import annotations

from dataclasses import dataclass

# Below this AP a network is too weak for a difference in AP to mean anything.
LEAST_AP = 5.0


@dataclass(frozen=True)
class Scores:
    """AP and AR in 0..100; None where the split has nothing to score (no medium-sized people, no CrowdPose)."""

    ap: float
    ap50: float
    ap75: float
    ar: float
    apm: float | None = None
    apl: float | None = None
    ar50: float | None = None
    ar75: float | None = None
    arm: float | None = None
    arl: float | None = None
    easy: float | None = None
    medium: float | None = None
    hard: float | None = None

    def to_dict(self) -> dict[str, float]:
        """The numbers that exist."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Interval:
    """Difference in AP points, and the bounds of its 95 % interval."""

    difference: float
    low: float
    high: float

    def text(self, factor: float = 1.0) -> str:
        """``-0.31 [-0.52, -0.10]``, each times the factor."""
        value, low, high = (factor * x for x in (self.difference, self.low, self.high))
        return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"
