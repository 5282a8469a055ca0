"""Load the weights of official HRNet, DEKR and mmpose files into our networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.rescoring import LAYERS
from training.models.config import ModelConfig
from training.models.pose_net import PoseNet
from training.weight_import.layouts import BACKBONE, COUNTER, Place, layout_of
from training.weight_import.reading import named

# The last convolution of the heatmaps: its rows are the keypoints and the centre.
_HEATMAPS = (
    "head_heatmap.1.weight",
    "head.heatmap_conv_layers.2.weight",
    "keypoint_head.heatmap_conv_layers.2.weight",
    "heatmap_head.final.weight",
)


@dataclass(frozen=True)
class Foreign:
    """A file's weights and their origin.

    Attributes:
        kind: ``hrnet``, ``dekr``, ``mmpose``, or ``samkr-edge`` for the bare weights of our own networks.
        tensors: names as in the file, without wrappers, to tensors.
        keypoints: K of the heatmap head; None for a bare backbone.
        width: channels of the stride-4 branch, 32 or 48 in the papers.
    """

    kind: str
    tensors: dict[str, Tensor]
    keypoints: int | None
    width: int | None


@dataclass(frozen=True)
class ImportReport:
    """Which tensors were used, skipped or missing.

    Attributes:
        kind: see ``Foreign``.
        loaded: the file's names that were used.
        skipped: the file's other names, each with the reason.
        missing: our parameters and buffers that keep their fresh values.
    """

    kind: str
    loaded: list[str]
    skipped: dict[str, str]
    missing: list[str]


def recognise(tensors: Mapping[str, Tensor], path: Path) -> Foreign:
    """Recognise the origin of these weights (any shape, by name).

    Raises:
        SamkrError: SE-A75 an unknown origin.
    """
    mmpose = any("heatmap_conv_layers." in name for name in tensors)
    kind = "mmpose" if mmpose else "hrnet"
    for start, whose in (("head_heatmap.", "dekr"), ("heatmap_head.", "samkr-edge")):
        kind = whose if any(name.startswith(start) for name in tensors) else kind
    bare = {name.removeprefix("backbone."): tensor for name, tensor in tensors.items()}
    if not any(BACKBONE.match(name) for name in bare):
        raise SamkrError(
            "SE-A75",
            f"{path} holds no weight of an HRNet, DEKR or mmpose DEKR, so nothing was loaded",
            {"tensors": f"{len(tensors)}: {named(tensors)}"},
            fix="samkr-edge import --help",
        )
    head = next((bare[name] for name in _HEATMAPS if name in bare), None)
    first = bare.get("transition1.0.0.weight")
    return Foreign(
        kind, bare, None if head is None else len(head) - 1, None if first is None else int(first.shape[0])
    )


def rescoring_weights(tensors: Mapping[str, Tensor], path: Path) -> dict[str, np.ndarray]:
    """DEKR's rescoring network: its own file, or part of mmpose's (``head.rescore_net.``).

    By DEKR's names, weights (D, C) and biases (D,) of D outputs; ``tensors`` are of any shape.

    Raises:
        SamkrError: SE-A75 there is none.
    """
    inner = {name.rpartition("rescore_net.")[2]: tensor for name, tensor in tensors.items()}
    wanted = [f"{layer}.{part}" for layer in LAYERS for part in ("weight", "bias")]
    if missing := [name for name in wanted if name not in inner]:
        raise SamkrError(
            "SE-A75",
            f"{path} holds no rescoring network, so nothing was loaded",
            {"missing": ", ".join(missing)},
            fix="samkr-edge rescore MODEL --data DIR -o rescore.npz   # trains one",
        )
    return {name: inner[name].float().numpy() for name in wanted}


def load_into(network: PoseNet, foreign: Foreign) -> ImportReport:
    """Copy everything that fits into ``network``; the rest is reported, never guessed.

    Raises:
        SamkrError: SE-A39 less than half of the backbone fits: the weights are another network's.
    """
    state = network.state_dict()
    place_of = layout_of(foreign.kind, foreign.tensors)
    filled = {name: np.zeros(len(tensor) if tensor.dim() else 1, bool) for name, tensor in state.items()}
    values = {name: tensor.clone() for name, tensor in state.items()}
    used: dict[str, list[str]] = {}
    skipped: dict[str, str] = {}
    for name, tensor in foreign.tensors.items():
        place = place_of(name, tensor) if tensor.dim() or name.endswith(COUNTER) else None
        if place is None:
            skipped[name] = _elsewhere(name)
            continue
        reason = _misfit(place, state, network.config)
        if reason:
            skipped[name] = reason
            continue
        target = values[place.target]
        if target.dim():
            target[place.rows] = place.value.reshape(target[place.rows].shape).to(target.dtype)
        else:
            target.copy_(place.value)
        filled[place.target][place.rows] = True
        used.setdefault(place.target, []).append(name)
    for name, rows in filled.items():
        if not rows.all() and name in used:  # a keypoint's branch is missing: all of them stay fresh
            skipped |= dict.fromkeys(used.pop(name), "parts of it are missing")
    own = [name for name in state if name.startswith("backbone.") and not name.endswith(COUNTER)]
    fitting = sum(name in used for name in own)
    if fitting < len(own) / 2:
        raise SamkrError(
            "SE-A39",
            f"these weights are not {network.config.name}'s: {fitting} of {len(own)} backbone tensors fit",
            {
                "file": f"HRNet width {foreign.width or 'unknown'}",
                "model": f"width {network.config.width}",
            },
            fix="samkr-edge models   # and choose the one with this width",
        )
    network.load_state_dict({name: values[name] for name in used}, strict=False)
    loaded = {source for sources in used.values() for source in sources}
    return ImportReport(
        foreign.kind,
        [name for name in foreign.tensors if name in loaded],
        skipped,
        # Old files have no counters of batches; nothing depends on them.
        [name for name in state if name not in used and not name.endswith(COUNTER)],
    )


def _elsewhere(name: str) -> str:
    """Why no part of the network has such a tensor."""
    if "rescore_net." in name:
        return "of the rescoring network"
    return "computed here" if name.endswith("regular_matrix") else "no such part here"


def _misfit(place: Place, state: Mapping[str, Tensor], config: ModelConfig) -> str | None:
    """Why the tensor cannot go there, or None."""
    target = state.get(place.target)
    if place.target.startswith("offset_head.blocks.") and not config.deformable:
        return "made for adaptive convolutions"
    if target is None:
        return "no such part here"
    if place.stride:
        fits = place.stride * config.keypoints == len(target) and place.keypoint < config.keypoints
        fits = fits and place.value[0].numel() == target[0].numel()
    else:
        fits = place.value.numel() == target.numel() and place.value.shape[:1] == target.shape[:1]
    return None if fits else "another shape here"
