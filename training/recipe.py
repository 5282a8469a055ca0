"""Recipes: everything that decides a training run, as schema-checked YAML."""

from __future__ import annotations

import difflib
import itertools
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from samkr_edge.errors import SamkrError, words_of
from training.input_size import STEP, is_possible, nearest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

RECIPES = Path(__file__).parent / "recipes"
_LENGTHS = {"epochs", "steps", "minutes"}
# Settings of `data` that say nothing about what is learned.
_OF_THE_MACHINE = {"split", "workers", "cache_mb"}


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSection(Section):
    """Augmentation and targets."""

    split: str = "train"
    input_size: tuple[int, int] | None = None  # (H, W); None takes the model's
    rotation: float = Field(default=30.0, ge=0)  # degrees, uniform in +-
    scale: tuple[float, float] = (0.75, 1.5)
    translation: float = Field(default=0.2, ge=0)  # share of the augmented short side, uniform in +-
    flip: float = Field(default=0.5, ge=0, le=1)
    jitter: float = Field(default=0.0, ge=0, le=1)  # photometric: brightness, contrast, colour
    crop: Literal["fit", "short"] = "fit"  # the whole image, or its short side on the input's, as DEKR trains
    sigma: float = Field(default=2.0, ge=0.6)  # keypoint Gaussians, map pixels
    center_sigma: float = Field(default=4.0, ge=0.6)
    offset_radius: int = Field(default=4, ge=1)
    background_weight: float = Field(default=0.1, ge=0, le=1)
    offset_extent: Literal["person", "image"] = "person"  # what weighs offsets; image: as the official code
    smallest_extent: float = Field(
        default=32.0, ge=1
    )  # input pixels; nobody's offsets weigh more than 1 / this
    smallest_person: float | None = Field(default=None, ge=0)  # source pixels, square root of the area; COCO
    parity: bool = False  # DEKR's own quirks in the targets
    workers: int = Field(default=1, ge=1, le=64)  # threads that make batches
    cache_mb: int = Field(default=1024, ge=0)  # decoded images kept in memory

    @model_validator(mode="after")
    def sensible_sizes(self) -> DataSection:
        if self.input_size is not None and not is_possible(self.input_size):
            near = list(nearest(self.input_size))
            raise ValueError(
                f"input_size must be two positive multiples of 32, height then width; nearest: {near}"
            )
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError("scale must be two positive factors, the smaller one first")
        if self.parity and self.crop != "short":
            raise ValueError("parity is DEKR's way of placing images and needs crop: short")
        return self


class OptimizerSection(Section):
    name: Literal["adam", "adamw"] = "adam"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float | None = Field(default=None, gt=0)


class ScheduleSection(Section):
    """How long and how fast; exactly one of epochs, steps, minutes."""

    kind: Literal["step", "cosine"] = "step"
    epochs: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    minutes: float | None = Field(default=None, gt=0)
    milestones: tuple[float, ...] = ()  # shares of the length at which the rate is multiplied by gamma
    gamma: float = 0.1
    warmup_steps: int = Field(default=0, ge=0)
    final: float = Field(default=0.01, ge=0, le=1)  # cosine: last rate as a share of the first

    @model_validator(mode="after")
    def one_length(self) -> ScheduleSection:
        if sum(value is not None for value in (self.epochs, self.steps, self.minutes)) != 1:
            raise ValueError("exactly one of epochs, steps and minutes must be given")
        if any(not 0 < share < 1 for share in self.milestones):
            raise ValueError("milestones are shares of the length, between 0 and 1")
        return self


class LossSection(Section):
    kind: Literal["dekr", "swahr"] = "dekr"
    heatmap_weight: float = Field(default=1.0, ge=0)
    # Of extents of people. DEKR's 0.03 is of its own extents, and comes to this: benchmarks/host/training_targets.py.
    offset_weight: float = Field(default=0.007, ge=0)
    scale_weight: float = Field(default=1.0, ge=0)  # SWAHR's regulariser


