"""Ranges from what a quantizer sees: each calibrator does what its name says, however the data comes in pieces."""

import numpy as np
import pytest
import torch

from calibration.ranges import PERCENTILE, SMALLEST, ActivationRange, weight_range


def found(method: str, data: torch.Tensor, *, bits: int = 8, pieces: int = 1) -> float:
    quantizer = ActivationRange(method, bits)
    for piece in data.chunk(pieces):
        quantizer.collect(piece[None])
    amax = quantizer.compute_amax()
    assert amax is not None
    return float(amax)


def found_in_images(method: str, images: torch.Tensor) -> float:
    quantizer = ActivationRange(method, 8)
    for batch in images.chunk(5):
        quantizer.collect(batch)
    amax = quantizer.compute_amax()
    assert amax is not None
    return float(amax)


def error(data: torch.Tensor, amax: float, bits: int) -> float:
    bound = 2 ** (bits - 1) - 1
    rounded = (data * bound / amax).round().clamp(-bound - 1, bound) * amax / bound
    return float((rounded - data).square().mean())


@pytest.fixture(scope="module")
def normal() -> torch.Tensor:
    return torch.randn(200_000, generator=torch.Generator().manual_seed(0))


def test_max_is_the_largest_magnitude(normal: torch.Tensor) -> None:
    assert found("max", normal, pieces=7) == float(normal.abs().max())


def test_percentile_is_that_quantile(normal: torch.Tensor) -> None:
    expected = np.quantile(normal.abs().numpy(), PERCENTILE / 100)
    assert found("percentile", normal) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("bits", [4, 8])
def test_no_other_range_has_a_smaller_squared_error_than_mse_finds(normal: torch.Tensor, bits: int) -> None:
    amax = found("mse", normal, bits=bits)
    least = min(error(normal, width, bits) for width in np.linspace(0.5, 5, 91))
    assert error(normal, amax, bits) <= 1.02 * least


def test_fewer_bits_clip_more(normal: torch.Tensor) -> None:
    for method in ("mse", "entropy"):
        assert found(method, normal, bits=4) < found(method, normal, bits=8) <= float(normal.abs().max())


@pytest.mark.parametrize("method", ["percentile", "mse", "entropy"])
def test_one_far_outlier_is_clipped(normal: torch.Tensor, method: str) -> None:
    assert found(method, torch.cat([normal, torch.tensor([20.0])])) < 15


@pytest.mark.parametrize("method", ["percentile", "mse", "entropy"])
def test_the_order_and_size_of_pieces_hardly_matter(normal: torch.Tensor, method: str) -> None:
    # The range of the histogram has to grow again and again; no piece is so far out as to be set aside.
    growing = torch.cat([(0.5 + i / 49) * piece for i, piece in enumerate(normal.chunk(50))])
    assert found(method, growing, pieces=50) == pytest.approx(found(method, growing), rel=0.05)


@pytest.mark.parametrize("method", ["max", "percentile", "mse", "entropy"])
def test_an_image_that_explodes_is_set_aside(normal: torch.Tensor, method: str) -> None:
    images = normal.view(20, 1, 100, 100)
    exploding = images.clone()
    exploding[7] *= 20
    # Its histogram has grown coarse, so that only about the same range is found.
    assert found_in_images(method, exploding) == pytest.approx(found_in_images(method, images), rel=0.3)


@pytest.mark.parametrize("method", ["max", "percentile", "mse", "entropy"])
def test_a_tensor_of_zeros_and_no_tensor_at_all_have_no_made_up_range(method: str) -> None:
    assert found(method, torch.zeros(100)) == 0.0
    assert ActivationRange(method, 8).compute_amax() is None


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_broken_value_is_not_forgotten(normal: torch.Tensor, broken: float) -> None:
    data = torch.cat([normal, torch.tensor([broken]), normal])
    assert not np.isfinite(found("mse", data, pieces=9))


def test_weights_have_a_range_per_channel_or_one() -> None:
    weight = torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    weight[2] = 0
    channel = weight_range(weight, "max", 8, "channel")
    assert channel.shape == (6, 1, 1, 1)
    assert float(channel[2]) == pytest.approx(SMALLEST)
    assert float(channel[1]) == float(weight[1].abs().max())
    assert weight_range(weight, "max", 8, "tensor").shape == ()


def test_mse_clips_weights_where_that_helps() -> None:
    weight = torch.randn(4, 64, 3, 3, generator=torch.Generator().manual_seed(0))
    for before, after, channel in zip(
        weight_range(weight, "max", 4, "channel"),
        weight_range(weight, "mse", 4, "channel"),
        weight,
        strict=True,
    ):
        assert after < before
        assert error(channel, float(after), 4) < error(channel, float(before), 4)
