"""Matching joints to heatmap peaks: the nearest peak within reach, then the centre of its Gaussian."""

import numpy as np
import pytest

from samkr_edge.evaluation.match import absorb, fit_gaussians, match_to_heatmaps, upsample
from samkr_edge.pose.decode import ScaledMaps


def blob(x: float, y: float, side: int = 64, spread: float = 2.5, height: float = 0.8) -> np.ndarray:
    ys, xs = np.mgrid[:side, :side]
    return (height * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * spread**2))).astype(np.float32)


def test_upsampling_is_align_corners_and_repeats_the_border() -> None:
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    maps = np.random.default_rng(0).random((3, 9, 13), np.float32)
    for factor in (2, 4, 8):
        size = (8 * factor + 1, 12 * factor + 1)
        inner = F.interpolate(torch.from_numpy(maps)[None], size=size, mode="bilinear", align_corners=True)
        expected = F.pad(inner, (0, factor - 1, 0, factor - 1), mode="replicate")[0].numpy()
        np.testing.assert_allclose(upsample(maps, factor, expected.shape[1:]), expected, atol=1e-6)


def test_a_joint_moves_to_the_nearest_peak_of_its_own_map_within_reach() -> None:
    full = np.zeros((2, 200, 200), np.float32)
    full[0, 20, 30], full[0, 100, 120], full[1, 40, 40] = 0.2, 0.9, 0.5
    joints = np.array([[[40, 30], [45, 45]], [[110, 110], [190, 190]]], np.float32)
    assert absorb(full, joints).tolist() == [[[30, 20], [40, 40]], [[120, 100], [190, 190]]]


def test_the_fit_finds_centres_between_pixels_also_at_the_border() -> None:
    centers = [(20.3, 31.7), (1.4, 62.2), (40.9, 8.1)]
    full = np.stack([blob(*center) for center in centers])
    joints = np.rint(np.array([centers], np.float32)) + np.float32(1)
    joints = joints.clip(0, 63)
    fitted = fit_gaussians(full, joints, np.ones((1, 3), bool))
    np.testing.assert_allclose(fitted[0], centers, atol=1e-3)


def test_joints_of_low_score_or_without_a_response_stay() -> None:
    full = np.stack([blob(20.3, 30.2), np.zeros((64, 64), np.float32)])
    joints = np.array([[[21, 30], [10, 10]], [[22, 31], [90, 10]]], np.float32)
    chosen = np.array([[False, True], [True, True]])
    fitted = fit_gaussians(full, joints, chosen)
    assert fitted[0].tolist() == joints[0].tolist()
    assert fitted[1, 1].tolist() == [90, 10]
    np.testing.assert_allclose(fitted[1, 0], [20.3, 30.2], atol=1e-3)


def test_regressed_joints_end_at_the_peaks_of_the_mean_of_all_scales() -> None:
    maps = [
        ScaledMaps(np.stack([blob(10, 8, 32), blob(0, 0, 32)]), np.zeros((2, 32, 32), np.float32)),
        ScaledMaps(np.stack([blob(20, 16), blob(0, 0)]), np.zeros((2, 64, 64), np.float32), 2.0),
    ]
    moved = match_to_heatmaps(maps, np.array([[[47, 26]]], np.float32), np.array([[0.5]]), (128, 128), 4)
    np.testing.assert_allclose(moved, [[[40, 32]]], atol=0.2)
