"""The table of SAMKR, DEKR and SWAHR side by side is made of what was measured."""

from __future__ import annotations

from typing import Any

from benchmarks.host.family import as_markdown, summary


def row(network: str, precision: str, ap: float, ms: float) -> dict[str, Any]:
    times = {"network_ms": ms - 1, "decode_ms": 0.25, "total_ms": ms}
    return {
        "seed": 0,
        "network": network,
        "precision": precision,
        "ap": ap,
        "ar": ap + 5,
        "stable": True,
        **times,
    }


def test_a_row_has_the_mean_of_the_seeds_and_how_far_they_lie_apart() -> None:
    rows = [
        row(network, precision, ap, ms)
        for network, shift in (("samkr_tiny", 0), ("swahr_tiny", -10))
        for precision, loss, ms in (("fp32", 0.0, 12.0), ("int8", 0.5, 8.0))
        for ap in (60.0 + shift - loss, 63.0 + shift - loss)
    ]
    assert as_markdown(summary(rows)).splitlines()[2:] == [
        "| samkr_tiny | 61.5 [60.0, 63.0] | 61.0 [59.5, 62.5] | 66.5 | 66.0 | 12.0 | 8.0 | 0.25 |",
        "| swahr_tiny | 51.5 [50.0, 53.0] | 51.0 [49.5, 52.5] | 56.5 | 56.0 | 12.0 | 8.0 | 0.25 |",
    ]


def test_a_network_without_both_precisions_has_no_row() -> None:
    assert len(as_markdown(summary([row("dekr_tiny", "fp32", 50.0, 10.0)])).splitlines()) == 2
