from __future__ import annotations

import numpy as np
import pytest

from samkr_edge.pose.decode import decode
from samkr_edge.pose.decode_settings import DecodeSettings
from training.data.encode import encode, person_centers, person_size
from training.data.settings import EncodeSettings

# Two people of three keypoints whose centres are three pixels apart; the last keypoint of the first is unlabelled.
JOINTS = np.array(
    [[[4.3, 5.2, 2], [9.1, 6.4, 1], [0, 0, 0]], [[8.2, 9.7, 2], [9.9, 5.1, 2], [10.2, 8.0, 2]]], np.float64
)
AREAS = np.array([400.0, 100.0])


def _looped_heatmap(
    joints: np.ndarray, centers: np.ndarray, size: int, settings: EncodeSettings
) -> np.ndarray:
    """The definition, pixel by pixel."""
    channels = joints.shape[1] + 1
    maps = np.zeros((channels, size, size))
    for person, center in zip(joints, centers, strict=True):
        for channel, (x, y, v) in enumerate([*person, center]):
            sigma = settings.center_sigma if channel == channels - 1 else settings.sigma
            if v <= 0 or not (0 <= x < size and 0 <= y < size):
                continue
            for row in range(size):
                for column in range(size):
                    in_x = np.floor(x - 3 * sigma - 1) <= column < np.ceil(x + 3 * sigma + 2)
                    in_y = np.floor(y - 3 * sigma - 1) <= row < np.ceil(y + 3 * sigma + 2)
                    if in_x and in_y:
                        value = np.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * sigma**2))
                        maps[channel, row, column] = max(maps[channel, row, column], value)
    return maps


def test_heatmap_and_mask_follow_the_definition() -> None:
    settings = EncodeSettings(sigma=1.0, center_sigma=1.5, offset_radius=2)
    targets = encode(JOINTS, AREAS, None, (24, 24), settings)
    expected = _looped_heatmap(JOINTS, person_centers(JOINTS), 24, settings)
    np.testing.assert_allclose(targets.heatmap, expected, atol=1e-6)
    np.testing.assert_array_equal(targets.mask, np.where(expected > 0, np.float32(1), np.float32(0.1)))


def test_invalid_area_has_no_heatmap_loss() -> None:
    valid = np.ones((24, 24), np.float32)
    valid[:, :6] = 0
    mask = encode(JOINTS, AREAS, valid, (24, 24), EncodeSettings()).mask
    assert not mask[:, :, :6].any()
    assert (mask[:, :, 6:] > 0).all()


def test_an_offset_leads_from_its_location_to_the_joint() -> None:
    targets = encode(
        JOINTS[:1], AREAS[:1], None, (24, 24), EncodeSettings(offset_radius=2, smallest_extent=8)
    )
    offset, weight = targets.offset.reshape(3, 2, 24, 24), targets.offset_weight.reshape(3, 2, 24, 24)
    for keypoint in (0, 1):
        rows, columns = np.nonzero(weight[keypoint, 0])
        assert len(rows) > 9
        np.testing.assert_allclose(
            columns - offset[keypoint, 0, rows, columns], JOINTS[0, keypoint, 0], atol=1e-5
        )
        np.testing.assert_allclose(
            rows - offset[keypoint, 1, rows, columns], JOINTS[0, keypoint, 1], atol=1e-5
        )
        np.testing.assert_allclose(weight[keypoint, :, rows, columns], 1 / 20)
    assert not weight[2].any()


def test_a_person_with_one_labelled_joint_weighs_no_more_than_a_small_one() -> None:
    joints = np.array([[[12.0, 12.0, 2], [0, 0, 0], [0, 0, 0]]])
    assert person_size(joints)[0] == 0

    def weight(area: float, settings: EncodeSettings) -> float:
        return float(encode(joints, np.array([area]), None, (24, 24), settings).offset_weight.max())

    assert weight(0, EncodeSettings()) == pytest.approx(1 / 32)
    assert weight(0, EncodeSettings(smallest_extent=8)) == pytest.approx(1 / 8)
    assert weight(40.0**2, EncodeSettings()) == pytest.approx(1 / 40)
    # The official extents are no sizes: only the division by nothing is prevented.
    assert weight(5.0**2, EncodeSettings(offset_extent="image")) == pytest.approx(1 / 5)


def test_parity_implies_the_official_extent_and_limit() -> None:
    settings = EncodeSettings(parity=True)
    assert (settings.offset_extent, settings.smallest_person) == ("image", 32.0)
    assert EncodeSettings(parity=True, smallest_person=20).smallest_person == 20


