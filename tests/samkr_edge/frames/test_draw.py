"""Overlays are drawn into images alone, and in place only where OpenCV can write."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from samkr_edge.frames.draw import draw_poses, draw_status, enlarge
from samkr_edge.pose.poses import Poses
from samkr_edge.pose.skeleton import COCO17, CROWDPOSE14


def person() -> Poses:
    joints = np.random.default_rng(0).uniform(5, 60, (1, 17, 2)).astype(np.float32)
    return Poses(joints, np.ones((1, 17), np.float32), np.ones(1, np.float32))


def ground() -> np.ndarray:
    return np.full((64, 96, 3), 40, np.uint8)


DRAWING: list[Callable[[np.ndarray], object]] = [
    lambda image: draw_poses(image, person(), COCO17),
    lambda image: draw_poses(image, Poses.empty(17), COCO17),
    lambda image: enlarge(image, person()),
    lambda image: draw_status(image, "25 fps"),
]


@pytest.mark.parametrize("draw", DRAWING)
@pytest.mark.parametrize("image", [None, "a.jpg", ground()[..., 0], ground() / 255, ground()[:0]])
def test_what_is_no_image_is_not_drawn_into(draw: Callable[[np.ndarray], object], image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected an image"):
        draw(image)


def read_only() -> np.ndarray:
    image = ground()
    image.flags.writeable = False
    return image


@pytest.mark.parametrize("image", [read_only(), ground()[:, ::-1]])
def test_in_place_needs_an_image_that_can_be_written_to_and_a_copy_does_not(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="in place"):
        draw_poses(image, person(), COCO17, in_place=True)
    with pytest.raises(ValueError, match="in place"):
        draw_status(image, "25 fps")
    assert (draw_poses(image, person(), COCO17) != image).any()
    assert (image == 40).all()


def test_poses_are_not_drawn_with_the_bones_of_another_skeleton() -> None:
    with pytest.raises(ValueError, match="poses of 17 joints, a skeleton of 14"):
        draw_poses(ground(), person(), CROWDPOSE14)
