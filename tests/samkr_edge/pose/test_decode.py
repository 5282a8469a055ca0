"""Decoding finds the people that were drawn into the maps, and equals a plain loop."""

from dataclasses import replace

import numpy as np
import pytest

from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.grouping_protocol import TaggedMaps, group_scales
from samkr_edge.evaluation.paper_protocol import mirror_mean
from samkr_edge.pose.decode import ScaledMaps, decode, decode_scales, find_peaks, refine, sample, suppress
from samkr_edge.pose.decode_settings import DecodeSettings
from samkr_edge.pose.grouping_settings import GroupingSettings

H, W, K = 24, 32, 5


def maps_of(people: list[np.ndarray], centers: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Perfect maps for joints (K, 2) in map pixels around integer centres (x, y)."""
    heatmap = np.zeros((K + 1, H, W), np.float32)
    offset = np.zeros((2 * K, H, W), np.float32)
    ys, xs = np.mgrid[:H, :W]
    for joints, (cx, cy) in zip(people, centers, strict=True):
        for channel, (x, y) in enumerate([*joints, (cx, cy)]):
            heatmap[channel] = np.maximum(heatmap[channel], np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 2))
        for k, (x, y) in enumerate(joints):
            offset[2 * k, cy, cx], offset[2 * k + 1, cy, cx] = cx - x, cy - y
    return heatmap, offset


def two_people() -> tuple[list[np.ndarray], list[tuple[int, int]]]:
    random = np.random.default_rng(0)
    centers = [(8, 10), (22, 12)]
    return [np.array(c) + random.uniform(-5, 5, (K, 2)) for c in centers], centers


def test_people_drawn_into_the_maps_are_found_where_they_are() -> None:
    people, centers = two_people()
    poses = decode(*maps_of(people, centers), DecodeSettings(nms_joints=2))
    assert len(poses) == 2
    found = sorted(poses.keypoints.tolist())
    expected = sorted((np.array(people) * 4).tolist())
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_poses_come_best_first() -> None:
    people, centers = two_people()
    heatmap, offset = maps_of(people, centers)
    heatmap[-1] *= np.where(np.arange(W) < 15, 0.5, 1.0)
    poses = decode(heatmap, offset, DecodeSettings(nms_joints=2))
    assert poses.scores[0] > poses.scores[1]
    assert poses.keypoints[0, :, 0].mean() > poses.keypoints[1, :, 0].mean()


def test_empty_maps_give_no_poses() -> None:
    poses = decode(np.zeros((K + 1, H, W), np.float32), np.zeros((2 * K, H, W), np.float32), DecodeSettings())
    assert len(poses) == 0
    assert poses.keypoints.shape == (0, K, 2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("broken", [np.nan, np.inf, 3e38, -1e30])
@pytest.mark.parametrize("where", ["heatmap", "offset"])
def test_what_is_not_finite_or_cannot_be_summed_is_an_error_not_a_pose(where: str, broken: float) -> None:
    people, centers = two_people()
    heatmap, offset = maps_of(people, centers)
    (heatmap[:-1] if where == "heatmap" else offset)[:] = broken
    with pytest.raises(SamkrError) as caught:
        decode(heatmap, offset, DecodeSettings())
    assert caught.value.code == "SE-A20"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scales", [1, 2])
def test_maps_that_cannot_be_summed_are_refused_with_flip_and_scales_too(scales: int) -> None:
    people, centers = two_people()
    heatmap, offset = maps_of(people, centers)
    heatmap *= np.float32(3e38)
    heatmap, offset = mirror_mean(heatmap, offset, heatmap[..., ::-1], offset, tuple(range(K)))
    with pytest.raises(SamkrError, match="NaN or infinity"):
        decode_scales(
            [ScaledMaps(heatmap, offset, float(scale + 1)) for scale in range(scales)], DecodeSettings()
        )
    found = TaggedMaps([heatmap, heatmap], [offset[:K, ::2, ::2]] * 2, 1.0)
    with pytest.raises(SamkrError, match="NaN or infinity"):
        group_scales(
            [found] + [replace(found, scale=2.0)] * (scales - 1), GroupingSettings(), (2 * H, 2 * W), 2
        )


@pytest.mark.filterwarnings("error")
def test_what_a_joint_is_pulled_to_cannot_be_infinite() -> None:
    people, centers = two_people()
    heatmap, offset = maps_of(people, centers)
    heatmap[0, 0, 0] = 3e38
    offset[:2] = np.mgrid[:H, :W][::-1] - 1.0
    with pytest.raises(SamkrError, match="NaN or infinity"):
        decode(heatmap, offset, DecodeSettings(refine_radius=1))


def test_the_same_person_seen_twice_is_kept_once() -> None:
    joints = np.random.default_rng(1).uniform(0, 20, (K, 2)).astype(np.float32)
    candidates = np.stack([joints, joints + 0.1, joints + 9])
    kept = suppress(candidates, np.array([0.4, 0.9, 0.5]), DecodeSettings(nms_joints=2))
    assert kept.tolist() == [1, 2]


def test_near_is_a_distance_not_one_for_each_axis() -> None:
    joints = np.random.default_rng(1).uniform(0, 20, (K, 2)).astype(np.float32)
    reach = 0.05 * np.hypot(*np.ptp(joints, axis=0))
    for share, expected in ((0.69, [0]), (0.73, [0, 1])):  # of the reach, on both axes; 0.707 is the limit
        pair = np.stack([joints, joints + np.float32(share * reach)])
        assert suppress(pair, np.array([0.9, 0.4]), DecodeSettings(nms_joints=2)).tolist() == expected


def test_a_person_without_extent_does_not_break_the_nms() -> None:
    assert suppress(np.full((1, K, 2), 3.0), np.array([0.5]), DecodeSettings()).tolist() == [0]


def test_peaks_are_local_maxima_above_the_threshold_best_first() -> None:
    center = np.zeros((H, W), np.float32)
    center[5, 6], center[5, 7], center[20, 30], center[2, 2] = 0.9, 0.8, 0.95, 0.005
    places, values = find_peaks(center, DecodeSettings())
    assert places.tolist() == [[30, 20], [6, 5]]
    assert values.tolist() == pytest.approx([0.95, 0.9])


def test_at_most_max_people_are_returned() -> None:
    center = np.zeros((H, W), np.float32)
    center[::3, ::3] = 0.5
    assert len(find_peaks(center, DecodeSettings(max_people=7))[0]) == 7


def test_heat_values_are_bilinear_at_quarter_pixels_and_clamped_to_the_map() -> None:
    maps = np.arange(H * W, dtype=np.float32).reshape(1, H, W)
    joints = np.array([[[2.6, 3.0]], [[-9.0, 1.0]], [[99.0, 99.0]]])
    assert sample(maps, joints).ravel().tolist() == [3 * W + 2.5, W, H * W - 1]


def test_heat_values_equal_a_plain_loop_for_any_number_of_maps() -> None:
    random = np.random.default_rng(0)
    maps = random.uniform(0, 1, (2000, H, W)).astype(np.float32)  # more rows than OpenCV resamples at once
    joints = random.uniform(-4, 36, (3, 2000, 2)).astype(np.float32)
    found = sample(maps, joints)
    for p in range(3):
        for k in range(0, 2000, 7):
            x, y = np.clip(np.floor(joints[p, k] * 4) / 4, 0, (W - 1, H - 1))
            left, top = int(x), int(y)
            around = maps[k, top : top + 2, left : left + 2].astype(float)
            rows = around @ ([1.0] if around.shape[1] == 1 else [1 - x + left, x - left])
            value = rows[0] if len(rows) == 1 else rows[0] * (1 - y + top) + rows[1] * (y - top)
            assert found[p, k] == pytest.approx(value, abs=1e-6)


def refine_by_loops(maps: np.ndarray, joints: np.ndarray, radius: int, blend: float) -> np.ndarray:
    moved = joints.astype(float)
    for p, k in np.ndindex(joints.shape[:2]):
        cx, cy = np.rint(joints[p, k]).astype(int)
        total = sum_x = sum_y = 0.0
        for y in range(max(cy - radius, 0), min(cy + radius + 1, H)):
            for x in range(max(cx - radius, 0), min(cx + radius + 1, W)):
                weight = max(float(maps[k, y, x]), 0.0) ** 2
                total, sum_x, sum_y = total + weight, sum_x + weight * x, sum_y + weight * y
        if total:
            share = blend * min(total / 0.05, 1.0)
            moved[p, k] += share * (np.array([sum_x, sum_y]) / total - moved[p, k])
    return moved


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_refinement_equals_a_plain_loop_also_at_the_border_and_far_outside(radius: int) -> None:
    random = np.random.default_rng(radius)
    maps = random.uniform(-0.2, 0.4, (K, H, W)).astype(np.float32)
    joints = random.uniform(-8, 40, (9, K, 2)).astype(np.float32)
    joints[0] = [[1e12, 3], [-1e12, 3], [5, 1e12], [5, -1e12], [-0.5, H - 0.5]]
    expected = refine_by_loops(maps, joints, radius, 0.7)
    np.testing.assert_allclose(refine(maps, joints, radius, 0.7), expected, rtol=1e-6, atol=1e-4)
    inside = np.clip(joints, radius, (W - 1 - radius, H - 1 - radius))
    np.testing.assert_allclose(
        refine(maps, inside, radius, 0.7), refine_by_loops(maps, inside, radius, 0.7), atol=1e-4
    )


def test_refinement_pulls_a_joint_to_its_peak_and_leaves_it_where_there_is_none() -> None:
    ys, xs = np.mgrid[:H, :W]
    peak = np.exp(-((xs - 10.3) ** 2 + (ys - 8.2) ** 2) / 2).astype(np.float32)
    maps = np.stack([peak, np.zeros_like(peak)])
    joints = np.array([[[11.2, 7.6], [11.2, 7.6]]], np.float32)
    refined = refine(maps, joints, radius=2, blend=1.0)
    assert np.linalg.norm(refined[0, 0] - [10.3, 8.2]) < 0.35 * np.linalg.norm(joints[0, 0] - [10.3, 8.2])
    assert refined[0, 1].tolist() == joints[0, 1].tolist()


def test_no_joints_have_no_values() -> None:
    assert sample(np.ones((3, 8, 8), np.float32), np.zeros((0, 3, 2))).shape == (0, 3)
