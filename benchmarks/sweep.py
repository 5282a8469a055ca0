"""Measure a suite cell by cell; what is finished is never measured again and never lost.

A cell's results lie in ``OUT/cells/SLUG-KEY.json``, and KEY is a hash of everything they depend on: the bytes of the
models or how they are made, the pictures, the settings, this machine, its runtimes, and our version. So a sweep that
was killed goes on with the first cell that has no file, and a cell whose inputs changed is measured anew under another
name.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from benchmarks.bench import Plan, Progress, run_bench
from benchmarks.measure.sensors import Device, find_device
from benchmarks.schema import read_results, write_results
from benchmarks.suite import ALL_MODES, AS_IS, Cell, Entry, Suite, cells_of
from benchmarks.where_measured import what_computes
from samkr_edge import __version__, child_process
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import replacing, sha256_of, write_json
from samkr_edge.files.one_file import refuse_twice
from samkr_edge.fixes import quoted
from samkr_edge.stopping import taking_along
from samkr_edge.terminal import say

INDEX = "sweep.json"
_NOT_WRITTEN = "SE-D01"  # of samkr_edge.files.artefact: a full disk, no permission
State = Literal["finished", "reused", "waiting", "skipped", "failed", "to do"]


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        state: ``waiting`` for another power mode; ``skipped`` since its weights or data are not here.
        note: why, for people.
        results: the file, for finished and reused cells.
        error: of a failed cell.
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


def run_sweep(
    suite: Suite,
    out: Path,
    progress: Progress,
    *,
    files: Sequence[Path] = (),
    data: Path | None = None,
    resume: bool = True,
    dry_run: bool = False,
    device: Device | None = None,
    finished: Callable[[Outcome, int, int], None] = lambda outcome, number, count: None,
) -> list[Outcome]:
    """Measure what is not measured yet.

    Args:
        suite: what to measure.
        out: gets ``cells/``, ``models/`` (what was made for them) and ``sweep.json``.
        progress: a bar for each part of a cell.
        files: stand in for an entry without files and network.
        data: stands in for the data of every entry.
        resume: False measures everything again.
        dry_run: only say what would be done.
        device: how this machine is read; a test passes its own.
        finished: called after each cell with (outcome, its number, all).

    Raises:
        SamkrError: SE-D65 nothing more can be written: finished cells are kept. A
            cell that fails for another reason is recorded, and the sweep goes on.
    """
    given, device = device, device or find_device()
    if suite.power_modes == (ALL_MODES,):
        suite = suite.model_copy(update={"power_modes": tuple(name for name, _ in device.modes) or (None,)})
    mode = device.power_mode() if any(suite.power_modes) else None
    cells = [replace(cell, entry=_completed(cell.entry, files, data)) for cell in cells_of(suite)]
    outcomes: list[Outcome] = []
    pictures = cache(pictures_of)  # read once a sweep, not once a cell
    for number, cell in enumerate(cells, 1):
        try:
            outcome = _visit(suite, cell, out, progress, mode, device.modes, given, pictures, resume, dry_run)
        except SamkrError as error:
            if error.code == _NOT_WRITTEN:
                raise _stopped(error, outcomes, number, len(cells), out) from error
            outcome = Outcome(cell, "", "failed", error.message, error=error)
        outcomes.append(outcome)
        if not dry_run:
            try:
                _write_index(suite, out, outcomes, len(cells))
            except SamkrError as error:
                raise _stopped(error, outcomes, number, len(cells), out) from error
        finished(outcome, number, len(cells))
    return outcomes


def _stopped(
    error: SamkrError, outcomes: Sequence[Outcome], number: int, count: int, out: Path
) -> SamkrError:
    done = sum(outcome.results is not None for outcome in outcomes)
    return SamkrError(
        "SE-D65",
        f"the sweep stopped at cell {number} of {count}, since nothing could be written",
        [*error.facts, f"kept       {done} finished cells in {out / 'cells'}"],
        fix=f"free some room, then go on: samkr-edge sweep SUITE --out {quoted(out)} --resume",
    )


def _write_index(suite: Suite, out: Path, outcomes: Sequence[Outcome], count: int) -> None:
    """The list for the report; a resume does not need it."""
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
        index = json.loads((out / INDEX).read_text(encoding="utf-8"))
        files = [out / outcome["results"] for outcome in index["outcomes"] if outcome["results"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SamkrError(
            "SE-A67",
            f"{out / INDEX} is not the index of a sweep",
            [f"reason     {type(error).__name__}: {error}"],
            fix=f"write it again; no finished cell is repeated: samkr-edge sweep SUITE --out {quoted(out)}",
        ) from error
    return [file for file in files if file.is_file()]


def _completed(entry: Entry, files: Sequence[Path], data: Path | None) -> Entry:
    update: dict[str, Any] = {}
    if not entry.files and entry.network is None:
        refuse_twice(files, "measured")
        if not files:
            raise SamkrError(
                "SE-U69",
                f"the suite's entry {entry.name} stands for models of your own, and none was given",
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
    device: Device | None,
    pictures: Callable[[Path | None, str, int | None, bool], Pictures],
    resume: bool,
    dry_run: bool,
) -> Outcome:
    missing = [
        path
        for path in (*cell.entry.files, cell.entry.checkpoint, cell.entry.data, cell.entry.rescore)
        if path is not None and not path.exists()
    ]
    if missing:
        return Outcome(cell, "", "skipped", f"there is no {missing[0]}")
    if cell.entry.protocol == "paper" and cell.entry.data is None:
        return Outcome(cell, "", "skipped", "the paper's protocol measures AP, and there is no data for it")
    entry, split = cell.entry, cell.entry.split or suite.split
    shown = pictures(entry.data, split, suite.limit, entry.calibrates)
    key = cell_key(suite, cell, shown)
    path = out / "cells" / f"{cell.slug}-{key[:12]}.json"
    if resume and _is_finished(path):
        return Outcome(cell, key, "reused", results=path)
    if cell.power_mode is not None and (mode is None or mode.split(" ")[0] != cell.power_mode):
        number = dict(modes).get(cell.power_mode)
        how = "" if number is None else f": sudo nvpmodel -m {number}"
        return Outcome(
            cell, key, "waiting", f"the power mode is {mode or 'unknown'}, not {cell.power_mode}{how}"
        )
    if dry_run:
        return Outcome(cell, key, "to do")
    models = _make(suite, cell, out / "models", shown)
    plan = Plan(
        models=models,
        baseline=models[0],
        data=entry.data,
        split=split,
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
    results = run_bench(
        plan, path.with_name(f"{path.stem}-samples") if entry.data else None, progress, device
    )
    write_results(path, results.model_copy(update={"label": cell.label}))
    return Outcome(cell, key, "finished", results=path)


def _is_finished(path: Path) -> bool:
    try:
        return path.is_file() and bool(read_results(path).models)
    except SamkrError:
        return False


@dataclass(frozen=True)
class Pictures:
    """What identifies the pictures that an entry is scored and calibrated on; None where there are none."""

    scored: str | None = None
    calibrated: str | None = None


def pictures_of(data: Path | None, split: str, limit: int | None, calibrates: bool) -> Pictures:
    """Of the scored ones by their bytes; of the training split, which may be a hundred times as large, by the disk."""
    if data is None:
        return Pictures()
    from benchmarks.measure.accuracy import dataset_facts
    from samkr_edge.dataset.keypoint_dataset import open_dataset
    from samkr_edge.dataset.picture_digests import disk_state

    facts = dataset_facts(open_dataset(data, split), limit)
    scored = f"{facts.annotations_sha256} {facts.images_digest}"
    if not calibrates:
        return Pictures(scored)
    train = open_dataset(data, "train")
    files = (image.path for image in train.images)
    return Pictures(scored, f"{sha256_of(train.annotation_path)} {disk_state(files)}")


def cell_key(suite: Suite, cell: Cell, pictures: Pictures) -> str:
    """Hash of everything the cell's results depend on."""
    if cell.entry.network is None:
        models: list[str] = [sha256_of(path) for path in cell.entry.files]
    else:
        origin = "untrained" if cell.entry.checkpoint is None else sha256_of(cell.entry.checkpoint)
        models = [cell.entry.network, origin, *cell.entry.precisions, str(suite.calibration_images)]
    rescoring = None if cell.entry.rescore is None else sha256_of(cell.entry.rescore)
    measured = [suite.seconds, suite.power, suite.memory, suite.anyway, rescoring]
    return _digest(__version__, _here(), models, asdict(pictures), cell.axes(), measured)


