"""The weights that a run starts from: a recipe's ``init`` names a checkpoint or a ready network, or says ``none``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from samkr_edge.dataset.trained_on import trainings_of
from samkr_edge.errors import SamkrError
from samkr_edge.files.named import missing_file
from samkr_edge.ready_name import PREFIX, is_ready_name, ready_instead
from training.checkpoint import load_checkpoint, refuse_broken_weights
from training.models.config import ModelConfig
from training.models.grouping_net import GroupingNet
from training.models.pose_net import PoseNet
from training.ready.table import ready_network

FROM_SCRATCH = "none"
# Width of HRNet -> its authors' weights, trained on ImageNet, among the ready networks.
_IMAGENET = {width: f"zoo:hrnet_w{width}_imagenet" for width in (18, 32, 48)}


def imagenet_start(config: ModelConfig) -> str | None:
    """The official weights that fill this network's backbone; None where there are none."""
    official = ModelConfig(config.name)
    trunk = {
        name: getattr(official, name) for name in ("stem_channels", "bottlenecks", "stage_modules", "blocks")
    }
    return _IMAGENET.get(config.width) if replace(config, **trunk) == config else None


def require_start(init: str | None, config: ModelConfig) -> None:
    """Refuse a new run of ``config`` that does not say what it starts from.

    Raises:
        SamkrError: SE-U86 nothing is said, and there are ImageNet weights for this backbone; SE-A23 no such file;
            SE-U08 no such ready network.
    """
    official = imagenet_start(config)
    if init is None and official is not None:
        raise SamkrError(
            "SE-U86",
            f"nothing says what {config.name} starts from, so nothing was trained",
            {
                "papers": "start from ImageNet weights; results from scratch are not comparable with theirs",
                "official": f"{official}, of HRNet's authors",
                "scratch": f"--set init={FROM_SCRATCH} trains from scratch on purpose",
            },
            fix=f"run the same command with --set init={official}",
        )
    if init is None or init == FROM_SCRATCH:
        return
    if is_ready_name(init):
        ready_network(init.removeprefix(PREFIX))
    elif not Path(init).is_file():
        raise missing_file(init, "checkpoint", ready_instead(init) or _another(config))


class Start(NamedTuple):
    """What a run starts from.

    Attributes:
        told: what was loaded, for people; empty where there is nothing to say.
        provenance: for the run's card: what these weights had learned from.
    """

    told: str
    provenance: dict[str, Any]


def load_start(network: PoseNet, init: str | None) -> Start:
    """Load into ``network`` what fits of the checkpoint, or the ready network, that ``init`` names.

    What does not fit is fresh; see ``GroupingHead.begin_silent``.

    Raises:
        SamkrError: SE-A39 nothing fits, the backbone does not, or the checkpoint is quantized; SE-A34 weights are NaN
            or infinity; what ``load_checkpoint`` raises.
    """
    if isinstance(network, GroupingNet) and network.config.default_init:
        network.grouping_head.begin_silent()
    if init is None:
        return Start("", {})
    if init == FROM_SCRATCH:
        return Start(f"{network.config.name} starts from scratch: init is {FROM_SCRATCH}", {})
    checkpoint, own = load_checkpoint(init), network.state_dict()
    if checkpoint.kind != "float":
        raise SamkrError(
            "SE-A39",
            f"{init} is {checkpoint.kind}: its batch norms are folded, so training cannot start from it",
            fix=_another(network.config),
        )
    fitting = {
        name: tensor
        for name, tensor in checkpoint.state.items()
        if name in own and own[name].shape == tensor.shape
    }
    backbone, alike, found = (
        sum(name.startswith("backbone.") for name in names)
        for names in (own, own.keys() & checkpoint.state.keys(), fitting)
    )
    if 2 * found < alike:  # HRNets of any width share names, and a few small tensors
        raise SamkrError(
            "SE-A39",
            f"{init} is {checkpoint.card.model}, another backbone than {network.config.name}'s, so nothing was trained",
            {"fitting": f"{found} of the backbone's {backbone} tensors"},
            fix=_another(network.config),
        )
    if not fitting:
        raise SamkrError(
            "SE-A39", f"no weight of {init} fits {network.config.name}", fix=_another(network.config)
        )
    network.load_state_dict(fitting, strict=False)
    refuse_broken_weights(network)
    told = f"{len(fitting)} of {len(own)} tensors start from {init}, {found or 'none'} of the backbone's {backbone}"
    provenance: dict[str, Any] = {}
    imported = checkpoint.card.provenance.get("imported", {})
    if unused := [name for name in checkpoint.state if name.startswith("backbone.") and name not in own]:
        told += f"; {len(unused)} more of its backbone have no place here, such as {unused[0]}"
    if imported.get("missing"):
        told += f"; its import found no weights for {imported['missing']} and left them fresh"
    learned = [each.to_dict() for each in trainings_of(checkpoint.card) if each.how == "trained"]
    if learned:
        provenance["trained_on"] = learned
    if "ready" in imported:
        provenance["imported"] = imported
    return Start(told, {"init": provenance} if provenance else {})


def _another(config: ModelConfig) -> str:
    return f"run the same command with --set init=CHECKPOINT of a {config.name}, or --set init={FROM_SCRATCH}"
