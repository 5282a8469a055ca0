"""`samkr-edge sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samkr_edge.cli.options import AsJson, data_dir, out_folder
from samkr_edge.cli.places import models_named
from samkr_edge.cli.protocol import Anyway
from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted

if TYPE_CHECKING:
    from benchmarks.sweep.index import CellOutcome


def sweep(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="quick, paper, jetson, or a YAML file.")],
    out: Annotated[Path, out_folder("Folder for the cells and the models made for them.")] = Path("sweep"),
    model: Annotated[
        list[Path] | None,
        typer.Option(
            help="A model for a suite that has none, FP32 first; repeatable.", callback=models_named
        ),
    ] = None,
    data: Annotated[Path | None, data_dir(", in place of the suite's")] = None,
    anyway: Anyway = False,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Keep finished cells, or measure all again.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the cells.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a suite: models, precisions, input sizes, batches, threads, targets, power modes.

    A cell that is finished is never measured again unless what it depends on has changed: models, images, settings,
    machine. After Ctrl-C, a power cut or a full disk the same command resumes.

    Examples:

      samkr-edge sweep quick --out sweep-laptop

      samkr-edge sweep jetson --model fp32.onnx --model int8.onnx --data coco --out sweep-orin --resume

      samkr-edge report sweep-laptop sweep-orin -o report.html
    """
    from benchmarks.sweep.run import run_sweep
    from benchmarks.sweep.suite import read_suite
    from samkr_edge.cli.console import emit
    from samkr_edge.progress import progress
    from samkr_edge.terminal import say

    chosen = read_suite(suite)
    if anyway:
        chosen = chosen.model_copy(update={"anyway": True})

    def finished(outcome: CellOutcome, number: int, count: int) -> None:
        note = f": {outcome.note}" if outcome.note else ""
        say(f"[{number}/{count}] {outcome.cell.label}: {outcome.state}{note}")

    outcomes = run_sweep(
        chosen, out, progress, files=model or (), data=data, resume=resume, dry_run=dry_run, finished=finished
    )
    failed = next((outcome.error for outcome in outcomes if outcome.error is not None), None)
    if failed is None and not dry_run and all(outcome.state == "skipped" for outcome in outcomes):
        failed = SamkrError(
            "SE-D64",
            f"every cell of {chosen.name} was skipped, so nothing has been measured",
            {"skipped": list(dict.fromkeys(outcome.note for outcome in outcomes))[:4]},
            fix="samkr-edge sweep quick   # needs no files"
            if chosen.name != "quick"
            else "samkr-edge doctor",
        )
    emit(
        {
            "suite": chosen.name,
            "out": str(out),
            "cells": [outcome.to_dict() for outcome in outcomes],
            "error": failed.to_dict() if failed else None,
        },
        _table(chosen.why, outcomes, out),
        as_json,
    )
    if failed is not None:
        say(str(failed))
        raise typer.Exit(failed.exit_code)


def _table(why: str, outcomes: list[CellOutcome], out: Path) -> Any:
    """One line a model of each finished cell, and of what its AP is; the other cells with their reason."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from benchmarks.judge.wording import milliseconds, with_interval
    from benchmarks.schema import common_ap_label, read_results

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    runs = {outcome.results: read_results(outcome.results) for outcome in outcomes if outcome.results}
    shared = common_ap_label(list(runs.values()))
    texts = ("cell", "model", "AP of")
    several = ["AP of"] if not shared and any(run.ap_label for run in runs.values()) else []
    for heading in ("cell", "model", "AP", *several, "difference [95 %]", "p50 ms", "p90", "speed-up"):
        table.add_column(heading, justify="left" if heading in texts else "right", no_wrap=True)
    for outcome in outcomes:
        if outcome.results is None:
            table.add_row(outcome.cell.label, Text(f"{outcome.state} {outcome.note}".strip(), style="yellow"))
            continue
        for index, row in enumerate(runs[outcome.results].models):
            difference = row.difference
            table.add_row(
                "" if index else outcome.cell.label,
                f"{row.network} {row.precision.upper()}",
                "" if row.ap is None else f"{row.ap:.1f}{' train-fit' * row.trained_on}",
                *("" if index else runs[outcome.results].ap_label for _ in several),
                "" if difference is None else with_interval(difference),
                milliseconds(row.latency.p50_ms) + ("" if row.stable else " *"),
                milliseconds(row.latency.p90_ms),
                "" if row.speed_up is None else f"{row.speed_up.value:.2f}×",
            )
    lines: list[Any] = [Text(why, style="dim"), Text(""), table, Text("")]
    if shared:
        lines.append(Text(f"AP: {shared}; times: one pass as deployed", style="dim"))
    if any(outcome.state == "waiting" for outcome in outcomes):
        text = "Waiting cells: change the power mode (some changes reboot), then run the same command again."
        lines.append(Text(text, style="yellow"))
    if any(outcome.results for outcome in outcomes):
        lines.append(Text(f"page: samkr-edge report {quoted(out)} -o report.html", style="dim"))
    return Group(*lines)
