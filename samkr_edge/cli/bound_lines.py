"""A model's layers beside their bounds, for people."""

from __future__ import annotations

from samkr_edge.roofline.against_bound import AgainstBound, worst
from samkr_edge.roofline.shares import lines, summary, total


def measured_lines(found: AgainstBound | str) -> list[str]:
    """The share of the bound, what the bound comes from, and the layers that lose most; or why there is no bound."""
    if isinstance(found, str):
        return [f"  bound        none: {found}"]
    ms = total(found.layers)
    shown = [
        f"  bound        {summary(1e3 * found.bound.seconds, ms, found.bound.by)}, layer by layer",
        f"               {found.peaks}",
    ]
    listed = lines(worst(found))
    return [*shown, *(f"  {'loses most' if not n else '':<11}  {line}" for n, line in enumerate(listed))]