class ValidationSection(Section):
    """AP during training; off unless one of the first two is given. See :class:`training.validation.Validation`."""

    every_epochs: float | None = Field(default=None, gt=0)
    every_minutes: float | None = Field(default=None, gt=0)
    split: str = "val"
    images: int | None = Field(default=None, ge=1)  # the first so many; None takes all

    @property
    def wanted(self) -> bool:
        return self.every_epochs is not None or self.every_minutes is not None

    @model_validator(mode="after")
    def one_rhythm(self) -> ValidationSection:
        if self.every_epochs is not None and self.every_minutes is not None:
            raise ValueError("at most one of every_epochs and every_minutes can be given")
        return self


class DecodeSection(Section):
    """Settings of the decoder that travel with the network; see :class:`DecodeSettings`.

    No card is read with others: samkr_edge/model_card.py.
    """

    max_people: int = Field(default=30, ge=1)
    center_threshold: float = Field(default=0.01, le=1)
    nms_distance: float = Field(default=0.05, ge=0, le=1)
    refine_radius: int = Field(default=0, ge=0, le=8)  # the smallest map has 8 pixels
    refine_blend: float = Field(default=0.7, ge=0, le=1)


class Recipe(Section):
    """One training run."""

    name: str
    model: str | None = None  # zoo name; None fine-tunes the checkpoint that is handed in
    data: DataSection = DataSection()
    optimizer: OptimizerSection = OptimizerSection()
    schedule: ScheduleSection
    loss: LossSection = LossSection()
    validation: ValidationSection = ValidationSection()
    decode: DecodeSection = DecodeSection()
    batch_size: int = Field(default=40, ge=1)
    accumulate: int = Field(default=1, ge=1)  # batches summed into one update, over all processes
    # fp32 is IEEE float32, tf32 the same with products of ten bits on GPUs that have them; see training.precision
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    channels_last: bool = False  # memory layout; for GPUs in half precision
    compile: bool = False  # torch.compile: minutes at the start, faster steps
    ema: float | None = Field(default=None, gt=0, lt=1)
    norm_batches: int = Field(
        default=0, ge=0
    )  # batches over which final.pt's batch norm statistics are taken anew
    init: str | None = (
        None  # checkpoint whose fitting weights a run starts from; none: from scratch, on purpose
    )
    seed: int = 0
    threads: int | None = Field(default=None, ge=1)
    save_seconds: float = Field(default=30.0, gt=0)
    log_steps: int = Field(default=20, ge=1)  # updates between two lines of the log

    @model_validator(mode="after")
    def enough_for_batch_norm(self) -> Recipe:
        """Batch norm takes statistics over images and positions, of which the last branch may have one."""
        size = self.data.input_size
        if self.model and size and self.batch_size * size[0] * size[1] <= STEP**2:
            raise ValueError(f"batch_size must be at least 2 for an input of {size[0]}x{size[1]}")
        return self


_Settings = TypeVar("_Settings", bound="DataclassInstance")


def settings_of(kind: type[_Settings], section: Section) -> _Settings:
    """Settings made of the keys of the same names in a section; a setting without its key is an AttributeError."""
    return kind(**{field.name: getattr(section, field.name) for field in fields(kind)})


def taught(recipe: Recipe) -> dict[str, Any]:
    """What a network was taught, to go on its card: augmentation and targets (``data``), and the ``loss``."""
    return {
        "data": recipe.data.model_dump(mode="json", exclude=_OF_THE_MACHINE),
        "loss": recipe.loss.model_dump(mode="json"),
    }


def as_taught(recipe: Recipe, facts: dict[str, Any]) -> Recipe:
    """The recipe with the targets and the loss that its network knows, where it does not name its own.

    A network that is fine-tuned on Gaussians of another width would have to learn those first.

    Args:
        recipe: of a fine-tuning.
        facts: the ``training`` part of a card's provenance; without a record the recipe stays as it is.
    """
    changes = {
        name: {**facts[name], **getattr(recipe, name).model_dump(exclude_unset=True)}
        for name in ("data", "loss")
        if name in facts
    }
    return Recipe.model_validate({**recipe.model_dump(exclude_unset=True), **changes})


