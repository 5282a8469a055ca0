"""A build is judged by what quantization itself does to the maps: as far away is sound, further is not."""

import numpy as np

from samkr_edge.build.agreement import FLOAT_ERROR, compare

RANDOM = np.random.default_rng(0)
MAPS = [RANDOM.normal(size=(1, 4, 8, 8)).astype(np.float32) for _ in range(2)]


def moved(by: float, seed: int) -> list[np.ndarray]:
    """The maps with a relative L2 error of ``by``."""
    noise = [np.random.default_rng(seed + i).normal(size=maps.shape) for i, maps in enumerate(MAPS)]
    return [m + by * n * np.linalg.norm(m) / np.linalg.norm(n) for m, n in zip(MAPS, noise, strict=True)]


def test_a_float_build_may_differ_by_rounding_only() -> None:
    assert compare(MAPS, moved(FLOAT_ERROR * 0.9, 1), MAPS).holds
    assert not compare(MAPS, moved(FLOAT_ERROR * 1.1, 1), MAPS).holds


def test_a_quantized_build_may_be_as_far_away_as_quantization_is() -> None:
    unquantized = moved(0.3, 1)
    judged = compare(MAPS, moved(0.4, 3), unquantized)
    assert judged.holds
    assert np.allclose(judged.errors, 0.4, atol=1e-6)
    assert not compare(MAPS, moved(0.9, 3), unquantized).holds


def test_nan_never_agrees() -> None:
    broken = [MAPS[0], np.full_like(MAPS[1], np.nan)]
    judged = compare(MAPS, broken, moved(0.5, 1))
    assert not judged.holds
    assert "offset" in judged.facts()[1]
