"""`samkr-edge import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samkr_edge.cli.options import AsJson, out_file
from samkr_edge.errors import SamkrError

if TYPE_CHECKING:
    from rich.table import Table

    from samkr_edge.pose.skeleton import Skeleton
    from training.weight_import.loading import ImportReport

RESCORING = "rescoring"
_EXAMPLES = 3


def import_weights(
    weights: Annotated[Path, typer.Argument(help="A .pth file of HRNet (ImageNet), DEKR or mmpose's DEKR.")],
    model: Annotated[str, typer.Option(help="Zoo model to fill, see `samkr-edge models`; or rescoring.")],
    out: Annotated[Path, out_file("Checkpoint to write.")],
    keypoints: Annotated[
        int, typer.Option(min=1, help="Keypoints, for a bare backbone; a pose network's file has its own.")
    ] = 17,
    data: Annotated[
        Path | None,
        typer.Option(help="Data set that names the keypoints, if neither COCO's nor CrowdPose's."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Convert official weights to a checkpoint, and list what was loaded, skipped and missing.

    Only what fits is loaded: DEKR's backbone and heatmap head fit SAMKR, its 15-channel branches do not. What is
    missing stays freshly initialised: a start for training (--set init=CKPT), not a finished network.

    Examples:

      samkr-edge import hrnet_w32-36af842e.pth --model samkr_w32 -o imagenet.pt

      samkr-edge import pose_dekr_hrnetw32_coco.pth --model dekr_w32 -o dekr.pt

      samkr-edge import final_rescore_coco_kpt.pth --model rescoring -o rescore.npz
    """
    from dataclasses import asdict

    import torch
    from rich.console import Group

    from samkr_edge.cli.console import emit
    from samkr_edge.files.artefact import sha256_of
    from samkr_edge.model_card import ModelCard
    from samkr_edge.pose.decode_settings import DecodeSettings
    from training.checkpoint import Checkpoint, refuse_broken_weights, save_checkpoint, skeleton_for
    from training.models.zoo import build_model, model_config
    from training.weight_import.loading import load_into, recognise
    from training.weight_import.reading import read_weights

    if model == RESCORING:
        return _import_rescoring(weights, out, as_json)
    model_config(model, keypoints)  # report a mistyped name before reading a large file
    read = read_weights(weights)
    foreign = recognise(read.tensors, weights)
    count = foreign.keypoints or keypoints
    config = model_config(model, count)
    skeleton = _skeleton_of(data, count) if data else skeleton_for(count)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_model(config)
    report = load_into(network, foreign)
    refuse_broken_weights(network)
    decode = DecodeSettings(nms_joints=round(count * 8 / 17))
    card = ModelCard(model, skeleton, config.input_size, decode=decode).with_provenance(
        imported={
            "file": weights.name,
            "sha256": sha256_of(weights),
            "kind": report.kind,
            "table": read.table,
            "loaded": len(report.loaded),
            "missing": len(report.missing),
        }
    )
    save_checkpoint(out, Checkpoint(card, config, network.state_dict()))
    state = "complete" if not report.missing else "a start for training, not a finished network"
    chosen = (
        f"\nof its weight tables {read.table} was loaded, not {', '.join(read.instead_of)}"
        if read.instead_of
        else ""
    )
    emit(
        {
            "checkpoint": str(out),
            "model": model,
            "keypoints": count,
            "table": read.table,
            "instead_of": read.instead_of,
            **asdict(report),
        },
        Group(_table(report), f"{out}: {model}, {count} keypoints, from {report.kind}; {state}{chosen}"),
        as_json,
    )


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


def _skeleton_of(data: Path, count: int) -> Skeleton:
    from samkr_edge.dataset.keypoint_dataset import available_splits, open_dataset
    from samkr_edge.pose.skeleton import different_keypoints

    # Without any split the reader's error names the places that were searched.
    skeleton = open_dataset(data, next(iter(available_splits(data)), "train")).skeleton
    if len(skeleton) != count:
        raise different_keypoints(
            {"weights": f"{count} keypoints", "data": f"{len(skeleton)} keypoints ({skeleton.name})"},
            fix="name the data set that these weights were trained on",
        )
    return skeleton


def _import_rescoring(weights: Path, out: Path, as_json: bool) -> None:
    from samkr_edge.cli.console import emit
    from samkr_edge.evaluation.rescoring import PoseFeatures, RescoringNetwork, save_rescoring
    from samkr_edge.pose.skeleton import COCO17, CROWDPOSE14
    from training.weight_import.loading import rescoring_weights
    from training.weight_import.reading import read_weights

    arrays = rescoring_weights(read_weights(weights).tensors, weights)
    inputs = arrays["l1.weight"].shape[1]
    for skeleton in (COCO17, CROWDPOSE14):
        features = PoseFeatures.of(skeleton)
        if inputs == 3 * len(features.links) + len(skeleton):
            save_rescoring(out, RescoringNetwork(features, arrays))
            emit(
                {"rescoring": str(out), "skeleton": skeleton.name, "features": inputs},
                f"{out}: rescoring of {skeleton.name} poses, {inputs} features",
                as_json,
            )
            return
    raise SamkrError(
        "SE-A78",
        f"{weights} rescores poses of no skeleton we know, so nothing was written",
        {"found": f"{inputs} features", "expected": "74 (COCO's 17 keypoints) or 59 (CrowdPose's 14)"},
        fix="samkr-edge rescore MODEL --data DIR -o rescore.npz",
    )
