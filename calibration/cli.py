"""`samkr-edge quantize` and `samkr-edge qat`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samkr_edge.errors import SamkrError

if TYPE_CHECKING:
    from rich.table import Table

    from calibration.policy import Assignment


def quantize(
    checkpoint: Annotated[
        str, typer.Argument(help="FP32 checkpoint, or with --untrained the name of a zoo model.")
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Quantized checkpoint to write.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="COCO or CrowdPose directory; its train split is used.")
    ] = None,
    policy: Annotated[str, typer.Option(help="Name of a shipped policy, or a YAML file.")] = "default",
    calibrator: Annotated[
        str | None, typer.Option(help="max, entropy or percentile [default: the policy's].")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Calibration images.")] = 128,
    bits: Annotated[int | None, typer.Option(min=2, max=8, help="Below 8 for analysis only.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same images.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what each module would get, and why.")
    ] = False,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Random weights: for speed, not accuracy.")
    ] = False,
    random_images: Annotated[
        int | None, typer.Option(min=8, help="Calibrate on noise in place of --data.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads [default: all cores].")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Calibrate to INT8 by a policy (PTQ).

    Examples:

      samkr-edge quantize fp32/final.pt --data people -o ptq.pt

      samkr-edge quantize fp32/final.pt --policy trunk_only --dry-run

      samkr-edge quantize samkr_w32 --untrained --random-images 8 -o w32-int8.pt
    """
    import os
    from dataclasses import asdict, replace

    import torch

    from calibration.policy import Policy, assign, load_policy
    from calibration.ptq import quantize_network
    from samkr_edge.cli.console import emit, progress
    from training.checkpoint import (
        Checkpoint,
        load_checkpoint,
        network_of,
        save_checkpoint,
        untrained_checkpoint,
    )
    from training.models.fold import fold_batch_norms

    torch.set_num_threads(threads or os.cpu_count() or 1)
    changes: dict[str, Any] = {"calibrator": calibrator, "bits": bits}
    chosen = load_policy(policy)
    chosen = Policy.model_validate(
        {**chosen.model_dump(), **{k: v for k, v in changes.items() if v is not None}}
    )
    source = untrained_checkpoint(checkpoint) if untrained else load_checkpoint(checkpoint)
    if source.kind != "float":
        raise SamkrError(
            "SE-A40",
            f"{checkpoint} is quantized already, so nothing was done",
            [f"policy     {source.quantization['policy']['name']}"],
            fix="start from the FP32 checkpoint, or go on with: samkr-edge qat",
        )
    network = network_of(source)
    if dry_run:
        assignments = assign(chosen, fold_batch_norms(network))
        emit({"assignments": [asdict(a) for a in assignments]}, _assignment_table(assignments), as_json)
        return
    if out is None:
        raise SamkrError(
            "SE-U44", "no place to write to", fix=f"samkr-edge quantize {checkpoint} ... -o ptq.pt"
        )
    batches, facts, coverage = _calibration_images(data, random_images, images, seed, source.card)
    with progress("calibrating", facts["images"], unit="images") as advance:
        quantized, assignments = quantize_network(network, chosen, batches, advance=advance)
    quantization = {
        "policy": chosen.model_dump(mode="json"),
        "policy_sha256": chosen.sha256,
        "calibration": facts,
    }
    card = replace(source.card, precision="int8", stage="ptq").with_provenance(
        policy=chosen.name,
        policy_sha256=chosen.sha256,
        calibrator=chosen.calibrator,
        bits=chosen.bits,
        calibration=facts,
    )
    state = {name: tensor.detach().clone() for name, tensor in quantized.state_dict().items()}
    save_checkpoint(out, Checkpoint(card, source.config, state, "quantized", {}, quantization))
    summary = _summary(assignments)
    emit(
        {"checkpoint": str(out), "card": card.to_dict(), "summary": summary, "coverage": coverage},
        _quantize_text(out, chosen.name, chosen.calibrator, summary, coverage, facts),
        as_json,
    )


