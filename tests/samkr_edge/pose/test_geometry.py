"""Coordinates survive the way to the network's input and back."""

import numpy as np
import pytest

from samkr_edge.pose.geometry import apply, fit_matrix, invert, warp


@pytest.mark.parametrize("source", [(480, 640), (640, 480), (33, 77), (1, 1), (5000, 300)])
def test_points_come_back_where_they_were(source: tuple[int, int]) -> None:
    matrix = fit_matrix(source, (128, 192))
    points = np.random.default_rng(0).uniform(0, 1, (20, 2)) * (source[1] - 1, source[0] - 1)
    there = apply(matrix, points)
    assert there.min() >= -0.5  # the outer edge of the first pixel
    assert (there <= (191.5, 127.5)).all()
    np.testing.assert_allclose(apply(invert(matrix), there), points, rtol=1e-4, atol=2e-2)


def test_a_bright_pixel_lands_where_the_matrix_says() -> None:
    image = np.zeros((100, 160, 3), np.uint8)
    image[40:43, 90:93] = 255
    matrix = fit_matrix((100, 160), (64, 96))
    warped = warp(image, matrix, (64, 96))
    ys, xs = np.nonzero(warped[..., 0])
    weights = warped[ys, xs, 0].astype(float)
    found = np.array([(xs * weights).sum(), (ys * weights).sum()]) / weights.sum()
    np.testing.assert_allclose(found, apply(matrix, np.array([91.0, 41.0])), atol=0.15)


def test_strong_reduction_averages_and_does_not_skip_pixels() -> None:
    checkers = (np.indices((1024, 1024)).sum(axis=0) % 2 * 255).astype(np.uint8)
    image = np.repeat(checkers[..., None], 3, axis=2)
    small = warp(image, fit_matrix((1024, 1024), (64, 64)), (64, 64))
    assert abs(float(small[8:-8, 8:-8].mean()) - 127.5) < 2
    assert small[8:-8, 8:-8].std() < 3


def test_the_whole_image_is_inside_and_the_rest_is_black() -> None:
    image = np.full((50, 100, 3), 200, np.uint8)
    warped = warp(image, fit_matrix((50, 100), (64, 64)), (64, 64))
    assert (warped[20:44] > 0).any(axis=2).mean() > 0.95
    assert warped[:10].max() == 0
    assert warped[-10:].max() == 0
