"""What a recipe can say: all that decides a training run. Files are read in ``training.loop.recipe_file``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from samkr_edge.input_size import STEP, is_possible, nearest
from samkr_edge.pose.decode_settings import DECODE_LIMITS, DecodeSettings
from samkr_edge.pose.grouping_settings import GROUPING_LIMITS, GroupingSettings
from training.data.settings import AugmentSettings, Crop, Extent

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# Keys that mean something to networks of one decoding alone; others refuse them.
_OFFSETS: dict[str, Any] = {"decoding": "offsets"}
_GROUPING: dict[str, Any] = {"decoding": "grouping"}


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


_Settings = TypeVar("_Settings", bound="DataclassInstance")


def settings_of(kind: type[_Settings], section: Section) -> _Settings:
    """Settings made of the keys of the same names in a section; a setting without its key is an AttributeError."""
    return kind(**{field.name: getattr(section, field.name) for field in fields(kind)})


class DataSection(Section):
    """Augmentation and targets."""

    split: str = Field(default="train", description="the split to train on")
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
        default=0.0, ge=0, le=1, description="strength of brightness, contrast and colour changes"
    )
    crop: Crop = Field(
        default="fit",
        description="what is shown before augmentation. fit: the whole image, as `predict` and devices see it. "
        "short: the image's short side fills the input's and the ends of the long side are cut off, as in DEKR's "
        "training; people are then about as large as `--resize paper` shows them",
    )
    sigma: float = Field(
        default=2.0, ge=0.6, description="sigma of the keypoints' Gaussians, pixels of their map"
    )
    center_sigma: float = Field(
        json_schema_extra=_OFFSETS,
        default=4.0,
        ge=0.6,
        description="sigma of the person centres' Gaussians, map pixels",
    )
    offset_radius: int = Field(
        json_schema_extra=_OFFSETS,
        default=4,
        ge=1,
        description="learned within this distance of a centre in x and in y, map pixels",
    )
    background_weight: float = Field(
        json_schema_extra=_OFFSETS,
        default=0.1,
        ge=0,
        le=1,
        description="weight of the heatmap loss away from every Gaussian (`dekr`)",
    )
    offset_extent: Extent = Field(
        json_schema_extra=_OFFSETS,
        default="person",
        description="a person's offsets weigh 1 / extent. person: the diagonal of the box of the labelled joints. "
        "image: that of the box from the image's origin, as the official code has it: people at the top left weigh "
        "most. Set `loss.offset_weight` to match",
    )
    smallest_extent: float = Field(
        json_schema_extra=_OFFSETS,
        default=32.0,
        ge=1,
        description="least extent of a `person`, input pixels: a single joint has none. Meant for an input of 512; "
        "lower it for a smaller one",
    )
    smallest_person: float | None = Field(
        json_schema_extra=_OFFSETS,
        default=None,
        ge=0,
        description="people of COCO with an area below its square get no centre and no offsets, source pixels; null: "
        "32, and in images with a short side below 400 proportionally less",
    )
    max_people: int = Field(
        default=30,
        ge=1,
        json_schema_extra=_GROUPING,
        description="people of an image whose tags are learned; of more, the largest",
    )
    parity: bool = Field(
        default=False,
        description="the official code's quirks to the letter: half a pixel in the placement, biased joints of "
        "mirrored images, unlearned padding. offsets: shifted windows of offsets; implies `offset_extent: image` and, "
        "if null, `smallest_person: 32`. grouping: Gaussians around whole map pixels. Needs `crop: short`",
    )
    workers: int = Field(default=1, ge=1, le=64, description="threads that prepare batches")
    cache_mb: int = Field(default=1024, ge=0, description="cache for decoded images, MB")

    @model_validator(mode="after")
    def sensible_sizes(self) -> DataSection:
        if self.input_size is not None and not is_possible(self.input_size):
            near = list(nearest(self.input_size))
            raise ValueError(
                f"input_size must be two positive multiples of 32, height then width; nearest: {near}"
            )
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError("scale must be two positive factors, the smaller one first")
        settings_of(AugmentSettings, self)  # raises where they contradict each other
        return self


class OptimizerSection(Section):
    name: Literal["adam", "adamw"] = Field(default="adam", description="the optimizer")
    lr: float = Field(default=1e-3, gt=0, description="learning rate before the schedule")
    weight_decay: float = Field(
        default=0.0, ge=0, description="adam: added to the gradient; adamw: decoupled"
    )
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="decay of both moments")
    clip_norm: float | None = Field(
        default=None, gt=0, description="largest norm of the gradient; null: no clipping"
    )


class ScheduleSection(Section):
    """How long and how fast; exactly one of epochs, steps, minutes."""

    kind: Literal["step", "cosine", "linear"] = Field(
        default="step", description="how the learning rate falls; linear: from the end of warmup_share"
    )
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
    warmup_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="instead, share of the length over which the rate rises from a tenth of its full value, as SWAHR's",
    )
    final: float = Field(
        default=0.01, ge=0, le=1, description="cosine, linear: final rate as a share of the full one"
    )

    @model_validator(mode="after")
    def one_warmup(self) -> ScheduleSection:
        if self.warmup_steps and self.warmup_share:
            raise ValueError("at most one of warmup_steps and warmup_share can be given")
        return self

    @model_validator(mode="after")
    def one_length(self) -> ScheduleSection:
        if sum(value is not None for value in (self.epochs, self.steps, self.minutes)) != 1:
            raise ValueError("exactly one of epochs, steps and minutes must be given")
        if any(not 0 < share < 1 for share in self.milestones):
            raise ValueError("milestones are shares of the length, between 0 and 1")
        return self


class LossSection(Section):
    kind: Literal["dekr", "higherhrnet", "swahr"] | None = Field(
        default=None,
        description="loss of the heatmaps. dekr: of networks with offsets; higherhrnet: of those with tags; swahr: of "
        "either, if they have a scale branch; null: the first or the second",
    )
    heatmap_weight: float = Field(
        default=1.0, ge=0, description="factor of the heatmap loss, of both resolutions where there are two"
    )
    offset_weight: float = Field(
        json_schema_extra=_OFFSETS,
        default=0.007,
        ge=0,
        description="factor of the offset loss. The default belongs to `data.offset_extent: person`, and weighs "
        "offsets on COCO's photographs as DEKR's 0.03 does with `image`",
    )
    pull_weight: float = Field(
        default=0.001,
        ge=0,
        json_schema_extra=_GROUPING,
        description="factor of how far one person's tags are from their mean",
    )
    push_weight: float = Field(
        default=0.001,
        ge=0,
        json_schema_extra=_GROUPING,
        description="factor of how alike two people's tags are",
    )
    scale_weight: float = Field(default=1.0, ge=0, description="swahr: factor of the scales' regulariser")


class ValidationSection(Section):
    """AP during training; off unless one of the first two is given. See ``training.loop.validation``."""

    every_epochs: float | None = Field(
        default=None, gt=0, description="epochs between AP measurements, and at the end; null: never"
    )
    every_minutes: float | None = Field(
        default=None, gt=0, description="instead, minutes between AP measurements"
    )
    split: str = Field(default="val", description="the split that AP is measured on")
    images: int | None = Field(default=None, ge=1, description="only its first images, this many; null: all")

    @property
    def wanted(self) -> bool:
        return self.every_epochs is not None or self.every_minutes is not None

    @model_validator(mode="after")
    def one_rhythm(self) -> ValidationSection:
        if self.every_epochs is not None and self.every_minutes is not None:
            raise ValueError("at most one of every_epochs and every_minutes can be given")
        return self


def _limits(limits: Mapping[str, tuple[float, float]], name: str) -> dict[str, Any]:
    """The decoder's own limits of a setting, as bounds of a key."""
    return {key: limit for key, limit in zip(("ge", "le"), limits[name], strict=True) if math.isfinite(limit)}


