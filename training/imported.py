"""Files of other projects as ours: their weights as a checkpoint, DEKR's rescoring network as that of `eval`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.rescoring import PoseFeatures, RescoringNetwork
from samkr_edge.files.artefact import sha256_of
from samkr_edge.pose.grouping_settings import GroupingSettings
from samkr_edge.pose.skeleton import COCO17, CROWDPOSE14, Skeleton, different_keypoints
from training.checkpoint import Checkpoint, new_card, refuse_broken_weights, skeleton_for
from training.models.zoo import build_model, model_config
from training.weight_import.loading import (
    ImportReport,
    load_into,
    recognise,
    refuse_other_decoding,
    rescoring_weights,
)
from training.weight_import.reading import Weights, read_weights
from training.weight_import.rescoring_columns import in_our_order

# (family, width, K) of published networks -> the threshold of their authors' configuration where it is no default
# (greatlog/SWAHR-HumanPose, experiments/coco/higher_hrnet/w32_512_adam_lr1e-3.yaml). SWAHR's others, and HigherHRNet's,
# all have 0.1 in theirs, mmpose's too, and 1.0 for tags.
_JOINT_THRESHOLDS: dict[tuple[str | None, int | None, int | None], float] = {("swahr", 32, 17): 0.12}


@dataclass(frozen=True)
class Imported:
    """What a file gave.

    Attributes:
        checkpoint: the network, with what the file lacks freshly initialised.
        report: what was loaded, skipped and missing.
        read: the file's tensors.
        rescoring: the rescoring network inside the file, if there is one.
    """

    checkpoint: Checkpoint
    report: ImportReport
    read: Weights
    rescoring: RescoringNetwork | None


def import_network(
    weights: Path,
    model: str,
    keypoints: int | None = None,
    skeleton: Skeleton | None = None,
    facts: Mapping[str, Any] | None = None,
    input_size: tuple[int, int] | None = None,
) -> Imported:
    """The zoo network ``model`` with the weights of a file.

    Args:
        weights: the file.
        model: name of `samkr-edge models`.
        keypoints: K, for a bare backbone, the skeleton's or COCO's 17 if it is None; a pose network's file has its own.
        skeleton: names the keypoints; None: COCO's or CrowdPose's.
        facts: more for the card about where the file comes from.
        input_size: (height, width) in pixels that the weights were trained at; None: the model's.

    Raises:
        SamkrError: SE-U01 no such model, SE-U35 keypoints without names, SE-D26 other keypoints, SE-A75, SE-A76,
            SE-A80 and SE-A39 the file does not hold its weights, SE-A34 they are not finite.
    """
    model_config(model)  # report a mistyped name before reading a large file
    read = read_weights(weights)
    foreign = recognise(read.tensors, weights)
    if keypoints and foreign.keypoints not in (None, keypoints):
        raise different_keypoints(
            {"weights": f"{foreign.keypoints} keypoints", "command": f"{keypoints} keypoints"},
            fix="leave --keypoints out",
        )
    config = model_config(model, foreign.keypoints or keypoints or len(skeleton or COCO17))
    config = replace(config, input_size=input_size or config.input_size)
    refuse_other_decoding(foreign, config)
    skeleton = skeleton or skeleton_for(config.keypoints)
    if len(skeleton) != config.keypoints:
        raise different_keypoints(
            {
                "weights": f"{config.keypoints} keypoints",
                "data": f"{len(skeleton)} keypoints ({skeleton.name})",
            },
            fix="name the data set that these weights were trained on",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_model(config)
    report = load_into(network, foreign)
    refuse_broken_weights(network)
    threshold = _JOINT_THRESHOLDS.get((foreign.family, foreign.width, foreign.keypoints))
    grouping = GroupingSettings(joint_threshold=threshold) if threshold else None
    card = new_card(config, skeleton, config.input_size, grouping=grouping).with_provenance(
        imported={
            "file": weights.name,
            "sha256": sha256_of(weights),
            "kind": report.kind,
            "table": read.table,
            "loaded": len(report.loaded),
            "missing": len(report.missing),
            **(facts or {}),
        }
    )
    return Imported(
        Checkpoint(card, config, network.state_dict()),
        report,
        read,
        _inside(read, weights, skeleton),
    )


def rescoring_beside(checkpoint: Path) -> Path:
    """Where the rescoring network goes that came in the file of a checkpoint."""
    return checkpoint.with_suffix(".rescore.npz")


def rescoring_of(read: Weights, path: Path) -> tuple[RescoringNetwork, Skeleton]:
    """The rescoring network of a file, DEKR's own or mmpose's, alone or in its DEKR; and whose poses it rescores.

    Joint scores are what DEKR's network learned from, the heatmap's value times the centre's. mmpose runs the same
    weights on the heatmap's value alone.

    Raises:
        SamkrError: SE-A75 there is none, SE-A78 it is for other keypoints than COCO's and CrowdPose's.
    """
    arrays = rescoring_weights(read.tensors, path)
    inputs = arrays["l1.weight"].shape[1]
    for skeleton in (COCO17, CROWDPOSE14):
        features = PoseFeatures.of(skeleton)
        if inputs == 3 * len(features.links) + len(skeleton):
            # mmpose publishes the network by itself, too: ``kpt_rescore_coco-33d58c5c.pth``.
            if _is_inside(read) or path.name.startswith("kpt_rescore_"):
                arrays["l1.weight"] = in_our_order(arrays["l1.weight"], features)
            return RescoringNetwork(features, arrays), skeleton
    raise SamkrError(
        "SE-A78",
        f"{path} rescores poses of no skeleton we know, so nothing was written",
        {"found": f"{inputs} features", "expected": "74 (COCO's 17 keypoints) or 59 (CrowdPose's 14)"},
        fix="samkr-edge rescore MODEL --data DIR -o rescore.npz",
    )


def _inside(read: Weights, path: Path, skeleton: Skeleton) -> RescoringNetwork | None:
    """mmpose's rescoring network next to its DEKR, if it is of these keypoints."""
    if not _is_inside(read):
        return None
    try:
        found, of = rescoring_of(read, path)
    except SamkrError:
        return None
    return found if of == skeleton else None


def _is_inside(read: Weights) -> bool:
    """Whether these tensors hold mmpose's rescoring network next to its DEKR."""
    return any("rescore_net." in name for name in read.tensors)