def qat(
    checkpoint: Annotated[Path, typer.Argument(help="A quantized checkpoint.")],
    data: Annotated[Path, typer.Option(help="COCO or CrowdPose directory; its train split is used.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Fine-tuned checkpoint to write.")],
    recipe: Annotated[str, typer.Option(help="Recipe of the fine-tuning.")] = "qat",
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Fine-tune for so long [default: the recipe's].")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value; may be repeated.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads [default: all cores].")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fine-tune a quantized checkpoint (QAT) with the training loop of FP32; ranges stay as calibrated.

    Unfinished work lies in OUT's folder under OUT.work, and the same command goes on from there.

    Examples:

      samkr-edge qat ptq.pt --data people -o qat.pt --minutes 1

      samkr-edge qat ptq.pt --data /data/coco -o qat.pt --set schedule.epochs=5 --set optimizer.lr=1e-5
    """
    from dataclasses import replace

    from samkr_edge.cli.console import emit
    from samkr_edge.dataset import open_dataset
    from training.checkpoint import load_checkpoint, network_of, save_checkpoint
    from training.fit import fit
    from training.recipe import load_recipe

    settings = load_recipe(
        recipe, [*(overrides or []), *([f"schedule.minutes={minutes}"] if minutes else [])]
    )
    if threads:
        settings = settings.model_copy(update={"threads": threads})
    source = load_checkpoint(checkpoint)
    if source.kind != "quantized":
        raise SamkrError(
            "SE-A41",
            f"{checkpoint} is not quantized, so there is nothing to be aware of",
            fix=f"samkr-edge quantize {checkpoint} --data {data} -o ptq.pt",
        )
    dataset = open_dataset(data, "train")
    if dataset.skeleton.keypoints != source.card.skeleton.keypoints:
        raise SamkrError(
            "SE-D42",
            "the checkpoint and the data set have different keypoints",
            [f"checkpoint {source.card.skeleton.name}", f"data       {dataset.skeleton.name}"],
        )
    start = replace(source, card=replace(source.card, stage="qat"))
    work = out.with_name(out.stem + ".work")
    finished = fit(network_of(source), start, settings, dataset, work, resume=True)
    save_checkpoint(out, finished)
    facts = finished.card.provenance["qat"]
    emit(
        {"checkpoint": str(out), "card": finished.card.to_dict()},
        f"{out}: {facts['steps']} steps, {facts['images']} images, {facts['minutes']} minutes of fine-tuning",
        as_json,
    )


def _calibration_images(
    data: Path | None, random_images: int | None, count: int, seed: int, card: Any
) -> tuple[Any, dict[str, Any], dict[str, tuple[int, int]]]:
    """Batches, the facts to record, and the coverage by stratum."""
    from calibration.images import load_batches, select_images
    from samkr_edge.dataset import available_splits, open_dataset

    batch = 8 if card.input_size[0] * card.input_size[1] <= 256 * 256 else 1
    if random_images is not None:
        import numpy as np

        noise = np.random.default_rng(seed)
        shape = (*card.input_size, 3)
        batches = (noise.integers(0, 256, (1, *shape), dtype=np.uint8) for _ in range(random_images))
        return batches, {"images": random_images, "noise": True, "seed": seed}, {}
    if data is None:
        raise SamkrError(
            "SE-U45",
            "calibration needs images",
            fix="add --data DIR, or for a measurement of speed alone --random-images 8",
        )
    train = open_dataset(data, "train")
    if train.skeleton.keypoints != card.skeleton.keypoints:
        raise SamkrError(
            "SE-D44",
            "the checkpoint and the data set have different keypoints",
            [f"checkpoint {card.skeleton.name}", f"data       {train.skeleton.name}"],
        )
    evaluation = open_dataset(data, "val") if "val" in available_splits(data) else None
    selection = select_images(train, evaluation, count, seed)
    facts = {"images": len(selection.images), "seed": seed, "sha256": list(selection.hashes)}
    return load_batches(selection.images, card.input_size, batch), facts, selection.coverage


def _summary(assignments: list[Assignment]) -> dict[str, dict[str, int]]:
    """Operation -> precision -> number of modules."""
    summary: dict[str, dict[str, int]] = {}
    for assignment in assignments:
        counts = summary.setdefault(assignment.op, {"int8": 0, "float": 0})
        counts[assignment.precision] += 1
    return summary


def _quantize_text(
    out: Path,
    policy: str,
    calibrator: str,
    summary: dict[str, dict[str, int]],
    coverage: dict[str, tuple[int, int]],
    facts: dict[str, Any],
) -> str:
    lines = [f"{out}: policy {policy}, calibrator {calibrator}, {facts['images']} images"]
    lines += [
        f"  {op:<16}{counts['int8']:>4} INT8 {counts['float']:>4} float" for op, counts in summary.items()
    ]
    if coverage:
        lines.append(
            "  images of each kind: " + "; ".join(f"{n} {t}/{of}" for n, (t, of) in coverage.items())
        )
    else:
        lines.append("  calibrated on noise: for measuring speed, never accuracy")
    return "\n".join(lines)


def _assignment_table(assignments: list[Assignment]) -> Table:
    from rich.table import Table

    table = Table(title="what each module gets, by the first rule that matches")
    for name in ("module", "op", "precision", "rule", "why"):
        table.add_column(name, overflow="fold")
    for a in assignments:
        table.add_row(a.module, a.op, a.precision, str(a.rule + 1) if a.rule >= 0 else "-", a.why)
    return table
