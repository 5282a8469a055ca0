"""How far a run is, and all that its continuation needs to end with the same bits."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from samkr_edge.errors import SamkrError
from training.checkpoint import Checkpoint
from training.loop.recipe import Recipe
from training.loop.update import Updater

# Settings that may change between a run and its continuation: the weights do not depend on them.
_WITHOUT_EFFECT: dict[str, Any] = {
    "threads": True,
    "save_seconds": True,
    "log_steps": True,
    "validation": True,
    "data": {"workers", "cache_mb"},
}


@dataclass
class RunState:
    """Progress of a run.

    Attributes:
        step: updates made.
        images: images they saw.
        minutes: time they took, validation not counted.
        best: the best validation so far; see ``training.loop.validation.Validation``.
    """

    step: int = 0
    images: int = 0
    minutes: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)


def fingerprint_of(
    recipe: Recipe, images: int, annotations: str, pictures: str, start: str | None, hooks: dict[str, Any]
) -> dict[str, Any]:
    """What a continuation must have in common with its run.

    Args:
        recipe: all settings with an effect on the weights count.
        images: size of the training set.
        annotations: SHA-256 of its annotation file.
        pictures: what identifies its pictures, ``samkr_edge.dataset.picture_digests.sampled_digest``.
        start: digest of the weights that were handed in; None where the recipe's seed decides them.
        hooks: the settings of what a fine-tuning adds.
    """
    settings = recipe.model_dump(mode="json", exclude=_WITHOUT_EFFECT)
    return {
        "recipe": settings,
        "images": images,
        "annotations": annotations,
        "pictures": pictures,
        "start": start,
        "hooks": hooks,
    }


def dump(state: RunState, fingerprint: dict[str, Any], updater: Updater) -> dict[str, Any]:
    """The ``training`` part of last.pt."""
    average = updater.average
    return {
        **vars(state),
        "fingerprint": json.dumps(fingerprint, sort_keys=True),
        "optimizer": updater.optimizer.state_dict(),
        "scaler": updater.scaler.state_dict(),
        "average": on_cpu(average.state) if average else {},
        "average_updates": average.updates if average else 0,
    }


def restore(
    checkpoint: Checkpoint, fingerprint: dict[str, Any], network: nn.Module, updater: Updater, path: Path
) -> RunState:
    """Undo ``dump``, in place; SamkrError SE-A38 where ``path`` belongs to another run."""
    saved = checkpoint.training
    other = _flat(json.loads(saved.get("fingerprint", "{}")))
    ours = _flat(json.loads(json.dumps(fingerprint)))
    differing = [key for key in {**other, **ours} if other.get(key) != ours.get(key)]
    if differing:
        # The record has every setting; one that it lacks is from another version, and cannot be given.
        foreign = [
            key for key in differing if key.startswith("recipe.") and not (key in other and key in ours)
        ]
        raise SamkrError(
            "SE-A38",
            f"{path} belongs to a run with other settings or data, so it was not resumed",
            {
                key.removeprefix("recipe."): f"was {_of(other, key, foreign)}, now {_of(ours, key, foreign)}"
                for key in differing[:4]
            },
            fix="use another --out: the run was started by another version"
            if foreign
            else "use another --out, or the settings of that run",
        )
    network.load_state_dict(checkpoint.state)
    updater.optimizer.load_state_dict(saved["optimizer"])
    updater.scaler.load_state_dict(saved["scaler"])
    if updater.average:
        updater.average.updates = saved["average_updates"]
        for name, tensor in saved["average"].items():
            updater.average.state[name].copy_(tensor)
    return RunState(saved["step"], saved["images"], saved["minutes"], saved["best"])


def on_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A copy, tensors of any shape, that later updates do not change."""
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def _of(settings: dict[str, Any], key: str, foreign: list[str]) -> str:
    return "no setting" if key in foreign and key not in settings else _short(settings.get(key))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "..."