def recipe_names() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load_recipe(name: str, overrides: list[str] | None = None) -> Recipe:
    """A shipped recipe by name, or a YAML file by path; ``overrides`` are ``section.key=value``.

    A file may start from a shipped recipe, ``extends: NAME``, and then holds only what differs.

    Raises:
        SamkrError: SE-U30 no such recipe, SE-U31 not valid; an unknown key is answered with the nearest one.
    """
    content = _read(name)
    for override in overrides or []:
        _apply(content, override)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise _invalid(name, [_explain(item) for item in error.errors()[:4]]) from error


def recipe_about(name: str) -> str:
    """The first sentence of a recipe."""
    text = " ".join(line.lstrip("# ") for line in recipe_comment(name))
    return f"{text.partition('. ')[0].rstrip('.')}."


def recipe_comment(name: str) -> list[str]:
    """The lines of the comment that a recipe begins with; behind a single one, the others of the recipe it extends."""
    text = _path(name).read_text(encoding="utf-8")
    lines = list(itertools.takewhile(lambda line: line.startswith("#"), text.splitlines()))
    base = yaml.safe_load(text).get("extends")
    return lines if len(lines) > 1 or base is None else [*lines, *recipe_comment(base)[1:]]


def _path(name: str) -> Path:
    return Path(name) if name.endswith((".yaml", ".yml")) else RECIPES / f"{name}.yaml"


def _read(name: str) -> dict[str, Any]:
    """The mapping in a recipe file, what it extends included."""
    path = _path(name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        near = difflib.get_close_matches(name, recipe_names(), n=3, cutoff=0.4)
        raise SamkrError(
            "SE-U30",
            f"there is no recipe {name!r}",
            [f"nearest    {', '.join(near)}"] if near else [f"shipped    {len(recipe_names())} recipes"],
            fix="samkr-edge recipes",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _invalid(str(path), [f"reason     {words_of(error, 200)}"]) from error
    if not isinstance(content, dict):
        raise _invalid(str(path), ["expected   a mapping of sections"])
    content.setdefault("name", path.stem)
    base = content.pop("extends", None)
    if base is None:
        return content
    if base not in recipe_names() or base == path.stem:
        raise _invalid(str(path), [f"extends    {base!r}, which is no other shipped recipe"])
    return _merged(_read(base), content)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes``, section by section; a length given anew replaces the old unit."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            if key == "schedule" and not _LENGTHS.isdisjoint(value):
                old = {name: setting for name, setting in old.items() if name not in _LENGTHS}
            merged[key] = {**old, **value}
        else:
            merged[key] = value
    return merged


def _invalid(path: str, facts: list[str]) -> SamkrError:
    return SamkrError(
        "SE-U31",
        f"{path} is not a valid recipe",
        facts,
        fix="samkr-edge recipes samkr_tiny   # all settings there are, with values that hold",
    )


def _apply(content: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator:
        raise _invalid(f"--set {override}", ["expected   section.key=value, for example optimizer.lr=5e-4"])
    *sections, last = key.strip().split(".")
    place = content
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise _invalid(f"--set {override}", [f"{section} is not a section"])
    try:
        parsed = yaml.safe_load(value)  # YAML 1.1 reads 5e-4 as text; the schema makes a number of it
    except yaml.YAMLError as error:
        raise _invalid(f"--set {override}", [f"reason     {words_of(error, 200)}"]) from error
    if sections[-1:] == ["schedule"] and last in _LENGTHS:
        for other in _LENGTHS:
            place.pop(other, None)
    place[last] = parsed


def _explain(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        return f"{key or 'schedule'}: {item['msg']}"
    model: Any = Recipe
    for part in item["loc"][:-1]:
        model = model.model_fields[part].annotation
    near = difflib.get_close_matches(str(item["loc"][-1]), list(model.model_fields), n=1, cutoff=0.4)
    return f"{key}: no such key" + (f"; nearest: {near[0]}" if near else "")
