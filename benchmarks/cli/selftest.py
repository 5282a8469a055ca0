"""`samkr-edge selftest`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samkr_edge.cli.options import AsJson, out_folder

if TYPE_CHECKING:
    from benchmarks.selftest.selftest import Selftest
    from benchmarks.selftest.stage import Check


def selftest(
    out: Annotated[Path, out_folder("Folder for selftest.json.")] = Path("selftest"),
    stage: Annotated[
        list[str] | None,
        typer.Option(metavar="N", help="Only these stages: 3, 0-3 or 1,12; repeatable [default: all]."),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, help="Time limit in minutes; a stage that does not fit is not run."),
    ] = None,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Continue after a failed stage.")] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Keep stages that already passed here with this code and TensorRT."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Does this GPU compute the networks correctly? Thirteen stages, from the driver to whole networks.

    Each stage builds on those before it, so the first that fails ends the self-test. It needs no data set and no
    weights, and leaves nothing behind but selftest.json, which holds every figure and is valid at any time. A stage
    runs in its own process: one that crashes or hangs has failed. All of them take about fifty
    minutes on a Jetson Orin Nano.

    Exit code: 0 passed, 6 a stage failed, 7 there is nothing to run on, 130 Ctrl-C, 143 SIGTERM.

    Examples:

      samkr-edge selftest

      samkr-edge selftest --stage 0-3 --minutes 8

      samkr-edge selftest --stage 12 --json
    """
    from benchmarks.selftest.earlier import still_holding
    from benchmarks.selftest.machine import look_around, require_gpu_here
    from benchmarks.selftest.report import passed, payload, summary
    from benchmarks.selftest.selftest import Selftest
    from benchmarks.selftest.stages import chosen_stages
    from samkr_edge.cli.console import emit
    from samkr_edge.errors import EXIT_CODES
    from samkr_edge.files.temporary import temporary_folder
    from samkr_edge.terminal import say

    chosen = chosen_stages(stage or ())
    require_gpu_here()
    interrupted = False
    with temporary_folder("samkr-edge-selftest-") as shared:
        machine = look_around(chosen)
        run = Selftest(out, shared, chosen, machine, minutes=minutes, keep_going=keep_going)
        if resume:
            run.take_over(still_holding(run.file, run.facts, chosen))
        try:
            _run_all(run)
        except KeyboardInterrupt:
            interrupted = True
    outcomes = run.outcomes
    emit(payload(run.begun, run.facts, outcomes), summary(outcomes, run.facts), as_json)
    say(f"every figure: {run.file}")
    if interrupted:
        raise KeyboardInterrupt
    verdict = passed(outcomes)
    if verdict is not True:
        raise typer.Exit(EXIT_CODES["V" if verdict is None else "Q"])


def _run_all(run: Selftest) -> None:
    """Every stage, told on stderr as it is measured."""
    from samkr_edge.terminal import say

    known = {outcome.number for outcome in run.outcomes if outcome.state == "passed"}
    for number, stage in enumerate(run.stages, 1):
        if stage.number in known:
            continue
        say(f"[{number}/{len(run.stages)}] stage {stage.number}, {stage.title}")
        outcome = run.run(stage, tell)
        say(f"  {outcome.state}{f': {outcome.why}' if outcome.why else ''} ({outcome.seconds:.0f} s)")


def tell(check: Check) -> None:
    """One line on stderr for a check that was just measured."""
    from samkr_edge.terminal import say

    mark = "--" if check.passed is None else "ok" if check.passed else "NO"
    say(f"  {mark}  {check.what}: {check.found}")
