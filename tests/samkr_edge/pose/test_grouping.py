"""Grouping finds the people that the official code finds, and no place of the map is better than where a joint is put.

``tests/data/grouping_coco.npz`` holds what the official code (HigherHRNet-Human-Pose-Estimation, group.py) made of
four pairs of maps: the people as they were matched, adjusted and refined. Of the maps themselves it holds the peaks
above the threshold, for every missing joint the twelve best places and what is next to the best, and the tags there;
elsewhere the maps that are made again here are 0, and their tags like nobody's. What grouping does with whole maps is
compared with ``benchmarks.host.plain_grouping``, which reads like the official code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.host.grouping import crowd_maps
from benchmarks.host.plain_grouping import plain_group
from samkr_edge.errors import SamkrError
from samkr_edge.pose import missing_joints
from samkr_edge.pose.grouping import group, match_peaks, placed
from samkr_edge.pose.grouping_settings import GroupingSettings
from samkr_edge.pose.poses import Poses
from samkr_edge.pose.responses import enlarged_tags, find_responses

OFFICIAL = np.load(Path(__file__).parents[2] / "data" / "grouping_coco.npz")


def official_case(number: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Heatmap (K, h, w) and tag (K, h, w, T) of a case, and all that is known of it."""
    known = {name.split("/")[1]: OFFICIAL[name] for name in OFFICIAL if name.startswith(f"{number}/")}
    heatmap = np.zeros(known["shape"], np.float32)
    tag = np.full((*known["shape"], known["tags"].shape[1]), 1e4, np.float32)
    heatmap.ravel()[known["where"]] = known["heat"]
    tag.reshape(-1, tag.shape[-1])[known["places"]] = known["tags"]
    return heatmap, tag, known


@pytest.mark.parametrize("number", range(4))
def test_people_are_the_official_codes(number: int) -> None:
    heatmap, tag, known = official_case(number)
    settings = GroupingSettings(joint_threshold=float(known["threshold"]))
    responses = find_responses(heatmap, tag, settings)
    groups = match_peaks(responses, heatmap.shape[1:], settings)
    assert groups.values.shape == known["matched"].shape[:2]
    np.testing.assert_allclose(groups.joints, known["matched"][..., :2], atol=1e-3)
    np.testing.assert_allclose(groups.values, known["matched"][..., 2], atol=1e-4)
    there = known["adjusted"][..., 2] > 0
    adjusted = placed(heatmap, groups.joints, np.ones(groups.values.shape, np.bool_))
    np.testing.assert_allclose(adjusted[there], known["adjusted"][..., :2][there], atol=1e-3)
    poses = group(heatmap, tag, settings, 1)
    np.testing.assert_allclose(poses.scores, np.sort(known["scores"])[::-1], atol=1e-4)
    expected = known["poses"][np.argsort(-known["scores"], kind="stable")]
    np.testing.assert_allclose(poses.keypoints, expected[..., :2], atol=1e-3)
    np.testing.assert_allclose(poses.joint_scores, expected[..., 2], atol=1e-3)


