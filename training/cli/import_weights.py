"""`samkr-edge import`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samkr_edge.cli.options import AsJson, out_file
from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted

if TYPE_CHECKING:
    from rich.table import Table

    from samkr_edge.pose.skeleton import Skeleton
    from training.imported import Imported
    from training.weight_import.loading import ImportReport

RESCORING = "rescoring"
_EXAMPLES = 3


def import_weights(
    weights: Annotated[
        Path,
        typer.Argument(
            help="A .pth file of HRNet (ImageNet), DEKR, HigherHRNet or SWAHR, its authors' or mmpose's."
        ),
    ],
    model: Annotated[str, typer.Option(help="Zoo model to fill, see `samkr-edge models`; or rescoring.")],
    out: Annotated[Path, out_file("Checkpoint to write.")],
    keypoints: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Keypoints, for a bare backbone [default: the data's, or 17]; a pose network's file has its own.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Data set that names the keypoints, if neither COCO's nor CrowdPose's."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="HxW that the weights were trained at, multiples of 32 [default: the model's]."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Convert official weights to a checkpoint, and list what was loaded, skipped and missing.

    Only what fits is loaded: DEKR's backbone and heatmap head fit SAMKR, its 15-channel branches do not. What is
    missing stays freshly initialised: a start for training (--set init=CKPT), not a finished network. The rescoring
    network inside mmpose's DEKR is written next to the checkpoint.

    Examples:

      samkr-edge import hrnet_w32-36af842e.pth --model samkr_w32 -o imagenet.pt

      samkr-edge import pose_dekr_hrnetw32_coco.pth --model dekr_w32 -o dekr.pt

      samkr-edge import pose_higher_hrnet_w32_640.pth --model higherhrnet_w32 --size 640x640 -o higher.pt

      samkr-edge import final_rescore_coco_kpt.pth --model rescoring -o rescore.npz
    """
    from rich.console import Group

    from samkr_edge.cli.console import emit
    from samkr_edge.evaluation.rescoring import save_rescoring
    from samkr_edge.input_size import parse_size
    from training.checkpoint import save_checkpoint
    from training.imported import import_network, rescoring_beside
    from training.models.zoo import model_config

    if model == RESCORING:
        _refuse_of_networks({"--keypoints": keypoints, "--data": data, "--size": size})
        return _import_rescoring(weights, out, as_json)
    model_config(model)  # report a mistyped name before opening the data set
    wanted = parse_size(size) if size else None
    skeleton = _skeleton_of(data) if data else None
    imported = import_network(weights, model, keypoints, skeleton, input_size=wanted)
    beside = rescoring_beside(out)
    save_checkpoint(out, imported.checkpoint)
    if imported.rescoring is not None:
        save_rescoring(beside, imported.rescoring)
    emit(
        {
            "checkpoint": str(out),
            "rescoring": str(beside) if imported.rescoring is not None else None,
            **described(imported),
        },
        Group(*told(imported, out)),
        as_json,
    )


def described(imported: Imported) -> dict[str, Any]:
    """What was loaded, skipped and missing, as ``--json`` prints it."""
    from dataclasses import asdict

    read, config = imported.read, imported.checkpoint.config
    return {
        "model": config.name,
        "keypoints": config.keypoints,
        "table": read.table,
        "instead_of": read.instead_of,
        **asdict(imported.report),
    }


def told(imported: Imported, out: Path) -> list[Table | str]:
    """The same for people, and where it was written."""
    from training.imported import rescoring_beside

    report, read, config = imported.report, imported.read, imported.checkpoint.config
    state = "a start for training, not a finished network" if report.unfinished else "complete"
    if report.missing and not report.unfinished:
        state += "; SWAHR's scale branches, which only training uses, are fresh"
    lines = [f"{out}: {config.name}, {config.keypoints} keypoints, from {report.kind}; {state}"]
    if read.instead_of:
        lines.append(f"of its weight tables {read.table} was loaded, not {', '.join(read.instead_of)}")
    if imported.rescoring is not None:
        beside = rescoring_beside(out)
        lines.append(
            f"{beside}: its rescoring network, for: samkr-edge eval {quoted(out)} --data DIR --protocol paper "
            f"--rescore {quoted(beside)}"
        )
    return [_table(report), *lines]


def _table(report: ImportReport) -> Table:
    from rich.table import Table

    table = Table("", "tensors", "for example")
    for label, names in (
        ("loaded", report.loaded),
        ("skipped", [f"{name} ({reason})" for name, reason in report.skipped.items()]),
        ("missing: fresh values", report.missing),
    ):
        shown = names[:: max(1, len(names) // _EXAMPLES)][:_EXAMPLES]
        table.add_row(label, str(len(names)), "\n".join(shown))
    return table


def _skeleton_of(data: Path) -> Skeleton:
    from samkr_edge.dataset.keypoint_dataset import available_splits, open_dataset

    # Without any split the reader's error names the places that were searched.
    return open_dataset(data, next(iter(available_splits(data)), "train")).skeleton


def _refuse_of_networks(options: Mapping[str, object]) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise SamkrError(
            "SE-U78",
            f"{', '.join(given)}: only a pose network has this, and --model is {RESCORING}, so nothing was written",
            fix=f"run the same command without {' and '.join(given)}",
        )


def _import_rescoring(weights: Path, out: Path, as_json: bool) -> None:
    from samkr_edge.cli.console import emit
    from samkr_edge.evaluation.rescoring import save_rescoring
    from training.imported import rescoring_of
    from training.weight_import.reading import read_weights

    network, skeleton = rescoring_of(read_weights(weights), weights)
    save_rescoring(out, network)
    inputs = network.weights["l1.weight"].shape[1]
    emit(
        {"rescoring": str(out), "skeleton": skeleton.name, "features": inputs},
        f"{out}: rescoring of {skeleton.name} poses, {inputs} features",
        as_json,
    )
