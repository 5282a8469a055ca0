"""Checkpoints: weights with the model card and the structure they belong to.

Written atomically, read with ``weights_only=True``: a hostile file can be refused but runs no code.
"""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import replacing
from samkr_edge.files.refused import not_opened
from samkr_edge.fixes import quoted
from samkr_edge.model_card import ModelCard, map_shapes
from samkr_edge.model_card_check import check_card, unreadable_card
from samkr_edge.packages import resolve
from samkr_edge.pose.decode_settings import DecodeSettings
from samkr_edge.pose.grouping_settings import GroupingSettings
from samkr_edge.pose.skeleton import COCO17, CROWDPOSE14, Skeleton
from samkr_edge.ready_name import model_file, ready_instead
from training.models.config import ModelConfig
from training.models.pose_net import PoseNet
from training.models.zoo import build_model, model_config, model_names
from training.unpickling import unpickling_reason

_AS_WRITTEN = "use the checkpoint as train or import wrote it"
FORMAT = "samkr-edge/1"
# Bytes that a full disk may have left: torch writes tensor by tensor, and does not say why one was refused.
_FULL = 1 << 24
# For all networks: the stride of the lowest resolution.
_SIZE_STEP = 32

# Kind of checkpoint -> "module:function" (Checkpoint) -> network. Strings, since no import runs upward.
RESTORERS = {
    "float": "training.checkpoint:restore_float",
    "quantized": "calibration.ptq:restore_network",
}


@dataclass
class Checkpoint:
    """One network on disk.

    Attributes:
        card: the model card.
        config: its structure.
        state: parameters and buffers by name.
        kind: ``float`` or ``quantized`` (batch norms folded, ModelOpt quantizers inside).
        training: what resuming needs; empty in finished files.
        quantization: the policy and the facts of calibration; empty for ``float``.
    """

    card: ModelCard
    config: ModelConfig
    state: dict[str, Tensor]
    kind: str = "float"
    training: dict[str, Any] = field(default_factory=dict)
    quantization: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write atomically; raises SamkrError SE-D01 if the disk refuses, and then keeps the old file."""
    payload = {
        "format": FORMAT,
        "card": checkpoint.card.to_dict(),
        "config": checkpoint.config.to_dict(),
        "state": checkpoint.state,
        "kind": checkpoint.kind,
        "training": checkpoint.training,
        "quantization": checkpoint.quantization,
    }
    with replacing(path) as temporary:
        try:
            torch.save(payload, temporary)
        except RuntimeError as error:  # torch wraps a failed write in its own class
            if shutil.disk_usage(temporary.parent).free < _FULL:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise OSError(f"torch could not write the file: {error}") from error


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint, or that of the ready network ``zoo:NAME``.

    Raises:
        SamkrError: SE-A23 missing, SE-A30 not readable as weights (truncated, or a pickle that wants to run code),
            SE-A31 weights, but not a checkpoint of this program, SE-A21 its card cannot be read, SE-A27 it is another
            network's; what fetching a ready network raises.
    """
    path = model_file(Path(path))
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling errors come in many classes
        fix = ready_instead(path)
        if str(path) in model_names():
            bare = f"{path} is a network without weights, which quantize and export take with --untrained"
            fix = f"{fix}; {bare}" if fix else bare
        raise not_opened(error, path, "checkpoint", fix) or SamkrError(
            "SE-A30",
            f"{path} could not be read as a checkpoint, so nothing was loaded",
            {
                "reason": unpickling_reason(path, error),
                "size": f"{Path(path).stat().st_size} bytes",
            },
            fix=_way_out(Path(path)),
        ) from error
    try:
        if payload["format"] != FORMAT:
            raise ValueError(f"format {payload['format']!r}")
        kind = payload["kind"]
        if kind not in RESTORERS:
            raise ValueError(f"kind {kind!r}, this version reads {' and '.join(RESTORERS)}")
        quantization = _table(payload, "quantization")
        if kind == "quantized" and "name" not in _table(quantization, "policy"):
            raise ValueError("its policy has no name")
        checkpoint = Checkpoint(
            card=_card(path, _table(payload, "card")),
            config=ModelConfig.from_dict(_table(payload, "config")),
            state=_weights(payload),
            kind=kind,
            training=_table(payload, "training"),
            quantization=quantization,
        )
        _check_card(path, checkpoint)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise SamkrError(
            "SE-A31",
            f"{path} is not a checkpoint of samkr-edge",
            {"reason": f"{type(error).__name__} {error}", "expected": f"format {FORMAT!r}"},
            fix=_AS_WRITTEN
            if isinstance(payload, dict) and "format" in payload
            else f"samkr-edge import {quoted(path)} --model NAME -o imported.pt   # if it holds other weights",
        ) from error
    return checkpoint


def _way_out(path: Path) -> str:
    """The error for a file that torch cannot read."""
    if path.suffix in (".onnx", ".engine", ".samkr"):
        return f"name the checkpoint that {path.name} was exported from"
    if path.suffix not in (".pt", ".pth", ""):
        return "name a checkpoint, as train, import, quantize and qat write them (.pt)"
    return "use another copy; a file cut off while being copied cannot be repaired"


