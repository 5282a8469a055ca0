"""`samkr-edge demo`: the whole pipeline on this machine, as a sequence of the public commands and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from samkr_edge.cli.console import emit, heading, show
from samkr_edge.cli.demo_photos import FULL as FULL_PHOTOS
from samkr_edge.cli.demo_photos import NETWORK, photo_plan
from samkr_edge.cli.demo_photos import QUICK as QUICK_PHOTOS
from samkr_edge.cli.demo_steps import as_word, deployed, measured, require_installed, step
from samkr_edge.cli.options import AsJson, data_dir, out_folder
from samkr_edge.cli.photos import PhotoWords
from samkr_edge.cli.places import folder_to_write
from samkr_edge.cli.steps import CommandStep, StepFailed, StepLog, run_steps
from samkr_edge.fixes import quoted
from samkr_edge.machine.cpu import require_cores
from samkr_edge.packages import resolve
from samkr_edge.terminal import say


@dataclass(frozen=True)
class Scale:
    """How much of everything, and the recipe: the demo proper, one that starts from scratch, the one-minute version."""

    recipe: str
    train_images: int
    val_images: int
    minutes: float
    qat_minutes: float
    calibration_images: int
    eval_images: int | None
    bench_seconds: float
    liveliness: float = 0.3


# Liveliness: all poses and views of the renderer would take hours to learn; standing and walking people, seen roughly
# from the front, take minutes. The shipped network has learned these.
FURTHER, FROM_SCRATCH = "samkr_tiny_further", "samkr_tiny"
FULL = Scale(FURTHER, 2000, 400, 1.0, 0.5, 128, None, 20)
QUICK = Scale(FURTHER, 240, 48, 0.2, 0.1, 32, 48, 3)


def scale_of(*, quick: bool, from_scratch: bool) -> Scale:
    """The demo's scale; from scratch more images and minutes make the network."""
    scale = QUICK if quick else FULL
    if not from_scratch:
        return scale
    scale = replace(scale, recipe=FROM_SCRATCH)
    return scale if quick else replace(scale, train_images=6000, minutes=7.0)


