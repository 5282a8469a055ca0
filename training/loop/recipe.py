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

RECIPES = Path(__file__).parents[1] / "recipes"
_LENGTHS = {"epochs", "steps", "minutes"}
# Settings of `data` that say nothing about what is learned.
_OF_THE_MACHINE = {"split", "workers", "cache_mb"}


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataSection(Section):
    """Augmentation and targets."""

    split: str = Field(default="train", description="the split that is learned from")
    input_size: tuple[int, int] | None = Field(
        default=None, description="height and width of the network input, multiples of 32; null: the model's"
    )
    rotation: float = Field(default=30.0, ge=0, description="largest angle either way, degrees")
    scale: tuple[float, float] = Field(
        default=(0.75, 1.5),
        description="least and largest size of the cut-out relative to `crop`; above 1 people get smaller",
    )
    translation: float = Field(
        default=0.2, ge=0, description="largest shift in x and in y, as a share of the input's short side"
    )
    flip: float = Field(default=0.5, ge=0, le=1, description="probability of mirroring")
    jitter: float = Field(
        default=0.0, ge=0, le=1, description="strength of changes of brightness, contrast and colour"
    )
    crop: Literal["fit", "short"] = Field(
        default="fit",
        description="what is shown before anything is varied. fit: the whole image, as `predict` and devices see it. "
        "short: the image's short side fills the input's and the ends of the long side are cut off, as in DEKR's "
        "training; people are then about as large as `--resize paper` shows them",
    )
    sigma: float = Field(default=2.0, ge=0.6, description="of the keypoints' Gaussians, map pixels")
    center_sigma: float = Field(
        default=4.0, ge=0.6, description="of the person centres' Gaussians, map pixels"
    )
    offset_radius: int = Field(
        default=4, ge=1, description="offsets are learned this near to a centre in x and in y, map pixels"
    )
    background_weight: float = Field(
        default=0.1, ge=0, le=1, description="weight of the heatmap loss away from every Gaussian (`dekr`)"
    )
    offset_extent: Literal["person", "image"] = Field(
        default="person",
        description="a person's offsets weigh 1 / extent. person: the diagonal of the box of the labelled joints. "
        "image: that of the box from the image's origin, as the official code has it: who stands at the top left "
        "weighs most. `loss.offset_weight` belongs to it",
    )
    smallest_extent: float = Field(
        default=32.0,
        ge=1,
        description="no extent of a `person` counts as less, input pixels: a single joint has none. Meant for an "
        "input of 512; less for a smaller one",
    )
    smallest_person: float | None = Field(
        default=None,
        ge=0,
        description="people of COCO with an area below its square get no centre and no offsets, source pixels; null: "
        "32, and in images with a short side below 400 proportionally less",
    )
    parity: bool = Field(
        default=False,
        description="the official code's quirks to the letter: half a pixel in the placement, biased joints of "
        "mirrored images, shifted windows of offsets, unlearned padding. Needs `crop: short`, implies "
        "`offset_extent: image` and, if null, `smallest_person: 32`",
    )
    workers: int = Field(default=1, ge=1, le=64, description="threads that make batches")
    cache_mb: int = Field(default=1024, ge=0, description="room for decoded images, MB")

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
    name: Literal["adam", "adamw"] = Field(default="adam", description="the optimizer")
    lr: float = Field(default=1e-3, gt=0, description="learning rate before the schedule")
    weight_decay: float = Field(
        default=0.0, ge=0, description="adam: added to the gradient; adamw: decoupled"
    )
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="decay of both moments")
    clip_norm: float | None = Field(
        default=None, gt=0, description="largest norm of the gradient; null: it is not clipped"
    )


class ScheduleSection(Section):
    """How long and how fast; exactly one of epochs, steps, minutes."""

    kind: Literal["step", "cosine"] = Field(default="step", description="how the learning rate falls")
    epochs: int | None = Field(default=None, ge=1, description="length; one of epochs, steps and minutes")
    steps: int | None = Field(default=None, ge=1, description="length in updates of the weights")
    minutes: float | None = Field(default=None, gt=0, description="length in minutes of training")
    milestones: tuple[float, ...] = Field(
        default=(), description="step: shares of the length at which the rate is multiplied by gamma, 0 to 1"
    )
    gamma: float = Field(default=0.1, description="step: factor at each milestone")
    warmup_steps: int = Field(
        default=0, ge=0, description="updates over which the rate rises to its full value"
    )
    final: float = Field(default=0.01, ge=0, le=1, description="cosine: last rate as a share of the first")

    @model_validator(mode="after")
    def one_length(self) -> ScheduleSection:
        if sum(value is not None for value in (self.epochs, self.steps, self.minutes)) != 1:
            raise ValueError("exactly one of epochs, steps and minutes must be given")
        if any(not 0 < share < 1 for share in self.milestones):
            raise ValueError("milestones are shares of the length, between 0 and 1")
        return self


class LossSection(Section):
    kind: Literal["dekr", "swahr"] = Field(
        default="dekr", description="of the heatmaps; swahr needs a model with a scale branch"
    )
    heatmap_weight: float = Field(default=1.0, ge=0, description="factor of the heatmap loss")
    offset_weight: float = Field(
        default=0.007,
        ge=0,
        description="factor of the offset loss. The default belongs to `data.offset_extent: person`, and weighs "
        "offsets on COCO's photographs as DEKR's 0.03 does with `image`",
    )
    scale_weight: float = Field(default=1.0, ge=0, description="swahr: factor of the scales' regulariser")


