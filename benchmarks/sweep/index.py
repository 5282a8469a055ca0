"""The list of a sweep's cells, ``sweep.json``, by which the report finds them; resuming does not need it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.sweep.suite import Cell, Suite
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import json_of, write_json
from samkr_edge.fixes import quoted

INDEX = "sweep.json"
State = Literal["finished", "reused", "waiting", "skipped", "failed", "to do"]


@dataclass(frozen=True)
class CellOutcome:
    """What became of a cell.

    Attributes:
        state: ``waiting`` for another power mode; ``skipped`` because its weights or data are missing.
        note: why, as text.
        results: the file, for finished and reused cells.
        error: the failed cell's.
    """

    cell: Cell
    key: str
    state: State
    note: str = ""
    results: Path | None = None
    error: SamkrError | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "cell": self.cell.label,
            "key": self.key,
            "state": self.state,
            "note": self.note,
            "results": None if self.results is None else f"cells/{self.results.name}",
            "error": None if self.error is None else self.error.to_dict(),
        }


def write_index(suite: Suite, out: Path, outcomes: Sequence[CellOutcome], count: int) -> None:
    """``OUT/sweep.json``: the suite, and the outcomes of the cells so far."""
    payload = {
        "schema_version": 1,
        "suite": suite.model_dump(mode="json"),
        "cells": count,
        "outcomes": [outcome.to_dict() for outcome in outcomes],
    }
    write_json(out / INDEX, payload)


def cell_files(out: Path) -> list[Path]:
    """The results files of a sweep's folder, in the order of its index.

    Raises:
        SamkrError: SE-A67 the index is damaged.
    """
    try:
        index = json_of((out / INDEX).read_text(encoding="utf-8"))
        files = [out / outcome["results"] for outcome in index["outcomes"] if outcome["results"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SamkrError(
            "SE-A67",
            f"{out / INDEX} is not the index of a sweep",
            {"reason": f"{type(error).__name__}: {error}"},
            fix=f"write it again; no finished cell is repeated: samkr-edge sweep SUITE --out {quoted(out)}",
        ) from error
    return [file for file in files if file.is_file()]