def _of_offsets(name: str, description: str, **bounds: Any) -> Any:
    """A setting of decoding by offsets, with its own default and limits."""
    bounds = {**_limits(DECODE_LIMITS, name), **bounds}
    default = getattr(DecodeSettings, name)
    return Field(default=default, description=description, json_schema_extra=_OFFSETS, **bounds)


def _of_grouping(name: str, description: str, **default: None) -> Any:
    """A setting of decoding by grouping, with its own limits and, if no other is given, its own default."""
    bounds = _limits(GROUPING_LIMITS, name) if name in GROUPING_LIMITS else {}
    value = default.get("default", getattr(GroupingSettings, name))
    return Field(default=value, description=description, json_schema_extra=_GROUPING, **bounds)


class DecodeSection(Section):
    """Settings of the decoder that travel with the network; see ``DecodeSettings`` and ``GroupingSettings``."""

    max_people: int = Field(
        default=DecodeSettings.max_people, ge=1, description="largest number of people found in an image"
    )
    center_threshold: float = _of_offsets("center_threshold", "lowest value of a person's centre")
    nms_distance: float = _of_offsets(
        "nms_distance", "two joints are near below this share of the pose's diagonal"
    )
    refine_radius: int = _of_offsets(
        "refine_radius",
        "a joint moves to its heatmap's peak within this reach, map pixels; 0: as regressed",
        le=8,  # the smallest map has 8 pixels
    )
    refine_blend: float = _of_offsets("refine_blend", "share of the way it moves, 1: onto the peak")
    candidates: int | None = _of_grouping(
        "candidates",
        "highest peaks of each keypoint that are considered; null: as many as `max_people`",
        default=None,
    )
    joint_threshold: float = _of_grouping("joint_threshold", "a peak is a joint above this value")
    tag_threshold: float = _of_grouping(
        "tag_threshold", "a joint belongs to a person whose mean tag is nearer to its own than this"
    )
    adjust: bool = _of_grouping("adjust", "joints move a quarter of a map pixel towards the higher neighbour")
    refine: bool = _of_grouping(
        "refine", "a person's missing joints are looked for where heatmap and tags speak for them"
    )

    @model_validator(mode="after")
    def enough_people(self) -> DecodeSection:
        self.grouping()
        return self

    def offsets(self, keypoints: int) -> DecodeSettings:
        """Of decoding by offsets; for COCO's 17 keypoints and CrowdPose's 14, DEKR's 8 and 7 near joints."""
        own = {
            field.name: getattr(self, field.name)
            for field in fields(DecodeSettings)
            if field.name != "nms_joints"
        }
        return DecodeSettings(**own, nms_joints=round(keypoints * 8 / 17))

    def grouping(self) -> GroupingSettings:
        """Of decoding by grouping."""
        candidates = self.max_people if self.candidates is None else self.candidates
        return settings_of(GroupingSettings, self.model_copy(update={"candidates": candidates}))


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
    batch_size: int = Field(default=40, ge=1, description="images per batch, in each process")
    accumulate: int = Field(default=1, ge=1, description="batches summed into one update, over all processes")
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = Field(
        default="auto",
        description="fp32: IEEE float32. tf32: its products have ten bits on GPUs that support it. auto: bf16 where "
        "hardware multiplies it, else fp32",
    )
    channels_last: bool = Field(default=False, description="memory layout, for GPUs in half precision")
    compile: bool = Field(default=False, description="torch.compile: minutes at the start, faster steps")
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="decay of the moving average of the weights; null: the last weights",
    )
    norm_batches: int = Field(
        default=0, ge=0, description="batches over which final.pt's batch norm statistics are re-estimated"
    )
    init: str | None = Field(
        default=None,
        description="checkpoint or zoo:NAME whose fitting weights a run starts from; `none`: from scratch, on purpose; "
        "null: the same, and an error where papers start from ImageNet weights",
    )
    seed: int = Field(default=0, description="seed of weights, order and augmentation")
    threads: int | None = Field(default=None, ge=1, description="CPU threads; null: what is fastest")
    save_seconds: float = Field(default=30.0, gt=0, description="seconds between two saves of last.pt")
    log_steps: int = Field(default=20, ge=1, description="updates between two log lines")

    @model_validator(mode="after")
    def enough_for_batch_norm(self) -> Recipe:
        """Batch norm needs two values a channel, and the last branch may have a single position per image."""
        size = self.data.input_size
        if self.model and size and self.batch_size * size[0] * size[1] <= STEP**2:
            raise ValueError(f"batch_size must be at least 2 for an input of {size[0]}x{size[1]}")
        return self


