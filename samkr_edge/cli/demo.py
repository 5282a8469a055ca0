"""`samkr-edge demo`: the whole pipeline on this machine, as a sequence of the public commands and nothing else."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from samkr_edge.cli.console import emit, heading, show
from samkr_edge.cli.options import AsJson, data_dir, out_folder
from samkr_edge.cli.steps import CommandStep, StepFailed, StepLog, run_steps
from samkr_edge.fixes import quoted
from samkr_edge.machine.cpu import require_cores
from samkr_edge.packages import resolve
from samkr_edge.terminal import say


@dataclass(frozen=True)
class Scale:
    """How much of everything: the demo proper, or the one-minute version."""

    train_images: int
    val_images: int
    minutes: float
    qat_minutes: float
    calibration_images: int
    eval_images: int | None
    bench_seconds: float
    liveliness: float = 0.3


# Liveliness: all poses and views of the renderer would take hours to learn; standing and walking people, seen roughly
# from the front, take minutes.
FULL = Scale(6000, 400, 7.0, 1.0, 128, None, 20)
QUICK = Scale(240, 48, 0.2, 0.1, 32, 48, 3)


def demo(
    out: Annotated[Path, out_folder("Folder for all artefacts.")] = Path("demo"),
    minutes: Annotated[
        float | None, typer.Option(min=0.05, help="Minutes of FP32 training [default: 7].")
    ] = None,
    data: Annotated[Path | None, data_dir(" in place of rendered people")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Everything small: about one minute.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads for training [default: all cores].")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The whole pipeline on this machine, ending in report.html.

    Renders people, trains samkr_tiny, scores it, quantizes (PTQ, QAT), exports ONNX, builds for the CPU, and
    measures accuracy and latency. A repeated demo reuses what is already made; after Ctrl-C the same command
    resumes from there.

    Examples:

      samkr-edge demo

      samkr-edge demo --quick

      samkr-edge demo --data /data/coco --minutes 30 --out demo-coco
    """
    scale = QUICK if quick else FULL
    if threads is not None:
        require_cores(threads)
    if data is not None:
        _check_data(data, scale)
    steps = plan(out, data, scale, minutes if minutes is not None else scale.minutes, threads)
    log = StepLog(out / "demo.json")
    try:
        seconds = run_steps(steps, log)
    except StepFailed as failure:
        say(
            f"the demo stopped at `{failure.step.command}`; finished steps are kept, and the same demo command "
            "resumes from there"
        )
        raise typer.Exit(failure.exit_code) from failure
    _conclude(out, seconds, as_json)


def plan(
    out: Path, data: Path | None, scale: Scale, minutes: float, threads: int | None
) -> list[CommandStep]:
    """The pipeline as steps; pure, so that a test can read it."""
    steps: list[CommandStep] = []
    if data is None:
        data = out / "data"
        size = f"--train {scale.train_images} --val {scale.val_images} --liveliness {scale.liveliness:g}"
        rendered = (_annotations(data, "train"), _annotations(data, "val"))
        steps.append(
            _step("Render people as a COCO data set", f"data synth {_q(data)} {size}", makes=rendered)
        )
    train, val = (data, "train"), (data, "val")
    where = f"--data {_q(data)}"
    threading = f"--threads {threads}" if threads else ""
    limit = f"--limit {scale.eval_images}" if scale.eval_images else ""

    fp32, ptq, qat = out / "fp32" / "final.pt", out / "ptq.pt", out / "qat.pt"
    run, predictions = fp32.parent, out / "fp32-predictions.json"
    in_time, qat_in_time = f"--minutes {minutes:g}", f"--minutes {min(scale.qat_minutes, minutes):g}"
    steps += [
        _step(
            f"Train samkr_tiny for {minutes:g} minutes",
            f"train samkr_tiny {where} --out {_q(run)} {in_time} {threading} --resume",
            splits=(train,), makes=(fp32,), workspace=run,
        ),
        _step(
            "Score the FP32 network on held-out images",
            f"eval {_q(fp32)} {where} {limit} --predictions {_q(predictions)}",
            reads=(fp32,), splits=(val,), makes=(predictions,),
        ),
        _step(
            "Calibrate and quantize to INT8 (PTQ)",
            f"quantize {_q(fp32)} {where} -o {_q(ptq)} --images {scale.calibration_images} {threading}",
            reads=(fp32,), splits=(train, val), makes=(ptq,),
        ),
        _step(
            "Fine-tune the quantized network (QAT)",
            f"qat {_q(ptq)} {where} -o {_q(qat)} {qat_in_time} {threading}",
            reads=(ptq,), splits=(train,), makes=(qat,), workspace=out / "qat.work",
        ),
    ]  # fmt: skip

    forms = [(fp32, out / "fp32", "FP32"), (ptq, out / "ptq", "PTQ INT8"), (qat, out / "qat", "QAT INT8")]
    steps += [step for form in forms for step in _deployed(*form)]

    folder, report = out / "results", out / "report.html"
    results, built = folder / "results.json", [Path(f"{stem}.cpu.onnx") for _, stem, _ in forms]
    steps += [
        _step(
            "Benchmark the three built models, interleaved on one thread",
            f"bench {' '.join(map(_q, built))} {where} {limit} --seconds {scale.bench_seconds:g} --out {_q(folder)}",
            reads=tuple(built), splits=(val,), makes=(results,),
        ),
        _step("Write the report", f"report {_q(results)} -o {_q(report)}", reads=(results,), makes=(report,)),
    ]  # fmt: skip
    return steps


