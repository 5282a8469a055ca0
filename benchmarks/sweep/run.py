"""Measure a suite cell by cell; finished cells are never measured again and never lost.

A cell's results are in ``OUT/cells/SLUG-KEY.json``; KEY is a hash of everything they depend on: the bytes of the models
or how they are made, the images, the settings, this machine, its runtimes, and samkr-edge's version. So a killed sweep
resumes with the first cell that has no file, and a cell whose inputs changed is measured again under another name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.bench import run_bench
from benchmarks.measure.sensors import Sensors, find_sensors
from benchmarks.plan import Plan, Progress
from benchmarks.schema import read_results, write_results
from benchmarks.sweep.index import CellOutcome, write_index
from benchmarks.sweep.key import Pictures, cell_key, pictures_of
from benchmarks.sweep.models import make_models
from benchmarks.sweep.suite import ALL_MODES, Cell, Entry, Suite, cells_of
from samkr_edge.errors import SamkrError
from samkr_edge.files.one_file import refuse_twice
from samkr_edge.fixes import quoted
from samkr_edge.ready_name import model_file, rescoring_file

_NOT_WRITTEN = "SE-D01"  # of samkr_edge.files.artefact: a full disk, no permission


def run_sweep(
    suite: Suite,
    out: Path,
    progress: Progress,
    *,
    files: Sequence[Path] = (),
    data: Path | None = None,
    resume: bool = True,
    dry_run: bool = False,
    sensors: Sensors | None = None,
    finished: Callable[[CellOutcome, int, int], None] = lambda outcome, number, count: None,
) -> list[CellOutcome]:
    """Measure all cells that are not measured yet.

    Args:
        suite: what to measure.
        out: gets ``cells/``, ``models/`` (what was made for them) and ``sweep.json``.
        progress: a bar for each part of a cell.
        files: stand in for an entry without files and network.
        data: stands in for the data of every entry.
        resume: False measures everything again.
        dry_run: only report what would be done.
        sensors: read this machine; tests pass their own.
        finished: called after each cell with (outcome, its number, number of cells).

    Raises:
        SamkrError: SE-D65 nothing more can be written: finished cells are kept. A cell that fails for another reason is
            recorded, and the sweep continues.
    """
    given, sensors = sensors, sensors or find_sensors()
    if suite.power_modes == (ALL_MODES,):
        suite = suite.model_copy(update={"power_modes": tuple(name for name, _ in sensors.modes) or (None,)})
    mode = sensors.power_mode() if any(suite.power_modes) else None
    cells = [replace(cell, entry=_completed(cell.entry, files, data)) for cell in cells_of(suite)]
    outcomes: list[CellOutcome] = []
    pictures = cache(pictures_of)  # read once per sweep, not per cell
    for number, cell in enumerate(cells, 1):
        try:
            outcome = _visit(
                suite, cell, out, progress, mode, sensors.modes, given, pictures, resume, dry_run
            )
        except SamkrError as error:
            if error.code == _NOT_WRITTEN:
                raise _stopped(error, outcomes, number, len(cells), out) from error
            outcome = CellOutcome(cell, "", "failed", error.message, error=error)
        outcomes.append(outcome)
        if not dry_run:
            try:
                write_index(suite, out, outcomes, len(cells))
            except SamkrError as error:
                raise _stopped(error, outcomes, number, len(cells), out) from error
        finished(outcome, number, len(cells))
    return outcomes


def _stopped(
    error: SamkrError, outcomes: Sequence[CellOutcome], number: int, count: int, out: Path
) -> SamkrError:
    done = sum(outcome.results is not None for outcome in outcomes)
    return SamkrError(
        "SE-D65",
        f"the sweep stopped at cell {number} of {count}, since nothing could be written",
        {**error.facts, "kept": f"{done} finished cells in {out / 'cells'}"},
        fix=f"free some space, then resume: samkr-edge sweep SUITE --out {quoted(out)} --resume",
    )


def _completed(entry: Entry, files: Sequence[Path], data: Path | None) -> Entry:
    update: dict[str, Any] = {
        "files": tuple(model_file(file) for file in entry.files),
        "checkpoint": entry.checkpoint and model_file(entry.checkpoint),
        "rescore": entry.rescore and rescoring_file(entry.rescore),
    }
    if not entry.files and entry.network is None:
        refuse_twice(files, "measured")
        if not files:
            raise SamkrError(
                "SE-U69",
                f"the suite's entry {entry.name} stands for your own models, and none was given",
                fix="name them, FP32 first: --model fp32.onnx --model int8.onnx",
            )
        update["files"] = tuple(files)
    if data is not None:
        update["data"] = data
    return entry.model_copy(update=update)


def _visit(
    suite: Suite,
    cell: Cell,
    out: Path,
    progress: Progress,
    mode: str | None,
    modes: Sequence[tuple[str, int]],
    sensors: Sensors | None,
    pictures: Callable[[Path | None, str, int | None, bool], Pictures],
    resume: bool,
    dry_run: bool,
) -> CellOutcome:
    if lacking := _lacking(cell.entry):
        return CellOutcome(cell, "", "skipped", lacking)
    shown = pictures(cell.entry.data, cell.split, suite.limit, cell.entry.calibrates)
    key = cell_key(suite, cell, shown)
    path = out / "cells" / f"{cell.slug}-{key[:12]}.json"
    if resume and _is_finished(path):
        return CellOutcome(cell, key, "reused", results=path)
    if other := _other_mode(cell, mode, modes):
        return CellOutcome(cell, key, "waiting", other)
    if dry_run:
        return CellOutcome(cell, key, "to do")
    plan = _plan(suite, cell, make_models(suite, cell, out / "models", shown))
    samples = path.with_name(f"{path.stem}-samples") if plan.data else None
    results = run_bench(plan, samples, progress, sensors)
    write_results(path, results.model_copy(update={"label": cell.label}))
    return CellOutcome(cell, key, "finished", results=path)


def _lacking(entry: Entry) -> str:
    """What the entry needs and is missing; empty if nothing is."""
    for path in (*entry.files, entry.checkpoint, entry.data, entry.rescore):
        if path is not None and not path.exists():
            return f"there is no {path}"
    if entry.protocol == "paper" and entry.data is None:
        return "the paper's protocol measures AP, and there is no data for it"
    return ""


def _other_mode(cell: Cell, mode: str | None, modes: Sequence[tuple[str, int]]) -> str:
    """The power mode that the cell needs, and the command to set it; empty if the machine is already in it."""
    if cell.power_mode is None or (mode is not None and mode.split(" ")[0] == cell.power_mode):
        return ""
    number = dict(modes).get(cell.power_mode)
    how = "" if number is None else f": sudo nvpmodel -m {number}"
    return f"the power mode is {mode or 'unknown'}, not {cell.power_mode}{how}"


def _plan(suite: Suite, cell: Cell, models: Sequence[Path]) -> Plan:
    """The benchmark run of a cell; the first model is the baseline."""
    entry = cell.entry
    return Plan(
        models=models,
        baseline=models[0],
        data=entry.data,
        split=cell.split,
        limit=suite.limit,
        anyway=suite.anyway,
        protocol=entry.measured_by(),
        rescore=entry.rescore,
        seconds=suite.seconds,
        threads=cell.threads,
        mode="offline" if cell.batch > 1 else "single-stream",
        batch=cell.batch,
        power=suite.power,
        memory=suite.memory,
        command=f"samkr-edge sweep {quoted(suite.name)}   # {cell.label}",
    )


def _is_finished(path: Path) -> bool:
    try:
        return path.is_file() and bool(read_results(path).models)
    except SamkrError:
        return False
