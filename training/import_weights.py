"""Weights of other people's HRNet, DEKR and mmpose files under our names and layout.

The official code (HRNet/DEKR) has one module per keypoint where ours is grouped, so several of its tensors fill
consecutive rows of one of ours; the two convolutions that predict the affine map (four and two channels) lie side by
side in our six. mmpose is grouped too, but orders the six channels as rows of a 2x3 matrix, predicts the map without
its identity, and its displacement is joint - location, the negative of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samkr_edge.errors import SamkrError, reason_of
from samkr_edge.evaluation.rescoring import LAYERS
from samkr_edge.fixes import look_beside, quoted
from training.models.pose_net import ModelConfig, PoseNet

BACKBONE = re.compile(r"(conv[12]|bn[12]|layer1|transition[123]|stage[234])\.")
# Found in front of all names: by DataParallel, by HigherHRNet's and SWAHR's zoo, by torch.compile.
_WRAPPERS = ("module.", "1.", "_orig_mod.")
# Whatever else stands before a backbone's names, "model." of Lightning for one.
_BEFORE_BACKBONE = re.compile(r"(.*?)(?:backbone\.)?stage2\.0\.")
# Averaged weights: ema_net, model_ema, state_dict_ema.
_EMA = re.compile(r"(?:^|[._])ema(?:[._]|$)", re.IGNORECASE)
# Keys of training checkpoints that hold the weights themselves.
_NESTED = ("state_dict", "model", "model_state_dict")
# The last convolution of the heatmaps: its rows are the keypoints and the centre.
_HEATMAPS = (
    "head_heatmap.1.weight",
    "head.heatmap_conv_layers.2.weight",
    "keypoint_head.heatmap_conv_layers.2.weight",
    "heatmap_head.final.weight",
)
_NO_PREFIX = "the one without a prefix"
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Place:
    """Where one foreign tensor goes: all of our tensor ``target``, or rows of it where ``stride`` is given.

    Our grouped tensor has ``stride`` rows for each keypoint; ``value`` is those of ``keypoint`` from ``first`` on.
    """

    target: str
    value: Tensor
    keypoint: int = 0
    stride: int = 0
    first: int = 0

    @property
    def rows(self) -> slice:
        start = self.keypoint * self.stride + self.first
        return slice(start, start + len(self.value)) if self.stride else slice(None)


@dataclass(frozen=True)
class Weights:
    """The tensors of a file by name, wrappers removed.

    Attributes:
        tensors: the table that was taken.
        table: its keys in the file, ``ema_net`` or ``state.net``; empty where the file holds one table and no more.
        instead_of: other tables that hold weights, too.
    """

    tensors: dict[str, Tensor]
    table: str = ""
    instead_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Foreign:
    """A file's weights, and whose they are.

    Attributes:
        kind: ``hrnet``, ``dekr``, ``mmpose``, or ``samkr-edge`` for the bare weights of our own networks.
        tensors: names as in the file, without wrappers, to tensors.
        keypoints: K as the heatmap head has it; None for a bare backbone.
        width: channels of the stride-4 branch, 32 or 48 in the papers.
    """

    kind: str
    tensors: dict[str, Tensor]
    keypoints: int | None
    width: int | None


@dataclass(frozen=True)
class ImportReport:
    """What became of every tensor.

    Attributes:
        kind: see :class:`Foreign`.
        loaded: the file's names that were used.
        skipped: the file's other names, each with the reason.
        missing: our parameters and buffers that keep their fresh values.
    """

    kind: str
    loaded: list[str]
    skipped: dict[str, str]
    missing: list[str]


def read_weights(path: str | Path) -> Weights:
    """Tensors by name, without the wrappers of training scripts; of several tables the averaged weights (EMA).

    Nothing in the file is executed: tensors, plain values and NumPy arrays are all that is allowed.

    Raises:
        SamkrError: SE-A76 unreadable, or it wants to run code; SE-A75 no weights, or ours already.
    """
    path = Path(path)
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            payload = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise SamkrError("SE-A76", f"there is no file {path}", fix=look_beside(path)) from error
    except Exception as error:  # unpickling errors come in many classes
        reason = str(error)
        foreign = re.search(r"[Uu]nsupported (?:global|class)[^\n]*?GLOBAL ([\w.]+)", reason)
        # The message of some classes is a lone number: what the unpickler looked up in something that is no pickle.
        told = reason_of(error) if " " in reason else f"not a file that torch.save wrote ({error!r:.60})"
        facts = [f"reason     {told}"]
        if foreign:
            facts.append(f"in it      an object of class {foreign[1]}")
        raise SamkrError(
            "SE-A76",
            f"{path} could not be read as weights alone, so nothing was loaded",
            [*facts, f"size       {path.stat().st_size} bytes"],
            fix="save the state_dict alone where the file was made (mmpose: tools/misc/publish_model.py)"
            if foreign
            else "use another copy; a file cut off while being copied cannot be repaired",
        ) from error
    return _state_of(payload, path)


def recognise(tensors: Mapping[str, Tensor], path: Path) -> Foreign:
    """Say whose weights these are, of any shape and by name.

    Raises:
        SamkrError: SE-A75 nobody's that we know.
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
            [f"tensors    {len(tensors)}: {_named(tensors)}"],
            fix="samkr-edge import --help",
        )
    head = next((bare[name] for name in _HEATMAPS if name in bare), None)
    first = bare.get("transition1.0.0.weight")
    return Foreign(
        kind, bare, None if head is None else len(head) - 1, None if first is None else int(first.shape[0])
    )


