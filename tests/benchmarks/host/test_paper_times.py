"""benchmarks.host.paper_times: Table 6 from a sweep and from decoders that were timed apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.schema import ModelResult, Results, write_results
from samkr_edge.files.artefact import write_json

pytest.importorskip("torch")


@pytest.fixture
def sweep(tmp_path: Path, row: Callable[..., ModelResult], run_of: Callable[..., Results]) -> Path:
    """A sweep's folder with cells of Table 6, one that is no row of it, and one that was scored."""

    def cell(network: str, p50: float, images: int | None = None) -> Results:
        models = [
            row("FP32", p50, network=network),
            row("INT8", p50 / 2, speed=(2.0, 1.9, 2.1), network=network),
        ]
        return run_of(models, images=images)

    runs = [cell("samkr_w48", 900.0), cell("samkr_w48", 800.0, images=5000), cell("samkr_tiny", 9.0)]
    for number, results in enumerate([*runs, cell("swahr_w48", 1000.0)]):
        write_results(tmp_path / "cells" / f"{number}.json", results)
    outcomes = [{"results": f"cells/{number}.json"} for number in range(4)]
    write_json(tmp_path / "sweep.json", {"schema_version": 1, "outcomes": outcomes})
    return tmp_path


def test_the_cells_that_only_time_a_row_of_the_table_are_taken_in_its_order(sweep: Path) -> None:
    from benchmarks.host.paper_times import cells_in

    taken = [(run.models[0].network, run.models[0].latency.p50_ms) for run in cells_in(sweep)]
    assert taken == [("swahr_w48", 1000.0), ("samkr_w48", 900.0)]


def test_a_total_has_the_decoding_of_a_crowd_in_place_of_its_own(sweep: Path) -> None:
    from benchmarks.host.paper_times import cells_in, decoding_table, times_table

    times = {"grouping": 20.0, "grouping, plain": 800.0, "offsets": 0.4, "offsets, plain": 12.0}
    run: dict[str, Any] = {
        "decoding": {"30": {name: {"median_ms": median} for name, median in times.items()}},
        "decoded_by": {"swahr_w48": "grouping", "samkr_w48": "offsets"},
        "cells": [results.model_dump(mode="json") for results in cells_in(sweep)],
    }
    # Beside the network and the row's own decoding of 0.9 ms a frame took 0.3 ms.
    assert times_table(run).splitlines()[2:] == [
        "| swahr_w48 | FP32 | 999 | 20.0 | 1019 | 816.3 |",
        "| swahr_w48 | INT8 | 499 | 20.0 | 519 |  |",
        "| samkr_w48 | FP32 | 899 | 0.40 | 900 | 164.4 |",
        "| samkr_w48 | INT8 | 449 | 0.40 | 450 |  |",
    ]
    assert decoding_table(run).splitlines()[2:] == [
        "| grouping | 30 | 800 | 20.0 | 40 |",
        "| offsets | 30 | 12.0 | 0.40 | 30 |",
    ]


def test_every_decoder_is_timed_on_maps_in_which_it_finds_the_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.host import paper_times

    monkeypatch.setattr(paper_times, "SIZE", 256)
    rows = paper_times.timed(4, rounds=1)
    assert {name: row["found"] for name, row in rows.items()} == dict.fromkeys(
        ("grouping", "grouping, plain", "offsets", "offsets, plain"), 4
    )
