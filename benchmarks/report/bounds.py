"""Part of the report: each network's time beside its lower bound, and the layers that lose most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.judge.wording import milliseconds
from benchmarks.schema import LayerAgainstBound, Results


@dataclass(frozen=True)
class BoundBar:
    """One network: ``inside`` and ``beyond`` its bound are percent of the longest bar."""

    label: str
    bound: str
    ms: str
    share: str
    inside: float
    beyond: float
    peaks: str
    layers: list[LayerAgainstBound]


def bounds_part(results: Results, labels: Mapping[str, str]) -> list[BoundBar]:
    """A bar for each model whose bound is known."""
    known = [(model, model.bound) for model in results.models if model.bound is not None]
    longest = max((least.ms / least.share for _, least in known if least.share), default=0.0)
    bars = []
    for model, least in known:
        ms = least.ms / least.share if least.share else 0.0
        inside = 100 * min(least.ms, ms) / longest if longest else 0.0
        bars.append(
            BoundBar(
                label=labels[model.name],
                bound=milliseconds(least.ms),
                ms=milliseconds(ms),
                share=f"{least.share:.0%}",
                inside=inside,
                beyond=max(0.0, 100 * ms / longest - inside) if longest else 0.0,
                peaks=least.peaks,
                layers=least.layers,
            )
        )
    return bars
