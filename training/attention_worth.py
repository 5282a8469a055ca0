"""What the attention contributes to a network, judged before an export leaves it out.

With labels, by AP. Without, by the joints of people on the pictures in the export: heatmaps do not pass through the
attention, so the same people are found, and only their joints can move.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from samkr_edge.builder.check.agreement import FLOAT_JOINTS
from samkr_edge.builder.check.people import clear_people, stay
from samkr_edge.builder.check.probe import Probe, probe_batch
from samkr_edge.dataset.keypoint_dataset import KeypointDataset
from samkr_edge.dataset.trained_on import require_unseen, trainings_of
from samkr_edge.dataset.usable import require_usable
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.ap import paired_bootstrap, predict_dataset, score
from samkr_edge.evaluation.scores import LEAST_AP
from samkr_edge.model_card import ModelCard
from samkr_edge.pose_model import PoseModel
from samkr_edge.printable import counted
from samkr_edge.progress import Advance
from samkr_edge.terminal import say
from training.export import torch_maps
from training.models.deploy import DeployNet
from training.models.pose_net import PoseNet
from training.torch_runner import TorchRunner

# AP points: tables of AP are printed to a tenth.
MAX_DROP = 0.1
# Input pixels that a joint may move, as in an FP32 build, which counts as the same network.
MAX_MOVED = FLOAT_JOINTS["fp32"][0]
_KEPT_WHOLE = "samkr-edge export CHECKPOINT -o model.onnx   # with its attention"


def judge_by_ap(
    network: PoseNet,
    without: PoseNet,
    card: ModelCard,
    dataset: KeypointDataset,
    *,
    limit: int | None = None,
    max_drop: float = MAX_DROP,
    anyway: bool = False,
    advance: Advance | None = None,
) -> dict[str, Any]:
    """AP of a network with its attention and ``without`` it on the first ``limit`` images, deployed as the card says.

    ``anyway`` allows images that it was trained on: train-fit AP.

    Returns:
        Figures for the card; ``judged`` says them in words. The interval is the paired one of 95 % over images.

    Raises:
        SamkrError: SE-Q68 more than ``max_drop`` AP points are lost, SE-Q69 too weak a network to tell, SE-D27 nobody
            is labelled in these images, SE-D45 it was trained on them.
    """
    records = dataset.images[:limit]
    require_usable(dataset, "eval", records)
    seen = require_unseen({card.model: trainings_of(card)}, dataset, records, anyway=anyway)
    for note in seen.notes:
        say(note)
    ids = [record.id for record in records]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results = [
        predict_dataset(
            PoseModel(TorchRunner(one, card, device), Path("attention")),
            dataset,
            limit=limit,
            advance=advance,
        )
        for one in (network, without)
    ]
    ap, ap_without = (score(dataset, found, ids).ap for found in results)
    metric = "train-fit AP" if seen.models else "AP"
    where = f"{counted(len(ids), 'image')} of {dataset.root.resolve().name}, {dataset.split}"
    if ap < LEAST_AP:
        raise SamkrError(
            "SE-Q69",
            f"{card.model} is too weak to show what its attention is worth, so it was not exported without it",
            {"with it": f"{ap:.2f} {metric} on {where}", "needed": f"{LEAST_AP:g}"},
            fix="samkr-edge eval CHECKPOINT --data DIR   # it must find people to be judged by AP",
        )
    apart = paired_bootstrap(dataset, *results, image_ids=ids)
    if not -apart.difference <= max_drop:
        raise SamkrError(
            "SE-Q68",
            f"{card.model} needs its attention, so it was not exported without it",
            {
                "with it": f"{ap:.2f} {metric} on {where}",
                "without": f"{ap_without:.2f} {metric}: {apart.text()}",
                "allowed": f"{max_drop:g} AP points less",
            },
            fix=_KEPT_WHOLE,
        )
    return {
        "judged": f"{ap:.2f} {metric} with it, {ap_without:.2f} without: {apart.text()} on {where}",
        "ap": ap,
        "ap_without": ap_without,
        "difference": [float(apart.difference), apart.low, apart.high],
        "images": len(ids),
        "data": dataset.root.resolve().name,
        "split": dataset.split,
        "trained_on": bool(seen.models),
        "max_drop": max_drop,
    }


def judge_by_joints(
    network: PoseNet, without: PoseNet, card: ModelCard, probe: Probe, *, max_moved: float = MAX_MOVED
) -> dict[str, Any]:
    """How far the joints of clearly seen people move on a probe's pictures, input pixels at the card's input size.

    Returns:
        Figures for the card; ``judged`` says them in words.

    Raises:
        SamkrError: SE-Q68 a person is lost or a joint moves farther than ``max_moved``, SE-Q69 the network sees
            nobody clearly.
    """
    images = probe_batch(probe, card.input_size)
    with torch.no_grad():
        whole, left = (torch_maps(DeployNet(one).eval().cpu(), images) for one in (network, without))
    people = clear_people(whole, card)
    if not len(people):
        raise SamkrError(
            "SE-Q69",
            f"{card.model} detects nobody clearly here, so what its attention is worth is unknown, and it was not "
            "exported without it",
            {"judged on": probe},
            fix="run the same command with --data DIR, labelled images to be judged on",
        )
    staying = stay(people, left, card)
    moved = f"joints move median {staying.median:.2g}, largest {staying.largest:.2g} px"
    if staying.kept < staying.people or not staying.largest <= max_moved:
        raise SamkrError(
            "SE-Q68",
            f"{card.model} needs its attention, so it was not exported without it",
            {
                "people": f"{staying.kept} of {staying.people} stay without it",
                "moved": moved,
                "allowed": f"largest {max_moved:g} px",
                "judged on": probe,
            },
            fix=_KEPT_WHOLE,
        )
    return {
        "judged": f"{moved} without it, of {counted(staying.people, 'person', 'people')} on {probe}",
        "people": staying.people,
        "joints_median": staying.median,
        "joints_largest": staying.largest,
        "probe": str(probe),
        "max_moved": max_moved,
    }