def rescoring_weights(tensors: Mapping[str, Tensor], path: Path) -> dict[str, np.ndarray]:
    """DEKR's rescoring network: its own file, or part of mmpose's (``head.rescore_net.``).

    Weights (out, in) and biases (out,), by DEKR's names.

    Raises:
        SamkrError: SE-A75 there is none.
    """
    inner = {name.rpartition("rescore_net.")[2]: tensor for name, tensor in tensors.items()}
    wanted = [f"{layer}.{part}" for layer in LAYERS for part in ("weight", "bias")]
    if missing := [name for name in wanted if name not in inner]:
        raise SamkrError(
            "SE-A75",
            f"{path} holds no rescoring network, so nothing was loaded",
            [f"missing    {', '.join(missing)}"],
            fix="samkr-edge rescore MODEL --data DIR -o rescore.npz   # trains one",
        )
    return {name: inner[name].float().numpy() for name in wanted}


def load_into(network: PoseNet, foreign: Foreign) -> ImportReport:
    """Copy everything that fits into ``network``; what does not is reported, never guessed.

    Raises:
        SamkrError: SE-A75 less than half of the backbone fits: these are another network's weights.
    """
    state = network.state_dict()
    place_of: Callable[[str, Tensor], Place | None] = _backbone
    if foreign.kind != "hrnet":
        place_of = {"dekr": _dekr, "samkr-edge": _own}.get(foreign.kind) or _Mmpose(foreign.tensors)
    filled = {name: np.zeros(len(tensor) if tensor.dim() else 1, bool) for name, tensor in state.items()}
    values = {name: tensor.clone() for name, tensor in state.items()}
    used: dict[str, list[str]] = {}
    skipped: dict[str, str] = {}
    for name, tensor in foreign.tensors.items():
        place = place_of(name, tensor) if tensor.dim() or name.endswith(_COUNTER) else None
        if place is None:
            skipped[name] = "computed here" if name.endswith("regular_matrix") else "no such part here"
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
        if not rows.all() and name in used:  # a keypoint's branch is not there: leave all of them fresh
            skipped |= dict.fromkeys(used.pop(name), "parts of it are missing")
    own = [name for name in state if name.startswith("backbone.") and not name.endswith(_COUNTER)]
    fitting = sum(name in used for name in own)
    if fitting < len(own) / 2:
        raise SamkrError(
            "SE-A75",
            f"these weights are not {network.config.name}'s: {fitting} of {len(own)} backbone tensors fit",
            [
                f"file       HRNet width {foreign.width or 'unknown'}",
                f"model      width {network.config.width}",
            ],
            fix="samkr-edge models   # and choose the one with this width",
        )
    network.load_state_dict({name: values[name] for name in used}, strict=False)
    loaded = {source for sources in used.values() for source in sources}
    return ImportReport(
        foreign.kind,
        [name for name in foreign.tensors if name in loaded],
        skipped,
        # Old files have no counters of batches; nothing depends on them.
        [name for name in state if name not in used and not name.endswith(_COUNTER)],
    )


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