class ValidationSection(Section):
    """AP during training; off unless one of the first two is given. See ``training.loop.validation``."""

    every_epochs: float | None = Field(
        default=None, gt=0, description="AP after so many epochs, and at the end; null: never"
    )
    every_minutes: float | None = Field(
        default=None, gt=0, description="in its place, AP after so many minutes"
    )
    split: str = Field(default="val", description="the split that AP is measured on")
    images: int | None = Field(default=None, ge=1, description="its first so many images; null: all")

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

    max_people: int = Field(default=30, ge=1, description="most people that are found in an image")
    center_threshold: float = Field(default=0.01, le=1, description="least value of a person's centre")
    nms_distance: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="two joints are near below this share of the pose's diagonal",
    )
    refine_radius: int = Field(
        default=0,
        ge=0,
        le=8,  # the smallest map has 8 pixels
        description="a joint moves to its heatmap's peak within this reach, map pixels; 0: as regressed",
    )
    refine_blend: float = Field(
        default=0.7, ge=0, le=1, description="share of the way that it moves, 1: onto the peak"
    )


class Recipe(Section):
    """One training run."""

    name: str = Field(description="goes onto the card; a file's own name where it has none")
    model: str | None = Field(
        default=None, description="the network, by its name in the zoo; null: `qat` fine-tunes a checkpoint"
    )
    data: DataSection = DataSection()
    optimizer: OptimizerSection = OptimizerSection()
    schedule: ScheduleSection
    loss: LossSection = LossSection()
    validation: ValidationSection = ValidationSection()
    decode: DecodeSection = DecodeSection()
    batch_size: int = Field(default=40, ge=1, description="images in a batch, of each process")
    accumulate: int = Field(default=1, ge=1, description="batches summed into one update, over all processes")
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = Field(
        default="auto",
        description="fp32: IEEE float32. tf32: its products have ten bits on GPUs that have such. auto: bf16 where "
        "hardware multiplies it, else fp32",
    )
    channels_last: bool = Field(default=False, description="memory layout, for GPUs in half precision")
    compile: bool = Field(default=False, description="torch.compile: minutes at the start, faster steps")
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="decay of the average of weights that is kept; null: the last weights",
    )
    norm_batches: int = Field(
        default=0, ge=0, description="batches over which final.pt's batch norm statistics are taken anew"
    )
    init: str | None = Field(
        default=None,
        description="checkpoint whose fitting weights a run starts from; `none`: from scratch, on purpose; null: "
        "the same, and an error where papers start from ImageNet weights",
    )
    seed: int = Field(default=0, description="of weights, order and augmentation")
    threads: int | None = Field(default=None, ge=1, description="of the CPU; null: what is fastest")
    save_seconds: float = Field(default=30.0, gt=0, description="time between two writings of last.pt")
    log_steps: int = Field(default=20, ge=1, description="updates between two lines of the log")

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

    Raises:
        SamkrError: SE-U31 what the recipe names contradicts the record.
    """
    changes: dict[str, Any] = {
        name: {**facts[name], **getattr(recipe, name).model_dump(exclude_unset=True)}
        for name in ("data", "loss")
        if isinstance(facts.get(name), dict)
    }
    if "data" in changes:  # cards are older than some keys
        changes["data"].setdefault("smallest_extent", 1.0)
        if changes["data"].get("parity"):
            changes["data"].setdefault("crop", "short")
    named = f"{recipe.name}, with data and loss from the network's card," if changes else recipe.name
    return _validated({**recipe.model_dump(exclude_unset=True), **changes}, named)


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
    return _validated(content, name)


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


def _validated(content: dict[str, Any], name: str) -> Recipe:
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise _invalid(name, dict(map(_explain, error.errors()[:4]))) from error


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
            {"nearest": ", ".join(near)} if near else {"shipped": f"{len(recipe_names())} recipes"},
            fix="samkr-edge recipes",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _invalid(str(path), {"reason": words_of(error, 200)}) from error
    if not isinstance(content, dict):
        raise _invalid(str(path), {"expected": "a mapping of sections"})
    content.setdefault("name", path.stem)
    base = content.pop("extends", None)
    if base is None:
        return content
    if base not in recipe_names() or path == RECIPES / f"{base}.yaml":
        raise _invalid(str(path), {"extends": f"{base!r}, which is no other shipped recipe"})
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


def _invalid(path: str, facts: dict[str, str]) -> SamkrError:
    return SamkrError(
        "SE-U31",
        f"{path} is not a valid recipe",
        facts,
        fix="samkr-edge recipes samkr_tiny   # all settings there are, with values that hold",
    )


def _apply(content: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator:
        raise _invalid(f"--set {override}", {"expected": "section.key=value, for example optimizer.lr=5e-4"})
    *sections, last = key.strip().split(".")
    place = content
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise _invalid(f"--set {override}", {section: "is not a section"})
    try:
        parsed = yaml.safe_load(value)  # YAML 1.1 reads 5e-4 as text; the schema makes a number of it
    except yaml.YAMLError as error:
        raise _invalid(f"--set {override}", {"reason": words_of(error, 200)}) from error
    if sections[-1:] == ["schedule"] and last in _LENGTHS:
        for other in _LENGTHS:
            place.pop(other, None)
    place[last] = parsed


def _explain(item: Any) -> tuple[str, str]:
    """A setting and what is wrong with it."""
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        return key or "schedule", item["msg"]
    model: Any = Recipe
    for part in item["loc"][:-1]:
        model = model.model_fields[part].annotation
    near = difflib.get_close_matches(str(item["loc"][-1]), list(model.model_fields), n=1, cutoff=0.4)
    return key, "no such key" + (f"; nearest: {near[0]}" if near else "")
