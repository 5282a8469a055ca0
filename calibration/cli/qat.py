"""`samkr-edge qat`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibration.cli.options import TRAIN_DATA
from samkr_edge.cli.options import AsJson, out_file
from samkr_edge.cli.places import model_named
from samkr_edge.cli.unused_options import refuse_unused
from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted
from samkr_edge.printable import counted
from training.cli.options import Overrides, RunThreads

if TYPE_CHECKING:
    from training.checkpoint import Checkpoint


def qat(
    checkpoint: Annotated[
        Path,
        typer.Argument(help="A quantized checkpoint; with --control the FP32 one.", callback=model_named),
    ],
    data: Annotated[Path, TRAIN_DATA],
    out: Annotated[Path, out_file("Fine-tuned checkpoint to write.")],
    recipe: Annotated[str, typer.Option(help="Recipe of the fine-tuning.")] = "qat",
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Minutes of fine-tuning [default: the recipe's].")
    ] = None,
    overrides: Overrides = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="FP32 checkpoint whose maps are additional targets (distillation).", callback=model_named
        ),
    ] = None,
    teacher_weight: Annotated[
        float | None,
        typer.Option(min=0.0, help="Weight of the teacher's maps relative to the labels [default: 1]."),
    ] = None,
    freeze_ranges: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the run after which weight ranges are frozen.")
    ] = 0.5,
    control: Annotated[
        bool,
        typer.Option(
            "--control", help="Fine-tune the FP32 checkpoint the same way: shows what training alone gains."
        ),
    ] = False,
    threads: RunThreads = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a quantized checkpoint (QAT) with the training loop of FP32.

    Ranges of activations stay as calibrated; those of weights follow the weights for the first part of the run.
    Compare the result with --control, not with the checkpoint it started from: more training alone changes AP.
    Unfinished work is kept next to OUT as OUT.work, and the same command resumes from there.

    Examples:

      samkr-edge qat ptq.pt --data people -o qat.pt --minutes 1 --teacher fp32/final.pt

      samkr-edge qat fp32/final.pt --control --data people -o control.pt --minutes 1

      samkr-edge qat ptq.pt --data /data/coco -o qat.pt --set schedule.epochs=5 --set optimizer.lr=1e-5
    """
    from dataclasses import replace

    from calibration.qat import FineTuning, open_teacher
    from samkr_edge.cli.console import emit
    from samkr_edge.dataset.keypoint_dataset import open_dataset
    from samkr_edge.dataset.usable import require_splits
    from training.checkpoint import load_checkpoint, network_of, save_checkpoint
    from training.loop.fit import fit
    from training.loop.objective import loss_settings, require_suited
    from training.loop.recipe_file import as_taught, load_recipe

    refuse_unused("--teacher FP32.pt", teacher, {"--teacher-weight": teacher_weight})
    settings = load_recipe(
        recipe, [*(overrides or []), *([f"schedule.minutes={minutes}"] if minutes else [])]
    )
    if threads:
        settings = settings.model_copy(update={"threads": threads})
    source = load_checkpoint(checkpoint)
    # A quantized network has no scale branch: it and its control learn the plain loss, also where SWAHR's was taught.
    require_suited(settings, replace(source.config, scale_branch=False))
    settings = as_taught(settings, source.card.provenance.get("training", {}), source.config.decoding)
    if settings.loss.kind == "swahr":
        settings = settings.model_copy(update={"loss": settings.loss.model_copy(update={"kind": None})})
    _require_kind(source, checkpoint, data, control)
    require_splits(data, ("train",))
    dataset = open_dataset(data, "train")
    source.card.skeleton.require_same(dataset.skeleton, "checkpoint", "data")
    network = network_of(source)
    hooks = FineTuning(
        network,
        loss_settings(settings, source.config.decoding),
        freeze_at=freeze_ranges,
        teacher=open_teacher(load_checkpoint(teacher), str(teacher), source) if teacher else None,
        teacher_weight=1.0 if teacher_weight is None else teacher_weight,
    )
    start = source if control else replace(source, card=replace(source.card, stage="qat"))
    work = out.with_name(out.stem + ".work")
    finished = fit(network, start, settings, dataset, work, resume=True, hooks=hooks)
    if control:  # what made the network stays on its card, next to the fine-tuning
        provenance = finished.card.provenance
        facts = {**provenance, "control": provenance["training"]}
        facts |= {k: v for k, v in source.card.provenance.items() if k == "training"}
        finished = replace(finished, card=replace(finished.card, provenance=facts))
    save_checkpoint(out, finished)
    facts = finished.card.provenance["control" if control else "qat"]
    emit(
        {"checkpoint": str(out), "card": finished.card.to_dict()},
        f"{out}: {counted(facts['steps'], 'step')}, {counted(facts['images'], 'image')}, "
        f"{facts['minutes']} minutes of fine-tuning",
        as_json,
    )


def _require_kind(source: Checkpoint, checkpoint: Path, data: Path, control: bool) -> None:
    """Quantized, or for a control float; SamkrError SE-A41."""
    if (source.kind == "quantized") == control:
        raise SamkrError(
            "SE-A41",
            f"{checkpoint} is quantized, so it cannot be the control"
            if control
            else f"{checkpoint} is not quantized, so there is nothing to fine-tune",
            fix=f"samkr-edge qat FP32.pt --control --data {quoted(data)} -o control.pt"
            if control
            else f"samkr-edge quantize {quoted(checkpoint)} --data {quoted(data)} -o ptq.pt",
        )