def foreign_keys(recipe: Recipe, decoding: str) -> list[str]:
    """Keys, as ``section.key``, that the recipe sets and that mean nothing to a network of this decoding."""
    return [
        f"{section}.{key}"
        for section, marked in decoding_keys().items()
        for key, own in marked.items()
        if own != decoding and key in getattr(recipe, section).model_fields_set
    ]


def own_keys(recipe: Recipe, decoding: str | None) -> dict[str, Any]:
    """The recipe as JSON, without the keys that mean nothing to networks of this decoding.

    Args:
        decoding: None: unknown, as of a recipe that fine-tunes any network; what it sets is kept.
    """
    content = recipe.model_dump(mode="json")
    for section, marked in decoding_keys().items():
        known = getattr(recipe, section).model_fields_set if decoding is None else ()
        for key, own in marked.items():
            if own != decoding and key not in known:
                del content[section][key]
    return content


def decoding_keys() -> dict[str, dict[str, str]]:
    """The keys that mean something to networks of one decoding alone: section -> key -> decoding."""
    marked: dict[str, dict[str, str]] = {}
    for section, field in Recipe.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            for key, inner in field.annotation.model_fields.items():
                if isinstance(extra := inner.json_schema_extra, dict) and "decoding" in extra:
                    marked.setdefault(section, {})[key] = str(extra["decoding"])
    return marked