def test_offsets_are_learned_symmetrically_about_the_centre() -> None:
    joints = np.array([[[10.0, 12.0, 2], [11.0, 13.0, 2]]])  # centre (10.5, 12.5)
    weight = encode(joints, AREAS[:1], None, (24, 24), EncodeSettings(offset_radius=3)).offset_weight[0]
    rows, columns = np.nonzero(weight)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (8, 13, 10, 15)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_where_windows_meet_the_smaller_person_wins_in_any_order(order: list[int]) -> None:
    settings = EncodeSettings(offset_radius=4)
    both = encode(JOINTS[order], AREAS[order], None, (24, 24), settings)
    small = encode(JOINTS[1:], AREAS[1:], None, (24, 24), settings)
    held = small.offset_weight > 0
    np.testing.assert_array_equal(both.offset_weight[held], small.offset_weight[held])
    np.testing.assert_array_equal(both.offset[held], small.offset[held])
    assert ((both.offset_weight > 0) & ~held).any()


def test_nobody_and_people_without_labels_give_empty_targets() -> None:
    for joints in (np.zeros((0, 3, 3)), np.zeros((1, 3, 3))):
        targets = encode(joints, np.ones(len(joints)), None, (8, 8), EncodeSettings())
        assert not targets.heatmap.any()
        assert not targets.offset_weight.any()
        np.testing.assert_array_equal(targets.mask, np.float32(0.1))


def test_a_person_without_a_centre_keeps_keypoints_only() -> None:
    centers = person_centers(JOINTS)
    centers[0, 2] = 0
    targets = encode(JOINTS[:1], AREAS[:1], None, (24, 24), EncodeSettings(), centers=centers[:1])
    assert targets.heatmap[0].any()
    assert not targets.heatmap[-1].any()
    assert not targets.offset_weight.any()


def test_a_centre_outside_the_map_gives_no_offsets() -> None:
    joints = np.array([[[-9.0, 4, 2], [1.0, 4, 2]]])
    targets = encode(joints, AREAS[:1], None, (16, 16), EncodeSettings())
    assert not targets.offset_weight.any()
    assert targets.heatmap[1].any()


def test_parity_reproduces_the_quirks_of_the_official_code() -> None:
    settings = EncodeSettings(sigma=1.0, center_sigma=3.0, offset_radius=2, parity=True)
    targets = encode(JOINTS[:1], AREAS[:1], None, (24, 24), settings)
    narrow = EncodeSettings(sigma=1.0, center_sigma=1.0)
    np.testing.assert_allclose(
        targets.heatmap, _looped_heatmap(JOINTS[:1], person_centers(JOINTS[:1]), 24, narrow), atol=1e-6
    )
    rows, columns = np.nonzero(targets.offset_weight[0])  # centre (6.7, 5.8)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (4, 7, 3, 6)
    assert person_centers(np.zeros((1, 3, 3)), parity=True).tolist() == [[0, 0, 1]]
    assert person_size(JOINTS[:1], "image")[0] == pytest.approx(9.1**2 + 6.4**2)
    assert person_size(JOINTS[:1])[0] == pytest.approx(4.8**2 + 1.2**2)


def test_parity_keeps_the_first_persons_offsets_where_float32_rounds_down() -> None:
    joints = np.repeat(JOINTS[1:], 2, axis=0)
    joints[1, :, 0] += 1
    rounds_down = 3671.1361
    assert float(np.float32(rounds_down)) < rounds_down
    settings = EncodeSettings(offset_radius=2, parity=True)
    weight = encode(joints, np.array([5000.0, rounds_down]), None, (24, 24), settings).offset_weight[::2]
    overlap = (slice(6, 8), slice(9, 11))
    np.testing.assert_allclose(weight[0][overlap], rounds_down**-0.5, rtol=1e-6)
    np.testing.assert_allclose(weight[1][overlap], 5000**-0.5, rtol=1e-6)


def test_decoding_the_targets_gives_the_people_back() -> None:
    rng = np.random.default_rng(3)
    joints = np.concatenate((rng.uniform(-6, 6, (2, 14, 2)), np.full((2, 14, 1), 2)), axis=2)
    joints[0, :, :2] += (9, 10)
    joints[1, :, :2] += (23, 22)
    targets = encode(
        joints, np.full(2, 2000.0), None, (32, 32), EncodeSettings(sigma=1, center_sigma=1.5, offset_radius=2)
    )
    poses = decode(targets.heatmap, targets.offset, DecodeSettings())
    assert len(poses) == 2
    for person in joints:
        distance = np.abs(poses.keypoints / 4 - person[:, :2]).max(axis=(1, 2))
        assert distance.min() < 0.02