def _here() -> dict[str, Any]:
    from samkr_edge.doctor.environment import environment

    return what_computes(environment())


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _make(suite: Suite, cell: Cell, folder: Path, pictures: Pictures) -> list[Path]:
    """The models of a cell, made where they are not there yet: built ones, or for AP by the paper's protocol, which no
    built model can follow, checkpoints."""
    entry = cell.entry
    if entry.network is None:
        stems = [path.stem for path in entry.files]
        # Files of one name from two folders must not be built over one another.
        return [
            _build(path, cell, folder / str(number) if stems.count(path.stem) > 1 else folder)
            for number, path in enumerate(entry.files)
        ]
    origin = "untrained" if entry.checkpoint is None else sha256_of(entry.checkpoint)
    made = []
    for precision in entry.precisions:
        stem = f"{entry.name}-{precision}"
        source = [entry.network, "--untrained"] if entry.checkpoint is None else [str(entry.checkpoint)]
        measured, quantized = entry.checkpoint, None
        if precision == "int8":
            if entry.data is not None:
                images = ["--data", str(entry.data), "--images", str(suite.calibration_images)]
            else:
                images = ["--random-images", str(suite.calibration_images)]
            quantized = folder / f"{stem}.pt"
            _command(["quantize", *source, *images], quantized, f"{origin} {pictures.calibrated}")
            measured, source = quantized, [str(quantized)]
        if entry.protocol == "paper" and measured is not None:
            made.append(measured)
            continue
        size = ["--size", cell.size] if cell.size else []
        onnx = folder / f"{stem}{'-' + cell.size if cell.size else ''}.onnx"
        _command(["export", *source, *size], onnx, sha256_of(quantized) if quantized else origin)
        made.append(_build(onnx, cell, folder))
    return made