def _backbone(name: str, tensor: Tensor) -> Place | None:
    return Place(f"backbone.{name}", tensor) if BACKBONE.match(name) else None


def _own(name: str, tensor: Tensor) -> Place | None:
    return _backbone(name, tensor) or Place(name, tensor)


_DEKR_WHOLE = (
    ("transition_heatmap.", "heatmap_head.transition."),
    ("head_heatmap.0.0.", "heatmap_head.block."),
    ("head_heatmap.1.", "heatmap_head.final."),
    ("transition_offset.", "offset_head.transition."),
)
_DEKR_BLOCK = re.compile(r"offset_feature_layers\.(\d+)\.(\d+)\.(.+)")
_DEKR_FINAL = re.compile(r"offset_final_layer\.(\d+)\.(weight|bias)")


def _dekr(name: str, tensor: Tensor) -> Place | None:
    """Official DEKR: ``offset_feature_layers.{keypoint}.{block}``, ``offset_final_layer.{keypoint}``."""
    for theirs, ours in _DEKR_WHOLE:
        if name.startswith(theirs):
            return Place(ours + name.removeprefix(theirs), tensor)
    if matched := _DEKR_FINAL.fullmatch(name):
        return Place(f"offset_head.final.{matched[2]}", tensor, int(matched[1]), stride=2)
    matched = _DEKR_BLOCK.fullmatch(name)
    if not matched:
        return _backbone(name, tensor)
    keypoint, block = int(matched[1]), f"offset_head.blocks.{matched[2]}."
    part, _, kind = matched[3].partition(".")
    if part == "transform_matrix_conv":  # a00 a01 a10 a11
        return Place(f"{block}sampling.affine.{kind}", tensor, keypoint, stride=6)
    if part == "translation_conv":  # t_y t_x
        return Place(f"{block}sampling.affine.{kind}", tensor, keypoint, stride=6, first=4)
    if kind == _COUNTER:
        return Place(f"{block}bn.{kind}", tensor)
    if part in ("adapt_conv", "bn"):
        return Place(f"{block}{part}.{kind}", tensor, keypoint, stride=len(tensor))
    return None


class _Mmpose:
    """mmpose's DEKR head: ``head.`` from version 1.0 on, ``keypoint_head.`` with the opposite signs before it."""

    _KEY = re.compile(
        r"(?:keypoint_)?head\.(heatmap|displacement|offset)_conv_layers\.(\d)\.(?:(conv|bn|norm)\.)?(.+)"
    )

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        # Before 1.0: location - joint, as ours, and the centre as the first heatmap.
        self._old = any(".offset_conv_layers." in name for name in tensors)
        last = [int(m[2]) for m in map(self._KEY.fullmatch, tensors) if m and m[1] != "heatmap"]
        self._final = max(last, default=0)

    def __call__(self, name: str, tensor: Tensor) -> Place | None:
        matched = self._KEY.fullmatch(name)
        if not matched:
            return _backbone(name, tensor)
        head, layer, module, rest = matched[1], int(matched[2]), matched[3], matched[4]
        if layer == 0:
            ours = "heatmap_head" if head == "heatmap" else "offset_head"
            return Place(f"{ours}.transition.{0 if module == 'conv' else 1}.{rest}", tensor)
        if head == "heatmap":
            if layer == 1:
                return Place(f"heatmap_head.block.{rest}", tensor)
            return Place(f"heatmap_head.final.{rest}", tensor.roll(-1, 0) if self._old else tensor)
        if layer == self._final:
            return Place(f"offset_head.final.{rest}", tensor if self._old else -tensor)
        block = f"offset_head.blocks.{layer - 1}."
        if rest.startswith("transform_matrix_conv."):
            kind = rest.removeprefix("transform_matrix_conv.")
            return Place(f"{block}sampling.affine.{kind}", _affine_of_mmpose(tensor, kind == "bias"))
        if module == "norm":
            return Place(f"{block}bn.{rest}", tensor)
        return Place(block + rest, tensor) if rest == "adapt_conv.weight" else None


def _affine_of_mmpose(tensor: Tensor, bias: bool) -> Tensor:
    """Rows of [A - 1 | t], (6K, ...) a00 a01 t_y a10 a11 t_x, as ours: a00 a01 a10 a11 t_y t_x, A itself."""
    six = tensor.reshape(-1, 6, *tensor.shape[1:])[:, [0, 1, 3, 4, 2, 5]].clone()
    if bias:
        # mmpose adds the map to the regular grid; ours replaces it.
        six[:, [0, 3]] += 1.0
    return six.reshape(tensor.shape)