def random_maps(rng: np.random.Generator, kind: str, keypoints: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps of sizes and contents that no network gives, too: float32 (K, h, w) and (K, H, W, T)."""
    h, w = rng.integers(3, 70, 2)
    numbers, factor = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    heatmap = rng.normal(0.05, 0.05, (keypoints, h, w))
    tag = rng.normal(0, 1.5, (keypoints, -(-h // factor), -(-w // factor), numbers))
    if kind == "ties":
        heatmap, tag = np.round(heatmap, 1), np.round(tag)
    if kind == "spread":
        tag *= 20
    if kind == "below zero":
        heatmap[rng.integers(keypoints)] = -0.1 - np.abs(heatmap[0])
    if kind == "people":
        side = int(rng.integers(40, 90))
        return crowd_maps(int(rng.integers(1, 9)), side, side // 2, numbers, seed=int(rng.integers(1 << 30)))
    return heatmap.astype(np.float32), tag.astype(np.float32)


def in_any_order(poses: np.ndarray) -> np.ndarray:
    """Poses (P, K, 3) of x, y and value, sorted by all they hold; a joint without a value has no place."""
    rows = np.where(poses[..., 2:] > 0, poses, 0).reshape(len(poses), 3 * poses.shape[1]).round(5)
    return rows[np.lexsort(rows.T)]


@pytest.mark.parametrize("keypoints", [1, 14, 17, 21])
@pytest.mark.parametrize("kind", ["noise", "ties", "spread", "below zero", "people"])
def test_every_joint_is_where_the_plain_procedure_puts_it(kind: str, keypoints: int) -> None:
    rng = np.random.default_rng(keypoints)
    seen = 0
    for turn in range(4):
        settings = GroupingSettings(max_people=1000, adjust=turn > 0)
        heatmap, tag = random_maps(rng, kind, keypoints)
        expected, scores = plain_group(heatmap, tag, settings)
        found = group(heatmap, tag, settings, 1)
        seen += len(found)
        np.testing.assert_allclose(found.scores, np.sort(scores)[::-1], atol=1e-6)
        ours = np.concatenate([found.keypoints, found.joint_scores[..., None]], axis=2)
        np.testing.assert_allclose(in_any_order(ours), in_any_order(expected), atol=1e-4)
    assert seen or kind == "below zero"


@pytest.mark.parametrize("limit", [missing_joints._AT_A_TIME, 100])
def test_a_missing_joint_is_found_in_the_same_place_whatever_fits_into_memory(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(missing_joints, "_AT_A_TIME", limit)
    rng = np.random.default_rng(0)
    heatmap, tag = rng.normal(0, 0.1, (3, 37, 50)).astype(np.float32), rng.normal(0, 3, (3, 37, 50, 2))
    tag = tag.astype(np.float32)
    there = np.array([[True, False, False], [False, True, False]] * 4)
    tags = rng.normal(0, 3, (8, 3, 2)).astype(np.float32)
    responses = find_responses(heatmap, tag, GroupingSettings())
    people, keypoints, places = missing_joints.find_missing(
        heatmap, tag, responses, there, tags * there[..., None]
    )
    assert len(people) == 16
    for person, k, (x, y) in zip(people, keypoints, places, strict=True):
        apart = np.linalg.norm(tag[k] - tags[person][there[person]].mean(axis=0), axis=2)
        value = heatmap[k] - np.rint(apart)
        assert (y, x) == np.unravel_index(value.argmax(), value.shape)


@pytest.mark.parametrize("shape", [(17, 3, 4), (1, 1, 1), (14, 8, 8)])
def test_maps_without_a_peak_hold_nobody(shape: tuple[int, int, int]) -> None:
    nothing = np.zeros(shape, np.float32)
    assert group(nothing, nothing, GroupingSettings()) == Poses.empty(shape[0])


def test_a_map_full_of_equal_values_ends() -> None:
    flat = np.full((2, 20, 20), 0.5, np.float32)
    poses = group(flat, np.arange(800, dtype=np.float32).reshape(2, 20, 20) / 10, GroupingSettings(), 1)
    assert 0 < len(poses) <= 30


def test_coordinates_are_of_the_network_input() -> None:
    heatmap, tag = np.zeros((1, 8, 8), np.float32), np.zeros((1, 4, 4), np.float32)
    heatmap[0, 2, 5], heatmap[0, 2, 6], heatmap[0, 1, 5] = 0.9, 0.3, 0.2
    (pose,) = group(heatmap, tag, GroupingSettings(), 2).keypoints
    assert pose.tolist() == [[2 * 5.75, 2 * 2.25]]
    (pose,) = group(heatmap, tag, GroupingSettings(adjust=False), 2).keypoints
    assert pose.tolist() == [[11, 5]]


def test_the_best_people_are_kept_and_a_joint_of_nobody_is_in_their_middle() -> None:
    heatmap, tag = np.full((3, 40, 40), -0.1, np.float32), np.zeros((3, 40, 40), np.float32)
    for person in range(3):
        for k in range(2):
            heatmap[k, 10 * person + 5, 10 * k + 5] = 0.9 - 0.1 * person
            tag[k, 10 * person + 5, 10 * k + 5] = 4 * person
    poses = group(heatmap, tag, GroupingSettings(candidates=2, max_people=2, adjust=False), 1)
    np.testing.assert_allclose(poses.scores, [0.6, 0.8 * 2 / 3], rtol=1e-6)
    assert poses.joint_scores[:, 2].tolist() == [0, 0]
    assert poses.keypoints[0].tolist() == [[5.5, 5.5], [15.5, 5.5], [10.5, 5.5]]


def test_what_is_off_is_not_done() -> None:
    heatmap, tag = crowd_maps(4, 64, 32, 1)
    whole = group(heatmap, tag, GroupingSettings())
    bare = group(heatmap, tag, GroupingSettings(refine=False))
    assert (whole.joint_scores > 0).all()
    assert (bare.joint_scores == 0).any()
    assert (bare.joint_scores[bare.joint_scores > 0] > 0.1).all()


def test_tags_are_enlarged_as_torch_enlarges() -> None:
    torch: Any = pytest.importorskip("torch")
    tag = np.random.default_rng(0).normal(size=(2, 5, 7, 2)).astype(np.float32)
    planes = torch.from_numpy(tag).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(planes, size=(10, 14), mode="bilinear", align_corners=False)
    found = np.stack([enlarged_tags(one, (10, 14)) for one in tag])
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1), atol=1e-6)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, 3e38, -1e30])
@pytest.mark.parametrize("which", ["heatmap", "tag"])
def test_what_is_not_finite_or_cannot_be_summed_is_one_error(which: str, broken: float) -> None:
    maps = {"heatmap": np.zeros((2, 8, 8), np.float32), "tag": np.zeros((2, 4, 4), np.float32)}
    maps[which][1, 2, 3] = broken
    with pytest.raises(SamkrError, match="NaN or infinity"):
        group(maps["heatmap"], maps["tag"], GroupingSettings())


def test_peaks_are_the_highest_of_their_neighbourhood_best_first() -> None:
    heatmap = np.zeros((12, 12), np.float32)
    heatmap[2, 3], heatmap[2, 5], heatmap[8, 9], heatmap[11, 0] = 0.5, 0.4, 0.9, 0.05
    tag = np.zeros((1, 6, 6, 1), np.float32)
    responses = find_responses(heatmap[None], tag, GroupingSettings())
    assert responses.places[responses.peaks].tolist() == [8 * 12 + 9, 2 * 12 + 3]
    assert responses.values[responses.peaks].tolist() == [np.float32(0.9), np.float32(0.5)]
    assert len(find_responses(heatmap[None], tag, GroupingSettings(candidates=1)).peaks) == 1