def demo(
    out: Annotated[
        Path | None, out_folder("Folder for all artefacts [default: demo; demo-photos with --photos].")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.05, help="Minutes of FP32 training [default: 1; from scratch 7].")
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Train from nothing, not from the shipped network.")
    ] = False,
    data: Annotated[Path | None, data_dir(" in place of rendered people: from scratch")] = None,
    photos: PhotoWords = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"With --photos: a network of `samkr-edge zoo`, or a checkpoint [default: {NETWORK}].",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help=f"With --photos: input HxW, multiples of 32 [default: {FULL_PHOTOS.size}x{FULL_PHOTOS.size}]."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Everything small: about one minute.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads for training [default: all cores].")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The whole pipeline on this machine, ending in report.html.

    Renders people, trains the shipped samkr_tiny further, scores it, quantizes (PTQ, QAT), exports ONNX, builds for
    the CPU, and measures accuracy and latency. A repeated demo reuses what is already made; after Ctrl-C the same
    command resumes from there.

    With --photos, on pictures of your own instead: gets a network that is ready to use, calibrates and quantizes it on
    some of them, and compares FP32 and INT8 on others.

    Examples:

      samkr-edge demo

      samkr-edge demo --quick

      samkr-edge demo --from-scratch --out demo-scratch

      samkr-edge demo --data /data/coco --minutes 30 --out demo-coco

      samkr-edge demo --photos my_pictures

      samkr-edge demo --photos my_pictures --network dekr_w48_coco --size 512x512 --out demo-w48
    """
    own = {"--data": data, "--minutes": minutes, "--from-scratch": from_scratch or None}
    with_photos = {"--network": network, "--size": size}
    _refuse_together(photos, own, with_photos)
    if threads is not None:
        require_cores(threads)
    if photos:
        out = out or Path("demo-photos")
        steps = _photo_steps(out, photos, network, size, quick, threads)
    else:
        # The shipped network knows rendered people only: photographs are learned from scratch.
        scale = scale_of(quick=quick, from_scratch=from_scratch or data is not None)
        out = out or Path("demo")
        if data is not None:
            _check_data(data, scale)
        steps = plan(out, data, scale, minutes if minutes is not None else scale.minutes, threads)
    require_installed()
    folder_to_write(out)
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


def _refuse_together(
    photos: list[str] | None, own: Mapping[str, object], with_photos: Mapping[str, object]
) -> None:
    """Refuse options of the demo that trains together with ``--photos``, and those of photographs without it."""
    for options, fault in (
        (own, "is of the demo that trains, and --photos trains nothing"),
        (with_photos, "needs --photos: it is of the demo on your own pictures"),
    ):
        given = [name for name, value in options.items() if value is not None]
        if given and bool(photos) == (options is own):
            raise typer.BadParameter(f"{given[0]} {fault}")


def _photo_steps(
    out: Path, photos: list[str], network: str | None, size: str | None, quick: bool, threads: int | None
) -> list[CommandStep]:
    """The steps on people's own pictures; what can be refused is refused before a network is downloaded."""
    from samkr_edge.frames.photo_set import photo_files
    from samkr_edge.input_size import parse_size

    scale = QUICK_PHOTOS if quick else FULL_PHOTOS
    height, width = parse_size(size or f"{scale.size}x{scale.size}")
    photo_files(photos)
    return photo_plan(out, network or NETWORK, photos, f"{height}x{width}", scale, threads)


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
            step("Render people as a COCO data set", f"data synth {as_word(data)} {size}", makes=rendered)
        )
    # Its hash is one of the step's inputs: another version's network makes another demo.
    start = shipped_network() if scale.recipe == FURTHER else None
    train, val = (data, "train"), (data, "val")
    where = f"--data {as_word(data)}"
    threading = f"--threads {threads}" if threads else ""
    limit = f"--limit {scale.eval_images}" if scale.eval_images else ""

    fp32, ptq, qat = out / "fp32" / "final.pt", out / "ptq.pt", out / "qat.pt"
    run, predictions = fp32.parent, out / "fp32-predictions.json"
    in_time, qat_in_time = f"--minutes {minutes:g}", f"--minutes {min(scale.qat_minutes, minutes):g}"
    # A network that has learned for hours is moved less.
    qat_rate = "" if start is None else "--set optimizer.lr=3e-5"
    steps += [
        step(
            f"Train samkr_tiny {'' if start is None else 'further, '}for {minutes:g} min",
            f"train {scale.recipe} {where} --out {as_word(run)} {in_time} {threading} --resume",
            reads=() if start is None else (start,), splits=(train,), makes=(fp32,), workspace=run,
        ),
        step(
            "Score the FP32 network on held-out images",
            f"eval {as_word(fp32)} {where} {limit} --predictions {as_word(predictions)}",
            reads=(fp32,), splits=(val,), makes=(predictions,),
        ),
        step(
            "Calibrate and quantize to INT8 (PTQ)",
            f"quantize {as_word(fp32)} {where} -o {as_word(ptq)} --images {scale.calibration_images} {threading}",
            reads=(fp32,), splits=(train, val), makes=(ptq,),
        ),
        step(
            "Fine-tune the quantized network (QAT)",
            f"qat {as_word(ptq)} {where} -o {as_word(qat)} {qat_in_time} {qat_rate} {threading}",
            reads=(ptq,), splits=(train,), makes=(qat,), workspace=out / "qat.work",
        ),
    ]  # fmt: skip

    forms = [(fp32, out / "fp32", "FP32"), (ptq, out / "ptq", "PTQ INT8"), (qat, out / "qat", "QAT INT8")]
    steps += [step for form in forms for step in deployed(*form)]
    built = tuple(Path(f"{stem}.cpu.onnx") for _, stem, _ in forms)
    title = "Benchmark the three built models, interleaved on one thread"
    return steps + measured(title, built, f"{where} {limit}", scale.bench_seconds, out, splits=(val,))


def shipped_network() -> Path:
    """The file that ``zoo:samkr_tiny`` is read from."""
    folder: Path = resolve("training.ready.shipped_file:FOLDER")
    return folder / "samkr_tiny.npz"


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
