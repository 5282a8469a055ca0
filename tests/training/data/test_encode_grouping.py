"""Targets of the networks with tags: the official code's in parity, sub-pixel ones by default."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.data.augment import Placement
from training.data.encode_grouping import gaussians, tag_places
from training.data.settings import GroupingEncodeSettings
from training.data.targets import PeopleToLearn, draw_targets, shows_anybody

# Of the official generators: people of three joints on a map of 16 x 16, some of them outside.
OFFICIAL = np.load(Path(__file__).parents[2] / "data" / "grouping_targets.npz")
PARITY = GroupingEncodeSettings(parity=True, max_people=5)


def by_person(places: np.ndarray) -> list[list[int]]:
    """Places of each person's visible joints; the order of neither means anything."""
    return sorted(sorted(person[person[:, 1] > 0, 0].tolist()) for person in places if person[:, 1].any())


@pytest.mark.parametrize("sigma", [2, 1.5])
def test_in_parity_the_gaussians_are_the_official_ones_to_the_bit(sigma: float) -> None:
    settings = GroupingEncodeSettings(sigma=sigma, parity=True)
    found = gaussians(OFFICIAL["joints"], (16, 16), settings)
    np.testing.assert_array_equal(found, OFFICIAL[f"heatmap_{sigma}"])
    assert found.dtype == np.float32


def test_in_parity_the_places_of_tags_are_the_official_ones() -> None:
    assert by_person(tag_places(OFFICIAL["joints"], (16, 16), PARITY)) == by_person(OFFICIAL["places"])


def test_a_gaussian_stands_around_the_sub_pixel_joint_and_the_largest_wins() -> None:
    settings = GroupingEncodeSettings(sigma=1.0)
    joints = np.array([[[4.3, 6.8, 2.0], [0, 0, 0]], [[7.1, 6.0, 1.0], [11.4, 2.0, 2.0]]])
    found = gaussians(joints, (9, 12), settings)
    expected = np.zeros((2, 9, 12))
    for k, x, y in ((0, 4.3, 6.8), (0, 7.1, 6.0), (1, 11.4, 2.0)):
        for row in range(9):
            for column in range(12):
                in_x = np.floor(x - 4) <= column < np.ceil(x + 5)
                in_y = np.floor(y - 4) <= row < np.ceil(y + 5)
                value = np.exp(-((column - x) ** 2 + (row - y) ** 2) / 2) if in_x and in_y else 0
                expected[k, row, column] = max(expected[k, row, column], value)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(found > 0, expected > 0)


def test_a_tag_is_at_the_pixel_that_shows_the_joint() -> None:
    joints = np.array([[[-0.4, 0.6, 2.0], [7.4, 3.4, 1.0], [7.6, 0.0, 2.0], [1.0, 1.0, 0.0]]])
    places = tag_places(joints, (4, 8), GroupingEncodeSettings(max_people=2))
    assert places.shape == (2, 4, 2)
    assert places[0].tolist() == [[8, 1], [32 + 3 * 8 + 7, 1], [0, 0], [0, 0]]
    assert not places[1].any()


def test_of_too_many_people_the_smallest_are_left_out_and_their_heatmaps_stay() -> None:
    sides = [3.0, 1.0, 5.0, 2.0]
    joints = np.array([[[4 * n, 2, 2], [4 * n + side, 2, 2]] for n, side in enumerate(sides)], float)
    settings = GroupingEncodeSettings(max_people=2)
    places = tag_places(joints, (8, 24), settings)
    assert by_person(places) == [[2 * 24, 8 * 24 + 2 * 24 + 3], [2 * 24 + 8, 8 * 24 + 2 * 24 + 13]]
    assert (gaussians(joints, (8, 24), settings)[0, 2, [0, 4, 8, 12]] == 1).all()


def test_both_resolutions_see_the_same_joint_and_the_same_mask() -> None:
    """A joint in the middle of a block of 8 input pixels: at stride 4 between two pixels, at stride 2 too."""
    joints = np.array([[[20.0, 44.0, 2.0]]])
    outline = [[32.0, 0, 64, 0, 64, 64, 32, 64]]
    people = PeopleToLearn(joints, np.ones(1, np.bool_), (outline,))
    placement = Placement(np.eye(2, 3), mirrored=False)
    targets = draw_targets(people, (64, 64), placement, (64, 64), (0,), GroupingEncodeSettings(sigma=1.0))
    for end, stride in (("_low", 4), ("", 2)):
        heatmap, valid = targets[f"heatmap{end}"][0], targets[f"valid{end}"][0]
        x, y = 20 // stride, 44 // stride
        around = heatmap[y - 1 : y + 1, x - 1 : x + 1]
        assert around == pytest.approx(np.full((2, 2), np.exp(-0.25)))
        np.testing.assert_array_equal(valid[0], np.arange(64 // stride) < 32 // stride)
    assert targets["joints"][0, 0].tolist() == [11 * 16 + 5, 1]


def test_in_parity_a_mirrored_mask_is_the_mask_mirrored_and_padding_is_not_learned() -> None:
    outline = [[8.0, 0, 24, 0, 24, 64, 8, 64]]
    people = PeopleToLearn(np.zeros((0, 1, 3)), np.ones(0, np.bool_), (outline,))
    half = np.array([[0.5, 0, 0], [0, 0.5, 0]])
    mirrored = np.array([[-0.5, 0, 63], [0, 0.5, 0]])
    plain, flipped = (
        draw_targets(people, (64, 64), Placement(matrix, flip), (64, 64), (0,), PARITY)
        for matrix, flip in ((half, False), (mirrored, True))
    )
    for name in ("valid_low", "valid"):
        np.testing.assert_array_equal(flipped[name], plain[name][:, :, ::-1])
        size = plain[name].shape[-1]
        assert not plain[name][0, :, size // 2 + 1 :].any()
        assert plain[name][0, 0, [0, size // 2 - 2]].all()


def test_an_image_without_a_visible_joint_shows_nobody() -> None:
    import torch

    places = torch.zeros(3, 2, 2, dtype=torch.int64)
    assert not shows_anybody({"joints": places, "heatmap": torch.ones(2, 4, 4)})
    places[2, 1] = torch.tensor([0, 1])
    assert shows_anybody({"joints": places, "heatmap": torch.ones(2, 4, 4)})


def test_impossible_settings_are_refused() -> None:
    for settings in ({"sigma": 0.5}, {"max_people": 0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            GroupingEncodeSettings(**settings)  # type: ignore[arg-type]
