"""How close measured layers come to their bounds, and which cost most beyond it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from samkr_edge.roofline.bound import Bound

SHOWN = 5


@dataclass(frozen=True)
class LayerShare:
    """A module's measured time and its bound, in milliseconds.

    Attributes:
        module: of the network, or the kind of an operation that belongs to none.
        by: ``compute`` or ``bandwidth``: what bounds most of it; empty where the bound is 0.
    """

    module: str
    ms: float
    bound_ms: float
    by: str

    @property
    def lost_ms(self) -> float:
        """What it takes beyond its bound."""
        return self.ms - self.bound_ms


def shares(measured: Mapping[str, float], found: Bound) -> tuple[LayerShare, ...]:
    """Every measured module with its bound, the one that loses most first.

    Args:
        measured: milliseconds by module.
        found: of the same network; layers of one module are added up.
    """
    least: dict[str, float] = defaultdict(float)
    waiting: dict[str, float] = defaultdict(float)
    for layer in found.layers:
        least[layer.work.module] += 1e3 * layer.seconds
        waiting[layer.work.module] += 1e3 * layer.seconds * (layer.by == "bandwidth")
    rows = []
    for module, ms in measured.items():
        by = "bandwidth" if 2 * waiting[module] > least[module] else "compute"
        rows.append(LayerShare(module, ms, least[module], by if least[module] else ""))
    return tuple(sorted(rows, key=lambda row: -row.lost_ms))


def summary(bound_ms: float, ms: float, by: str) -> str:
    """``at 16 % of its bound: 1.31 ms at least, by compute, and 8.03 ms measured``; 100 % cannot be passed."""
    return (
        f"at {bound_ms / ms:.0%} of its bound: {bound_ms:.2f} ms at least, by {by}, and {ms:.2f} ms measured"
    )


def lines(worst: Sequence[LayerShare]) -> list[str]:
    """The layers that lose most, for people."""
    width = max((len(row.module) for row in worst), default=0)
    return [
        f"{row.module:<{width}}  {row.ms:8.3f} ms, bound {row.bound_ms:.3f}"
        + (f" by {row.by}" if row.by else "")
        for row in worst
    ]


def total(rows: Iterable[LayerShare]) -> float:
    """Milliseconds of all of them."""
    return sum(row.ms for row in rows)
