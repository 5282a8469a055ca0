"""`samkr-edge demo`: the whole road on this machine, as a sequence of the public commands and nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from samkr_edge.cli.console import emit, heading, say, show
from samkr_edge.cli.options import AsJson, out_folder
from samkr_edge.cli.steps import Step, StepFailed, StepLog, run_steps
from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted
from samkr_edge.machine.cpu import require_cores
from samkr_edge.packages import resolve


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


# Liveliness: with all poses and views of the renderer the network would need hours; standing and walking people, seen
# more or less from the front, are learned in minutes.
FULL = Scale(6000, 400, 7.0, 1.0, 128, None, 20)
QUICK = Scale(240, 48, 0.2, 0.1, 32, 48, 3)


def demo(
    out: Annotated[Path, out_folder("Folder that keeps every artefact.")] = Path("demo"),
    minutes: Annotated[
        float | None, typer.Option(min=0.05, help="Minutes of FP32 training [default: 7].")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A COCO or CrowdPose directory in place of rendered people.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Everything small: about one minute.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads for training [default: all cores].")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The whole road on this machine, ending in report.html.

    Renders people, trains samkr_tiny, scores it, quantizes (PTQ, QAT), exports ONNX, builds for the CPU, and
    measures accuracy and latency. A repeated demo reuses what is already made; after Ctrl-C the same command
    goes on from there.

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
            f"the demo stopped at `{failure.step.command}`; what was made before is kept, and the same demo "
            "command goes on from there"
        )
        raise typer.Exit(failure.exit_code) from failure
    _conclude(out, seconds, as_json)


def plan(out: Path, data: Path | None, scale: Scale, minutes: float, threads: int | None) -> list[Step]:
    """The road as steps; pure, so that a test can read it."""
    steps: list[Step] = []
    if data is None:
        data = out / "data"
        steps.append(
            Step(
                "Render people as a COCO data set",
                (
                    "data",
                    "synth",
                    str(data),
                    "--train",
                    str(scale.train_images),
                    "--val",
                    str(scale.val_images),
                    "--liveliness",
                    f"{scale.liveliness:g}",
                ),
                outputs=(_annotations(data, "train"), _annotations(data, "val")),
            )
        )
    train, val = (data, "train"), (data, "val")
    where = ("--data", str(data))
    threading = ("--threads", str(threads)) if threads else ()
    limit = ("--limit", str(scale.eval_images)) if scale.eval_images else ()
    fp32, ptq, qat = out / "fp32" / "final.pt", out / "ptq.pt", out / "qat.pt"
    predictions = out / "fp32-predictions.json"
    steps += [
        Step(
            f"Train samkr_tiny for {minutes:g} minutes",
            (
                "train",
                "samkr_tiny",
                *where,
                "--out",
                str(fp32.parent),
                "--minutes",
                f"{minutes:g}",
                *threading,
                "--resume",
            ),
            splits=(train,),
            outputs=(fp32,),
            workspace=fp32.parent,
        ),
        Step(
            "Score the FP32 network on held-out images",
            ("eval", str(fp32), *where, *limit, "--predictions", str(predictions)),
            inputs=(fp32,),
            splits=(val,),
            outputs=(predictions,),
        ),
        Step(
            "Calibrate and quantize to INT8 (PTQ)",
            (
                "quantize",
                str(fp32),
                *where,
                "-o",
                str(ptq),
                "--images",
                str(scale.calibration_images),
                *threading,
            ),
            inputs=(fp32,),
            splits=(train, val),
            outputs=(ptq,),
        ),
        Step(
            "Fine-tune the quantized network (QAT)",
            (
                "qat",
                str(ptq),
                *where,
                "-o",
                str(qat),
                "--minutes",
                f"{min(scale.qat_minutes, minutes):g}",
                *threading,
            ),
            inputs=(ptq,),
            splits=(train,),
            outputs=(qat,),
            workspace=out / "qat.work",
        ),
    ]
    built: list[str] = []
    for checkpoint, label in ((fp32, "FP32"), (ptq, "PTQ INT8"), (qat, "QAT INT8")):
        stem = label.split()[0].lower()
        onnx, model = out / f"{stem}.onnx", out / f"{stem}.cpu.onnx"
        built.append(str(model))
        steps += [
            Step(
                f"Export {label} to ONNX and check it against torch",
                ("export", str(checkpoint), "-o", str(onnx)),
                inputs=(checkpoint,),
                outputs=(onnx,),
            ),
            Step(
                f"Build {label} for this CPU",
                ("build", str(onnx), "--target", "cpu", "-o", str(model)),
                inputs=(onnx,),
                outputs=(model, model.with_name(model.name + ".json")),
            ),
        ]
    results, report = out / "results", out / "report.html"
    steps += [
        Step(
            "Benchmark the three built models, interleaved on one thread",
            ("bench", *built, *where, *limit, "--seconds", f"{scale.bench_seconds:g}", "--out", str(results)),
            inputs=tuple(Path(model) for model in built),
            splits=(val,),
            outputs=(results / "results.json",),
        ),
        Step(
            "Write the report",
            ("report", str(results / "results.json"), "-o", str(report)),
            inputs=(results / "results.json",),
            outputs=(report,),
        ),
    ]
    return steps


def _annotations(data: Path, split: str) -> Path:
    return data / "annotations" / f"person_keypoints_{split}2017.json"


def _check_data(data: Path, scale: Scale) -> None:
    """Fail before the first step, not after minutes of training, where a later one cannot use its split."""
    from samkr_edge.dataset.keypoint_dataset import open_dataset
    from samkr_edge.dataset.use import require_calibration_images, require_splits, require_usable

    require_splits(data, ("train", "val"))
    train, val = (open_dataset(data, split) for split in ("train", "val"))
    require_usable(train, "train")
    require_usable(val, "eval", val.images[: scale.eval_images])
    require_calibration_images(train)
    # The images that `quantize` will choose, which may not be evaluated on.
    resolve("calibration.images:select_images")(train, val, scale.calibration_images)
    skeletons = {"train": train.skeleton, "val": val.skeleton}
    if skeletons["train"].keypoints != skeletons["val"].keypoints:
        raise SamkrError(
            "SE-D70",
            f"the train and val splits of {data} have different keypoints",
            {split: f"{len(skeleton)} keypoints" for split, skeleton in skeletons.items()},
            fix=f"samkr-edge data check {quoted(data)}",
        )


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