def _build(source: Path, cell: Cell, folder: Path) -> Path:
    from samkr_edge.passport import is_built

    if cell.target == AS_IS or source.suffix != ".onnx" or is_built(source):
        return source
    suffix = ".cpu.onnx" if cell.target == "cpu" else f".{cell.target}.engine"
    built = folder / f"{source.stem}{suffix}"
    _command(["build", str(source), "--target", cell.target], built, sha256_of(source))
    return built


def _command(arguments: Sequence[str], output: Path, origin: str) -> None:
    """One of our commands in a process of its own, unless its output is there and was made from the same things, here.

    Raises:
        SamkrError: the command's own; SE-B65 where it ended without one.
    """
    stamp = output.with_name(f".{output.name}.made")
    key = _digest(__version__, _here(), origin, *arguments)
    made = stamp.read_text(encoding="utf-8") if output.is_file() and stamp.is_file() else None
    if made is not None and made == f"{key} {sha256_of(output)}":
        return
    command = [*arguments, "-o", str(output)]
    shown = f"samkr-edge {shlex.join(command)}"
    say(f"$ {shown}")
    # As JSON, for its error: this sweep goes on, stops and ends with an exit code by what it was.
    child = subprocess.Popen(child_process.command(*command, "--json"), stdout=subprocess.PIPE)
    with taking_along(child):
        printed, _ = child.communicate()
    if child.returncode != 0 or not output.is_file():
        raise _error_of(printed, shown) or SamkrError(
            "SE-B65",
            f"a model of the sweep could not be made: `samkr-edge {arguments[0]}` "
            f"ended with exit code {child.returncode}",
            ["what it said stands above"],
            fix=shown,
        )
    with replacing(stamp) as temporary:
        temporary.write_text(f"{key} {sha256_of(output)}", encoding="utf-8")


def _error_of(printed: bytes, command: str) -> SamkrError | None:
    """The error in what a command printed under ``--json``; None where there is none: it crashed or was killed."""
    try:
        error = json.loads(printed.splitlines()[-1])["error"]
        return SamkrError(
            error["code"], error["message"], [*error["facts"], f"in         {command}"], error["fix"]
        )
    except (IndexError, ValueError, KeyError, TypeError):
        return None
