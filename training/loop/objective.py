"""What a recipe teaches a network of either decoding: its targets and its loss."""

from __future__ import annotations

from typing import Any, TypeAlias

from samkr_edge.errors import SamkrError
from training.data.settings import EncodeSettings, GroupingEncodeSettings
from training.data.targets import TargetSettings
from training.loop.grouping_losses import GroupingLoss, GroupingLossSettings
from training.loop.losses import LossSettings, PoseLoss
from training.loop.recipe import Recipe, foreign_keys, own_keys, settings_of
from training.models.config import ModelConfig

ObjectiveSettings: TypeAlias = LossSettings | GroupingLossSettings

# Decoding -> the loss of its heatmaps where the recipe names none.
_PLAIN = {"offsets": "dekr", "grouping": "higherhrnet"}
# Settings of `data` that say nothing about what is learned.
_OF_THE_MACHINE = {"split", "workers", "cache_mb"}


def target_settings(recipe: Recipe, decoding: str) -> TargetSettings:
    """How targets are drawn."""
    if decoding == "grouping":
        return settings_of(GroupingEncodeSettings, recipe.data)
    return settings_of(EncodeSettings, recipe.data)


def loss_settings(recipe: Recipe, decoding: str) -> ObjectiveSettings:
    """The factors of the loss."""
    section = recipe.loss.model_copy(update={"kind": recipe.loss.kind or _PLAIN[decoding]})
    if decoding == "grouping":
        return settings_of(GroupingLossSettings, section)
    return settings_of(LossSettings, section)


def loss_of(settings: ObjectiveSettings) -> PoseLoss | GroupingLoss:
    """All terms of one step."""
    return GroupingLoss(settings) if isinstance(settings, GroupingLossSettings) else PoseLoss(settings)


def taught(recipe: Recipe, decoding: str) -> dict[str, Any]:
    """What a network was taught, to go on its card: augmentation and targets (``data``), and the ``loss``."""
    content = own_keys(recipe, decoding)
    data = {key: value for key, value in content["data"].items() if key not in _OF_THE_MACHINE}
    return {"data": data, "loss": {**content["loss"], "kind": loss_settings(recipe, decoding).kind}}


def require_suited(recipe: Recipe, config: ModelConfig) -> None:
    """Refuse a recipe that sets what means nothing to the network.

    Raises:
        SamkrError: SE-U31 it sets keys of the other decoding, SE-U87 its loss needs another network.
    """
    how = "groups joints by tags" if config.decoding == "grouping" else "finds joints by offsets"
    if foreign := foreign_keys(recipe, config.decoding):
        raise SamkrError(
            "SE-U31",
            f"{recipe.name} sets what means nothing to {config.name}, so nothing was trained",
            {"network": f"{config.name} {how}", "keys": ", ".join(foreign)},
            fix="samkr-edge recipes   # take one of such a network; recipes --keys says whose each key is",
        )
    kind, plain = recipe.loss.kind, _PLAIN[config.decoding]
    if kind in (None, plain) or (kind == "swahr" and config.scale_branch):
        return
    raise SamkrError(
        "SE-U87",
        f"{config.name} has no scale branch, which SWAHR's loss trains, so nothing was trained"
        if kind == "swahr"
        else f"{config.name} {how}, and the loss {kind} is for other targets, so nothing was trained",
        {"in papers": "SWAHR's loss is HRNet-W32's, DEKR's is HRNet-W48's"}
        if config.decoding == "offsets"
        else {"in papers": "HigherHRNet's loss is higherhrnet's, SWAHR's is swahr's"},
        fix=f"run the same command with --set loss.kind={plain}",
    )