def _card(path: str | Path, content: dict[str, Any]) -> ModelCard:
    try:
        return ModelCard.from_dict(content)
    except ValueError as error:
        raise unreadable_card(str(path), error, "nothing was loaded", _AS_WRITTEN) from error


def _check_card(path: str | Path, checkpoint: Checkpoint) -> None:
    card, config = checkpoint.card, checkpoint.config
    height, width = card.input_size
    if height % _SIZE_STEP or width % _SIZE_STEP:
        raise ValueError(f"its input is {height}x{width}, and no multiple of {_SIZE_STEP}")
    shapes = map_shapes(config.decoding, int(config.keypoints), config.stride, (height, width))
    outputs = {name: (None, *shape) for name, shape in shapes.items()}
    check_card(str(path), card, {"image": (None, height, width, 3)}, outputs, fix=_AS_WRITTEN)


def _table(payload: dict[str, Any], name: str) -> dict[str, Any]:
    """One part of a file, which may be anything that torch reads; TypeError if it is not a table."""
    part = payload[name]
    if not isinstance(part, dict):
        raise TypeError(f"{name} is not a dict but of class {type(part).__name__}")
    return part


def _weights(payload: dict[str, Any]) -> dict[str, Tensor]:
    state = _table(payload, "state")
    if strange := [
        name for name, tensor in state.items() if not isinstance(name, str) or not isinstance(tensor, Tensor)
    ]:
        raise TypeError(f"state holds {strange[0]!r}, which is not a named tensor")
    return state


def network_of(checkpoint: Checkpoint) -> PoseNet:
    """The network with its weights, in eval mode; fake-quantized if the checkpoint is."""
    network: PoseNet = resolve(RESTORERS[checkpoint.kind])(checkpoint)
    return network.eval()


def restore_float(checkpoint: Checkpoint) -> PoseNet:
    """A float network.

    Raises:
        SamkrError: SE-A33 the weights do not fit the structure, or it is impossible, SE-A34 they
            hold NaN or infinity.
    """
    try:
        network = build_model(checkpoint.config)
        network.load_state_dict(checkpoint.state)
    except (RuntimeError, TypeError, ValueError) as error:  # an impossible structure, or other weights
        # The first line of torch's list only says that there are mismatches.
        first, *others = str(error).splitlines() or [type(error).__name__]
        raise SamkrError(
            "SE-A33",
            f"the weights do not fit {checkpoint.config.name}",
            {"reason": [line.strip()[:150] for line in others[:3] or [first]]},
            fix=_AS_WRITTEN,
        ) from error
    refuse_broken_weights(network)
    return network


def refuse_broken_weights(network: torch.nn.Module) -> None:
    """Raise SamkrError SE-A34 naming the first tensors that hold NaN or infinity."""
    broken = [n for n, t in network.state_dict().items() if t.is_floating_point() and not t.isfinite().all()]
    if broken:
        raise SamkrError(
            "SE-A34",
            f"{len(broken)} weight tensors hold NaN or infinity, so the network was not used",
            {"tensor": broken[:3]},
            fix="go back to the last good checkpoint of the training run",
        )


def untrained_checkpoint(name: str, keypoints: int = 17, seed: int = 0) -> Checkpoint:
    """A checkpoint of a zoo network with random weights: for measuring speed, never accuracy.

    The scale branch of SWAHR is left out, as in deployment. Seeded, so that two exports are the same file.
    """
    config = replace(model_config(name, keypoints), scale_branch=False, default_init=True)
    skeleton = skeleton_for(keypoints)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_model(config)
    card = new_card(config, skeleton, config.input_size).with_provenance(untrained=True, seed=seed)
    return Checkpoint(card, config, network.state_dict())


def new_card(
    config: ModelConfig,
    skeleton: Skeleton,
    input_size: tuple[int, int],
    *,
    decode: DecodeSettings | None = None,
    grouping: GroupingSettings | None = None,
) -> ModelCard:
    """The card of a float network of this structure, with the settings of its own decoding, or their defaults."""
    if config.decoding == "grouping":
        return ModelCard(
            config.name,
            skeleton,
            input_size,
            stride=config.stride,
            grouping=grouping or GroupingSettings(),
        )
    nms_joints = round(config.keypoints * 8 / 17)  # DEKR's 8 of COCO's keypoints and 7 of CrowdPose's
    return ModelCard(
        config.name, skeleton, input_size, decode=decode or DecodeSettings(nms_joints=nms_joints)
    )


def skeleton_for(keypoints: int) -> Skeleton:
    """COCO's skeleton for 17 keypoints, CrowdPose's for 14; SamkrError SE-U35 otherwise."""
    for skeleton in (COCO17, CROWDPOSE14):
        if len(skeleton) == keypoints:
            return skeleton
    raise SamkrError(
        "SE-U35",
        f"there is no built-in skeleton of {keypoints} keypoints",
        {"known": "17 and 14"},
        fix="add --data DIR, a data set that names these keypoints",
    )
