"""`samkr-edge bench`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.cli.bench_places import (
    page_beside,
    refuse_foreign_files,
    require_places,
    results_in,
    results_path,
    samples_folder,
)
from samkr_edge.cli.options import (
    SPLIT,
    AsJson,
    CudaGraph,
    Limit,
    Split,
    Threads,
    data_dir,
    device,
    out_results,
)
from samkr_edge.cli.photos import PhotoWords, photos_to_carry, require_one
from samkr_edge.cli.places import model_named, models_named, rescoring_named
from samkr_edge.cli.protocol import Anyway, ProtocolName, Scales, protocol_of
from samkr_edge.cli.unused_options import refuse_unused
from samkr_edge.errors import SamkrError

if TYPE_CHECKING:
    from benchmarks.judge.gate import Limits
    from benchmarks.judge.regression import Uncompared
    from benchmarks.schema import Results

_DEFAULT_SECONDS = 20.0
_DEFAULT_BATCH = 8


class Mode(str, Enum):
    """How images are fed to the timed model."""

    single_stream = "single-stream"
    offline = "offline"


class MayDiffer(str, Enum):
    """What may differ from the earlier results."""

    rows = "rows"
    accuracy = "accuracy"
    speed = "speed"


def bench(
    context: typer.Context,
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL...",
            help="Checkpoints, ONNX files, built models, zoo:NAME, in any mix.",
            callback=models_named,
        ),
    ],
    data: Annotated[Path | None, data_dir("; without it and --photos only latency is measured")] = None,
    photos: PhotoWords = None,
    split: Split = SPLIT,
    limit: Limit = None,
    anyway: Anyway = False,
    protocol: Annotated[
        ProtocolName,
        typer.Option(
            help="AP protocol. deployment: one pass, as on the device. paper: as `eval "
            "--protocol paper`; checkpoints only."
        ),
    ] = ProtocolName.deployment,
    scales: Scales = "1",
    rescore: Annotated[
        Path | None,
        typer.Option(
            help="With --protocol paper: rescoring network (.npz), see `samkr-edge rescore`.",
            callback=rescoring_named,
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Frames per model [default: as --seconds allows].")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds of timing for all models together [default: 20].")
    ] = None,
    threads: Threads = 1,
    cuda_graph: CudaGraph = False,
    mode: Annotated[Mode, typer.Option(help="One image at a time, or in batches.")] = Mode.single_stream,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images per batch, with --mode offline [default: 8].")
    ] = None,
    power: Annotated[
        bool, typer.Option("--power", help="Energy per frame above idle, where there is a power meter.")
    ] = False,
    memory: Annotated[
        bool,
        typer.Option("--memory/--no-memory", help="Peak memory, each model in its own process."),
    ] = True,
    bound: Annotated[
        bool,
        typer.Option(
            "--bound", help="Also each network's share of its lower bound here, and what loses most."
        ),
    ] = False,
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="Model to compare with [default: the first], or a results.json that no row may fall behind.",
            callback=model_named,
        ),
    ] = None,
    out: Annotated[
        Path | None, out_results("Folder for results.json and samples, or a path that ends in .json.")
    ] = None,
    samples: Annotated[int, typer.Option(min=0, help="Images saved with every model's predictions.")] = 6,
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="AP", help="Exit with 6 if a model lost more AP, or AP against FP32, than this."
        ),
    ] = None,
    max_moved: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="PX",
            help="With --photos: exit with 6 if 95 % of FP32's joints are not found within this.",
        ),
    ] = None,
    max_latency: Annotated[
        float | None, typer.Option(min=0, metavar="MS", help="Exit with 6 if a model's p90 is above this.")
    ] = None,
    may_differ: Annotated[
        list[MayDiffer] | None,
        typer.Option(help="With a results.json as --baseline: what may differ; repeatable."),
    ] = None,
    require_stable: Annotated[
        bool, typer.Option("--require-stable", help="Exit with 7 if clocks or times drifted.")
    ] = False,
    reuse: Annotated[
        bool, typer.Option("--reuse/--no-reuse", help="Take the AP of unchanged models from --out.")
    ] = True,
    report: Annotated[bool, typer.Option("--report", help="Also write report.html into --out.")] = False,
    on: Annotated[str | None, device("Measure on a device:")] = None,
    as_json: AsJson = False,
) -> None:
    """AP and latency of several models, measured in turn on the same images.

    Latency is p50, p90 and p99 from image to poses, always of one pass as deployed; AP is by the protocol. The AP
    difference to the baseline has a 95 % interval (paired bootstrap over images). A run whose clock or times moved is
    marked unstable, with the reason and the fix.

    With --photos, pictures without labels, the people that the FP32 model finds stand for labels: the table has people
    kept, lost and new, how far joints moved, and AP against FP32, which is never compared with AP. The FP32 model is
    the baseline, and pictures that a model was calibrated on are left out.

    With a results.json as --baseline, rows are paired by their bytes, else by network, precision and input size. What
    cannot be compared with it (a missing row, other images, other threads, another device) is named and fails the
    gate, unless --may-differ allows it.

    Examples:

      samkr-edge bench fp32.cpu.onnx qat.cpu.onnx --data people --out results --report

      samkr-edge bench fp32.cpu.onnx int8.cpu.onnx --photos my_pictures --out results --report

      samkr-edge bench fp32.cpu.onnx qat.cpu.onnx --data people --max-drop 1 --max-latency 20

      samkr-edge bench fp32.cpu.onnx qat.cpu.onnx --data people --baseline released/results.json

      samkr-edge bench final.pt int8.pt --data /data/crowdpose --split test --protocol paper --rescore rescore.npz

      samkr-edge bench fp32.engine int8.engine --cuda-graph --power --require-stable

      samkr-edge bench fp32.cpu.onnx qat.cpu.onnx --bound   # how far is each from what this core can do?

      samkr-edge bench fp32.cpu.onnx qat.cpu.onnx --mode offline --batch 8 --threads 2
    """
    target = None if out is None else results_path(out)
    refuse_foreign_files(out, target, report)
    if on is not None:
        from samkr_edge.deploy.remote import run_there

        context.params["photos"] = photos and photos_to_carry(photos)
        raise typer.Exit(run_there(on, context, inputs=("models", "data", "photos", "baseline", "rescore")))
    from benchmarks.bench import run_bench
    from benchmarks.judge.gate import Limits
    from benchmarks.plan import Plan
    from benchmarks.schema import write_results
    from samkr_edge.progress import progress

    if rounds is not None and seconds is not None:
        raise SamkrError("SE-U60", "--rounds and --seconds were both given", fix="give one of the two")
    _require_images(data, photos, max_drop, max_moved)
    refuse_unused("--data DIR", data, {"--split": None if split == SPLIT else split})
    refuse_unused("--data DIR", data or photos, {"--limit": limit, "--anyway": anyway or None})
    by = protocol_of(protocol, scales=scales, rescore=rescore)
    if not by.deployment and data is None:
        raise SamkrError("SE-U61", "--protocol paper is for AP, so it needs --data", fix="add --data DIR")
    if batch is not None and mode is not Mode.offline:
        raise SamkrError("SE-U66", "--batch is for offline mode only", fix="add --mode offline")
    # Read before the measurement, so that a mistake in it does not cost the run.
    earlier = _earlier_run(baseline, may_differ or ())
    paths, first = _with_baseline(models, baseline if earlier is None else None)
    _require_second(paths, max_drop if earlier is None else None, max_moved)
    require_places(target, report, None if earlier is None else baseline)
    plan = Plan(
        models=paths,
        baseline=first,
        data=data,
        photos=photos or (),
        split=split,
        limit=limit,
        protocol=by,
        rescore=rescore,
        rounds=rounds,
        seconds=None if rounds is not None else (seconds or _DEFAULT_SECONDS),
        threads=threads,
        cuda_graph=cuda_graph,
        mode=mode.value,
        batch=1 if mode is not Mode.offline else batch or _DEFAULT_BATCH,
        power=power,
        memory=memory,
        bound=bound,
        samples=samples,
        max_drop=max_drop,
        anyway=anyway,
        reuse=results_in(target) if reuse else None,
        command=_command(),
    )
    results = run_bench(plan, None if target is None else samples_folder(target), progress)
    if target is not None:
        write_results(target, results)
    failed, uncompared = _judged(
        results,
        earlier,
        Limits(max_drop, max_moved, max_latency),
        [what.value for what in may_differ or ()],
        require_stable,
    )
    _tell(results, failed, uncompared, target, report, as_json)


# -- Before the work ---------------------------------------------------------------------------------------------


def _require_images(
    data: Path | None, photos: Sequence[str] | None, max_drop: float | None, max_moved: float | None
) -> None:
    """Refuse a limit on accuracy without images to judge it on."""
    if photos and data is not None:
        require_one(photos, data)
    if max_drop is not None and data is None and not photos:
        raise SamkrError("SE-U61", "--max-drop needs accuracy, so it needs --data", fix="add --data DIR")
    if max_moved is not None and not photos:
        raise SamkrError(
            "SE-U61",
            "--max-moved is for joints that moved against FP32, so it needs --photos",
            fix="add --photos DIR",
        )


def _require_second(models: Sequence[Path], max_drop: float | None, max_moved: float | None) -> None:
    """Refuse a limit that compares models where there is only one."""
    if len(models) > 1 or (max_drop is None and max_moved is None):
        return
    limit, more = (
        ("--max-drop", ", or give --baseline results.json") if max_moved is None else ("--max-moved", "")
    )
    raise SamkrError(
        "SE-U61",
        f"{limit} compares accuracy, and a single model has nothing to compare with",
        fix=f"name the FP32 model first{more}",
    )


def _earlier_run(baseline: Path | None, may_differ: Sequence[MayDiffer]) -> Results | None:
    """The results that ``--baseline`` names; None if it names a model or is not given."""
    from benchmarks.schema import read_results

    if baseline is not None and (baseline.is_dir() or baseline.suffix == ".json"):
        return read_results(baseline)
    if may_differ:
        raise SamkrError(
            "SE-U73",
            f"--may-differ {' '.join(what.value for what in may_differ)} needs a results.json to compare with",
            fix="give --baseline results.json",
        )
    return None


def _with_baseline(models: Sequence[Path], baseline: Path | None) -> tuple[list[Path], Path]:
    """(models to measure, the baseline): the first model, or ``baseline``, which is measured too."""
    from samkr_edge.files.one_file import is_same_file

    if baseline is None:
        return list(models), models[0]
    named = next((path for path in models if is_same_file(path, baseline)), None)
    return (list(models), named) if named is not None else ([baseline, *models], baseline)


# -- After the work ----------------------------------------------------------------------------------------------


def _judged(
    results: Results,
    earlier: Results | None,
    limits: Limits,
    may_differ: Sequence[str],
    require_stable: bool,
) -> tuple[SamkrError | None, list[Uncompared]]:
    """(why the command fails, what could not be compared with the earlier run)."""
    from dataclasses import replace

    from benchmarks.judge.gate import gate_failure
    from benchmarks.judge.regression import compare_runs, drop_of, regression
    from benchmarks.measure.stability import unstable_error
    from benchmarks.schema import all_reasons

    against = None if earlier is None else compare_runs(results, earlier, drop_of(limits.max_drop))
    failed = (
        gate_failure(results.models, limits if len(results.models) > 1 else replace(limits, max_drop=None))
        or (regression(against, results, limits.max_drop, may_differ) if against else None)
        or (unstable_error(all_reasons(results), results.stability_fix) if require_stable else None)
    )
    return failed, against.uncompared if against else []


def _tell(
    results: Results,
    failed: SamkrError | None,
    uncompared: Sequence[Uncompared],
    target: Path | None,
    report: bool,
    as_json: bool,
) -> None:
    """Write the page, print the table or one JSON object, and end with the gate's error."""
    from benchmarks.report.table import render
    from samkr_edge.cli.console import emit
    from samkr_edge.terminal import say

    if target is not None and report:
        from benchmarks.report.page import write_report

        # Before anything is printed, so that a failure still prints only one object.
        write_report([target], page := page_beside(target))
        say(f"wrote {page}")
    gate = failed.to_dict() if failed else None
    payload = {"gate": gate, "uncompared": [one.to_dict() for one in uncompared]}
    emit({**results.model_dump(mode="json"), **payload}, render(results), as_json)
    for one in uncompared:
        say(f"not compared: {one}")
    if target is not None:
        say(f"wrote {target}")
    if failed and as_json:
        # The printed object already has the failure; the root command would print a second one.
        say(str(failed))
        raise typer.Exit(failed.exit_code)
    if failed:
        raise failed


# -- For the record ----------------------------------------------------------------------------------------------


def _command() -> str:
    """The command line with absolute paths cut to their last part: results are published, folders are private."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return "samkr-edge " + shlex.join(words)
