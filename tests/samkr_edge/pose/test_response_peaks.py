"""Peaks are the pixels that no other within two rows and columns exceeds, wherever in the map they lie."""

import numpy as np
import pytest

from samkr_edge.pose.response_peaks import peaks_among


def plainly(heatmap: np.ndarray, threshold: float) -> list[int]:
    """Row-major places of all peaks, by looking at each neighbourhood."""
    found = []
    for place, (k, y, x) in enumerate(np.ndindex(heatmap.shape)):
        around = heatmap[k, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
        if heatmap[k, y, x] > threshold and heatmap[k, y, x] == around.max():
            found.append(place)
    return found


def found_in(heatmap: np.ndarray, level: float, threshold: float) -> list[int]:
    places = np.flatnonzero(heatmap.ravel() >= level)
    peaks = peaks_among(heatmap, places, heatmap.ravel()[places], threshold)
    return places[peaks].tolist()


@pytest.mark.parametrize("share", [0.02, 0.2, 1.0])
@pytest.mark.parametrize("steps", [2, 1000])
def test_they_are_those_of_every_neighbourhood(share: float, steps: int) -> None:
    rng = np.random.default_rng(steps)
    seen = 0
    for _ in range(40):
        shape = (int(rng.integers(1, 5)), *rng.integers(1, 14, 2))
        heatmap = (rng.integers(0, steps, shape) / steps * (rng.random(shape) < share)).astype(np.float32)
        expected = plainly(heatmap, 0.3)
        assert found_in(heatmap, 0.1, 0.3) == expected
        assert found_in(heatmap, 0.3, 0.3) == expected
        seen += len(expected)
    assert seen


def test_a_line_does_not_go_on_in_the_next_nor_a_map_in_the_next() -> None:
    heatmap = np.zeros((2, 3, 9), np.float32)
    heatmap[0, 0, 8], heatmap[0, 1, 0] = 0.5, 0.9  # neighbours in memory
    heatmap[0, 2, 4], heatmap[1, 0, 4] = 0.8, 0.4
    assert found_in(heatmap, 0.1, 0.3) == [8, 9, 22, 31]
    assert found_in(heatmap[:, ::-1, ::-1].copy(), 0.1, 0.3) == [4, 17, 18, 49]


def test_all_of_a_plateau_are_peaks_and_the_threshold_is_none() -> None:
    heatmap = np.full((1, 4, 4), 0.5, np.float32)
    assert found_in(heatmap, 0.1, 0.3) == list(range(16))
    assert found_in(heatmap, 0.1, 0.5) == []
    assert found_in(np.zeros((3, 4, 4), np.float32), 0.1, 0.3) == []