def _state_of(payload: Any, path: Path) -> Weights:
    """The weights in a file: themselves, or nested as training scripts do; names without ``module.``."""
    if isinstance(payload, dict) and {"format", "card", "config"} <= set(payload):
        raise SamkrError(
            "SE-A75",
            f"{path} is a checkpoint of samkr-edge already, so there is nothing to import",
            fix=f"samkr-edge eval {quoted(path)} --data DIR",
        )
    payload, keys, others = _innermost(payload)
    if not isinstance(payload, dict):
        raise SamkrError(
            "SE-A75",
            f"{path} holds a {type(payload).__name__}, not weights by name",
            fix="save the state_dict alone where the file was made",
        )
    tensors = {str(name): value for name, value in payload.items() if isinstance(value, Tensor)}
    for prefix in _WRAPPERS:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    tensors = {name.replace("_orig_mod.", ""): tensor for name, tensor in tensors.items()}
    if not tensors:
        raise SamkrError(
            "SE-A75",
            f"{path} holds no tensors where training scripts put weights, so nothing was loaded",
            [f"keys       {_named(payload)}"],
            fix="save the state_dict alone where the file was made",
        )
    networks = list(dict.fromkeys(found[1] for name in tensors if (found := _BEFORE_BACKBONE.match(name))))
    before = max(networks, key=_likely, default="")
    if len(networks) > 1:  # one flat table for two networks
        others += [network.rstrip(".") or _NO_PREFIX for network in networks if network != before]
        keys.append(before.rstrip(".") or _NO_PREFIX)
        tensors = {name: tensor for name, tensor in tensors.items() if name.startswith(before)}
    bare = {name.removeprefix(before): tensor for name, tensor in tensors.items()}
    return Weights(bare, ".".join(map(_printable, keys)), tuple(map(_printable, others)))


def _innermost(payload: Any) -> tuple[Any, list[str], list[str]]:
    """The table of weights within what training scripts wrap them in, the keys to it, and keys of tables beside it."""
    keys: list[str] = []
    others: list[str] = []
    while isinstance(payload, dict):
        weights = {key: _weights_in(part, str(key)) for key, part in payload.items()}
        most = max((count for key, count in weights.items() if isinstance(payload[key], dict)), default=0)
        if most <= sum(count for key, count in weights.items() if isinstance(payload[key], Tensor)):
            break
        tables = [
            key for key, count in weights.items() if isinstance(payload[key], dict) and 2 * count >= most
        ]
        taken = max(tables, key=_likely)
        keys.append(str(taken))
        others += [str(key) for key in tables if key != taken]
        payload = payload[taken]
    return payload, keys, others


def _weights_in(part: Any, name: str) -> int:
    """How many tensors are called like a module's, with a dot; an optimizer's are not."""
    if isinstance(part, dict):
        return sum(_weights_in(inner, str(key)) for key, inner in part.items())
    return int(isinstance(part, Tensor) and "." in name)


def _likely(name: Any) -> tuple[bool, bool, bool]:
    """For the largest of several names: averaged weights, then the usual keys, then a network's."""
    return _EMA.search(str(name)) is not None, name in _NESTED, "net" in str(name)


def _printable(name: Any) -> str:
    """A foreign file's names are not to steer the terminal."""
    return "".join(c if c.isprintable() else "?" for c in str(name))[:60]


def _named(table: Mapping[Any, Any]) -> str:
    """The first names of a table."""
    names = [_printable(name) for name in list(table)[:6]]
    return ", ".join(names) + (", ..." if len(table) > 6 else "") if names else "none"


def _numpy_globals() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """NumPy's plain data, which mmpose keeps beside the weights; under the module names of NumPy 1 and 2."""
    core = np.zeros(1).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    names = [(core, "_reconstruct"), (scalar, "scalar")]
    dtypes = [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1")]
    return [
        np.ndarray,
        np.dtype,
        *dtypes,
        *(
            (found, f"numpy.{module}.multiarray.{name}")
            for found, name in names
            for module in ("core", "_core")
        ),
    ]