def _deployed(checkpoint: Path, stem: Path, label: str) -> list[CommandStep]:
    """A checkpoint as ONNX and as a model of this CPU."""
    onnx, built = Path(f"{stem}.onnx"), Path(f"{stem}.cpu.onnx")
    return [
        _step(
            f"Export {label} to ONNX and check it against torch",
            f"export {_q(checkpoint)} -o {_q(onnx)}",
            reads=(checkpoint,), makes=(onnx,),
        ),
        _step(
            f"Build {label} for this CPU",
            f"build {_q(onnx)} --target cpu -o {_q(built)}",
            reads=(onnx,), makes=(built, Path(f"{built}.json")),
        ),
    ]  # fmt: skip


def _step(
    title: str,
    line: str,
    *,
    reads: tuple[Path, ...] = (),
    makes: tuple[Path, ...] = (),
    splits: tuple[tuple[Path, str], ...] = (),
    workspace: Path | None = None,
) -> CommandStep:
    return CommandStep(title, tuple(shlex.split(line)), reads, makes, workspace, splits)


def _q(path: Path) -> str:
    return shlex.quote(str(path))


def _annotations(data: Path, split: str) -> Path:
    return data / "annotations" / f"person_keypoints_{split}2017.json"


def _check_data(data: Path, scale: Scale) -> None:
    """Fail before the first step, not after minutes of training, if a later step cannot use its split."""
    from samkr_edge.dataset.keypoint_dataset import open_dataset
    from samkr_edge.dataset.usable import require_calibration_images, require_splits, require_usable

    require_splits(data, ("train", "val"))
    train, val = (open_dataset(data, split) for split in ("train", "val"))
    require_usable(train, "train")
    require_usable(val, "eval", val.images[: scale.eval_images])
    require_calibration_images(train)
    # The images that `quantize` will choose, which must not be evaluated on.
    resolve("calibration.images:select_images")(train, val, scale.calibration_images)
    check = f"samkr-edge data check {quoted(data)}"
    train.skeleton.require_same(val.skeleton, "split train", "split val", fix=check)


def _conclude(out: Path, seconds: list[float], as_json: bool) -> None:
    results: dict[str, Any] = json.loads((out / "results" / "results.json").read_text(encoding="utf-8"))
    report = out / "report.html"
    if as_json:
        emit({"verdict": results["verdict"], "report": str(report), "results": results}, "", as_json)
        return
    reused = sum(1 for value in seconds if value == 0.0)
    heading("Verdict")
    show(results["verdict"], "bold")
    show(f"report: {report}   ({sum(seconds) / 60:.1f} min, {reused} of {len(seconds)} steps reused)")
