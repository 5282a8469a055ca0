"""What a sample teaches: the targets of a network that decodes by offsets, or of one that groups by tags.

Which of the two is decided by the class of the settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from training.data.augment import Placement, place_joints
from training.data.encode import Points, encode, person_centers, person_size
from training.data.encode_grouping import gaussians, tag_places
from training.data.settings import EncodeSettings, GroupingEncodeSettings
from training.data.valid_area import known_area, valid_area

STRIDE = 4

TargetSettings: TypeAlias = EncodeSettings | GroupingEncodeSettings


@dataclass(frozen=True)
class PeopleToLearn:
    """The people of an image, before it is opened.

    Attributes:
        joints: (P, K, 3) x, y, v, source pixels.
        has_center: (P,) whether the person is large enough for a centre.
        ignored: segmentations of crowds and of people without keypoints.
    """

    joints: Points
    has_center: npt.NDArray[np.bool_]
    ignored: tuple[Any, ...]


def draw_targets(
    people: PeopleToLearn,
    source_hw: tuple[int, int],
    placement: Placement,
    input_hw: tuple[int, int],
    flip_order: tuple[int, ...],
    settings: TargetSettings,
) -> dict[str, npt.NDArray[Any]]:
    """The targets of one image as it is shown, (C, h, w) and others by name; ``TrainingSet`` lists them.

    Args:
        people: who is in it.
        source_hw: its height and width.
        placement: how it is shown.
        input_hw: height and width of the network input.
        flip_order: of the keypoints, for a mirrored image.
        settings: their class decides which targets.
    """
    draw = _of_tags if isinstance(settings, GroupingEncodeSettings) else _of_offsets
    return draw(people, source_hw, placement, input_hw, flip_order, settings)  # type: ignore[arg-type]


def shows_anybody(sample: dict[str, Tensor]) -> bool:
    """Whether a sample, tensors of any shape by name, shows a person's centre, or a joint with a tag."""
    learned = sample["joints"][..., 1] if "joints" in sample else sample["heatmap"][-1]
    return bool(learned.numpy().any())


def _of_offsets(
    people: PeopleToLearn,
    source_hw: tuple[int, int],
    placement: Placement,
    input_hw: tuple[int, int],
    flip_order: tuple[int, ...],
    settings: EncodeSettings,
) -> dict[str, npt.NDArray[Any]]:
    joints = place_joints(people.joints, placement, flip_order, STRIDE, parity=settings.parity)
    centers = person_centers(joints, parity=settings.parity)
    centers[~people.has_center, 2] = 0
    areas = person_size(people.joints, settings.offset_extent) * placement.squared_scale
    map_hw = (input_hw[0] // STRIDE, input_hw[1] // STRIDE)
    known = known_area(source_hw, people.ignored)
    valid = valid_area(known, placement.matrix / STRIDE, map_hw, padding=not settings.parity)
    return encode(joints, areas, valid, map_hw, settings, centers=centers)._asdict()


def _of_tags(
    people: PeopleToLearn,
    source_hw: tuple[int, int],
    placement: Placement,
    input_hw: tuple[int, int],
    flip_order: tuple[int, ...],
    settings: GroupingEncodeSettings,
) -> dict[str, npt.NDArray[Any]]:
    known = known_area(source_hw, people.ignored)
    targets: dict[str, npt.NDArray[Any]] = {}
    for end, stride in (("_low", STRIDE), ("", STRIDE // 2)):
        map_hw = (input_hw[0] // stride, input_hw[1] // stride)
        matrix = placement.matrix / stride
        joints = place_joints(people.joints, placement, flip_order, stride, parity=settings.parity)
        if not settings.parity:
            joints[..., :2] -= 0.5
            matrix[:, 2] -= 0.5
        elif placement.mirrored:
            matrix[0, 2] -= (
                1 - 1 / stride
            )  # the official code mirrors the mask's pixels, as it does the joints
        targets[f"heatmap{end}"] = gaussians(joints, map_hw, settings)
        targets[f"valid{end}"] = valid_area(known, matrix, map_hw, padding=not settings.parity)[None]
        if stride == STRIDE:
            targets["joints"] = tag_places(joints, map_hw, settings)
    return targets
