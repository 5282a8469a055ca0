"""Load the weights of official HRNet, DEKR, HigherHRNet, SWAHR and mmpose files into our networks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.rescoring import LAYERS
from samkr_edge.fixes import quoted
from samkr_edge.printable import counted
from training.models.config import ModelConfig
from training.models.pose_net import PoseNet
from training.models.zoo import model_config, model_names
from training.weight_import.layouts import BACKBONE, COUNTER, Place, layout_of
from training.weight_import.reading import named

# The last convolution of the heatmaps -> how many of its rows are no keypoint's but the centre's.
_HEATMAPS = {
    "head_heatmap.1.weight": 1,
    "head.heatmap_conv_layers.2.weight": 1,
    "keypoint_head.heatmap_conv_layers.2.weight": 1,
    "heatmap_head.final.weight": 1,
    "final_layers.1.weight": 0,
    "keypoint_head.final_layers.1.weight": 0,
    "grouping_head.final_high.weight": 0,
}
# What only this family of networks has in its names. The first that fits counts: SWAHR has all that HigherHRNet has.
_FAMILIES = {
    "conv_scale_layers.0.": "swahr",
    "grouping_head.scale_low.": "swahr",
    "final_layers.0.": "higherhrnet",
    "grouping_head.": "higherhrnet",
    "offset_head.attention.": "samkr",
    "heatmap_head.": "dekr",
    "head_heatmap.": "dekr",
    "heatmap_conv_layers.": "dekr",
}
# Parts that only SWAHR's loss uses.
_SCALE_BRANCH = re.compile(r"(heatmap_head\.scale|grouping_head\.scale_(low|high))\.")
_BY = {
    "offsets": "joints by their offsets from the person's centre",
    "grouping": "joints that tags put together",
}
_IN_WORDS = {"swahr": "SWAHR", "higherhrnet": "HigherHRNet", "samkr": "SAMKR", "dekr": "DEKR"}


@dataclass(frozen=True)
class Foreign:
    """A file's weights and their origin.

    Attributes:
        kind: ``hrnet``, ``dekr``, ``mmpose`` (its DEKR), ``higherhrnet`` (mmpose's, too), ``swahr``, or ``samkr-edge``
            for the bare weights of our own networks.
        family: ``samkr``, ``dekr``, ``higherhrnet`` or ``swahr``; None for a bare backbone.
        path: the file.
        tensors: names as in the file, without wrappers, to tensors.
        keypoints: K of the heatmap head; None for a bare backbone.
        width: channels of the stride-4 branch; 18, 32 and 48 are published.
    """

    kind: str
    family: str | None
    path: Path
    tensors: dict[str, Tensor]
    keypoints: int | None
    width: int | None

    @property
    def decoding(self) -> str | None:
        """``offsets`` or ``grouping``, as in ``ModelConfig``; None for a bare backbone, which starts either."""
        if self.family is None:
            return None
        return "grouping" if self.family in ("swahr", "higherhrnet") else "offsets"

    @property
    def model(self) -> str | None:
        """The zoo's network of this family and width; None for a bare backbone, or where the zoo has none."""
        named_so = (name for name in model_names() if self.family and name.startswith(self.family))
        return next((name for name in named_so if model_config(name).width == self.width), None)

    def __str__(self) -> str:
        found = f"{_IN_WORDS[self.family]} of" if self.family else "an HRNet of"
        keypoints = f", {counted(self.keypoints, 'keypoint')}" if self.keypoints else ""
        return f"{found} width {self.width or 'unknown'}{keypoints}"


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

    @property
    def unfinished(self) -> list[str]:
        """``missing`` without what only SWAHR's loss uses: if empty, the network finds people as it is."""
        return [name for name in self.missing if not _SCALE_BRANCH.match(name)]


def recognise(tensors: Mapping[str, Tensor], path: Path) -> Foreign:
    """Recognise the origin of these weights (any shape, by name).

    Raises:
        SamkrError: SE-A75 an unknown origin.
    """
    bare = {name.removeprefix("backbone."): tensor for name, tensor in tensors.items()}
    if not any(BACKBONE.match(name) for name in bare):
        raise SamkrError(
            "SE-A75",
            f"{path} holds no weight of an HRNet, DEKR, HigherHRNet or SWAHR, so nothing was loaded",
            {"tensors": f"{len(tensors)}: {named(tensors)}"},
            fix="samkr-edge import --help",
        )
    family = next((family for part, family in _FAMILIES.items() if any(part in name for name in bare)), None)
    kind = family or "hrnet"
    if any("heatmap_conv_layers." in name for name in bare):
        kind = "mmpose"
    if any(name.startswith(("heatmap_head.", "grouping_head.")) for name in bare):
        kind = "samkr-edge"
    head = next((name for name in _HEATMAPS if name in bare), None)
    first = bare.get("transition1.0.0.weight")
    return Foreign(
        kind,
        family,
        path,
        bare,
        len(bare[head]) - _HEATMAPS[head] if head else None,
        int(first.shape[0]) if first is not None else None,
    )


def refuse_other_decoding(foreign: Foreign, config: ModelConfig) -> None:
    """Raise SamkrError SE-A39 where the file's network finds people by tags and ``config``'s by offsets, or vice versa.

    Their backbones are alike, so that most weights would load, and nobody would be found.
    """
    if foreign.decoding in (None, config.decoding):
        return
    raise SamkrError(
        "SE-A39",
        f"{foreign.path} holds another network than {config.name}, so nothing was loaded",
        {
            "file": f"{foreign}: {_BY[foreign.decoding]}",
            "model": f"{config.name}: {_BY[config.decoding]}",
        },
        fix=f"samkr-edge import {quoted(foreign.path)} --model {quoted(foreign.model)} -o imported.pt"
        if foreign.model
        else "samkr-edge models   # and choose one of this kind and width",
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


def _no_such_part(target: str) -> str:
    """Why the network lacks a part that others have."""
    if _SCALE_BRANCH.match(target):
        return "only SWAHR's loss uses it"
    return "the last module has one output here" if ".fuse_layers." in target else "no such part here"


def _misfit(place: Place, state: Mapping[str, Tensor], config: ModelConfig) -> str | None:
    """Why the tensor cannot go there, or None."""
    target = state.get(place.target)
    if place.target.startswith("offset_head.blocks.") and not config.deformable:
        return "made for adaptive convolutions"
    if target is None:
        return _no_such_part(place.target)
    if place.stride:
        fits = place.stride * config.keypoints == len(target) and place.keypoint < config.keypoints
        fits = fits and place.value[0].numel() == target[0].numel()
    else:
        fits = place.value.numel() == target.numel() and place.value.shape[:1] == target.shape[:1]
    return None if fits else "another shape here"
