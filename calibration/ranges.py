"""From what a quantizer sees to its range: the four calibrators.

``max`` takes the largest magnitude. The other three look at a histogram of magnitudes and clip rare large values:
``percentile`` all above the 99.99th, ``entropy`` where the quantized distribution diverges least from the true one
(Kullback-Leibler; Migacz, "8-bit Inference with TensorRT", GTC 2017), ``mse`` where the mean squared error is least.

A network that has been trained briefly can explode on a rare image: its activations, ten times all others', would
widen every range, and at 8 bits nothing of the other images would be left (measured: 44.7 AP became 0.0). Each
quantizer therefore sets images aside whose largest value is more than ``OUTLIER`` times the median image's.

They are our own, behind ModelOpt's interface of a calibrator: ModelOpt 0.47's histogram ``mse`` passes its bits in the
wrong place and finds ranges ten times too small, and its ``entropy`` needs seconds a quantizer.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from modelopt.torch.quantization.calib import _Calibrator
from torch import Tensor

BINS = 2048
PERCENTILE = 99.99
# An image whose largest value exceeds the median image's by this factor has no say.
OUTLIER = 3.0
# The narrowest range that entropy considers, in bins: with fewer bins than levels every range would be exact.
FIRST_BIN = 128
# Shares of the largest weight that `mse` tries for weights.
WEIGHT_SHARES = np.linspace(0.4, 1.0, 31)
# A dead channel has no range; a scale of zero does not parse.
SMALLEST = 1e-6
# Steps of a bias, of the 2**31 that int32 has: three bits are left to a build that makes steps finer (unsigned
# activations have twice as many), to a bias that grows while fine-tuning, and to the sum that starts there.
LARGEST_BIAS = 2.0**28


class ActivationRange(_Calibrator):
    """What one activation quantizer saw; ``method`` is one of the four names above."""

    def __init__(self, method: str, bits: int) -> None:
        super().__init__(num_bits=bits)
        self.method = method
        self.bits = bits
        self.reset()

    def reset(self) -> None:
        self.maxima: list[float] = []
        self.top = SMALLEST
        self.counts = np.zeros(BINS, np.int64)

    @torch.no_grad()
    def collect(self, x: Tensor) -> None:
        """Called by the quantizer with every tensor (N, ...), one image each."""
        magnitude = x.detach().abs()
        maxima = magnitude.flatten(1).amax(1).tolist()
        self.maxima += maxima
        largest = max(maxima)
        if self.method == "max" or not math.isfinite(sum(maxima)):
            return
        while self.top < largest:
            # Twice the range in as many bins: neighbours are merged, nothing is counted again.
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2, np.int64)])
            self.top *= 2
        found = torch.histc(magnitude.float(), BINS, min=0.0, max=self.top)
        self.counts += found.cpu().numpy().astype(np.int64)

    def compute_amax(self) -> Tensor | None:
        """The range, a scalar (), None when nothing was seen."""
        if not self.maxima:
            return None
        total = sum(self.maxima)
        if not math.isfinite(total):
            return torch.tensor(total)  # the range then says that the network is broken
        largest = self._largest()
        if self.method == "max":
            return torch.tensor(largest)
        counts = self.counts.copy()
        counts[math.ceil(largest / self.top * BINS) :] = 0
        bins = {"percentile": _percentile_bins, "entropy": _entropy_bins, "mse": _mse_bins}[self.method](
            counts, self.bits
        )
        return torch.tensor(min(bins * self.top / BINS, largest))

    def _largest(self) -> float:
        """The largest value of the images that are not set aside."""
        middle = float(np.median(self.maxima))
        return max(m for m in self.maxima if m <= OUTLIER * middle) if middle > 0 else max(self.maxima)


def weight_range(weight: Tensor, method: str, bits: int, granularity: str) -> Tensor:
    """Range of a weight (O, I, h, w): (O, 1, 1, 1) per ``channel``, a scalar per ``tensor``.

    Weights are few and all known: only ``mse`` clips them, the other methods take the largest.
    """
    weight = weight.detach()
    dims = tuple(range(1, weight.ndim)) if granularity == "channel" else tuple(range(weight.ndim))
    keep = granularity == "channel"
    largest = weight.abs().amax(dims, keepdim=keep).clamp(min=SMALLEST)
    if method != "mse":
        return largest
    best, least = largest, torch.full_like(largest, math.inf)
    bound = 2 ** (bits - 1) - 1
    for share in WEIGHT_SHARES:
        amax = largest * float(share)
        rounded = (weight * (bound / amax)).round().clamp(-bound - 1, bound) * (amax / bound)
        error = (rounded - weight).square().sum(dims, keepdim=keep)
        best, least = torch.where(error < least, amax, best), torch.minimum(error, least)
    return best


def range_for_bias(bias: Tensor, input_range: Tensor, bits: int, input_bits: int) -> Tensor:
    """The narrowest ranges (O,) of weights at which a bias (O,) is a number of steps that int32 holds.

    Integer kernels start their sum from the bias in steps of input scale times weight scale. Where a channel's weights
    are dead and its bias lives, the weights' own range makes these steps so fine that the bias would be clipped.
    ``input_range`` is a scalar.
    """
    levels = (2 ** (bits - 1) - 1) * (2 ** (input_bits - 1) - 1)
    return bias.detach().abs() * levels / (input_range * LARGEST_BIAS)


def _percentile_bins(counts: np.ndarray, _bits: int) -> float:
    cumulated = np.cumsum(counts)
    return float(np.searchsorted(cumulated, PERCENTILE / 100 * cumulated[-1]) + 1)


def _candidates(counts: np.ndarray, first: int) -> list[int]:
    """Widths in bins to try, up to 256 of them; the last holds all that was counted."""
    used = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else 1
    return [*range(min(first, used), used, max(1, used // 256)), used]


def _mse_bins(counts: np.ndarray, bits: int) -> float:
    centres = np.arange(BINS) + 0.5
    bound = 2 ** (bits - 1) - 1
    errors = {}
    for width in _candidates(counts, 8):
        rounded = np.minimum(np.rint(centres * (bound / width)), bound) * (width / bound)
        errors[width] = float((counts * (rounded - centres) ** 2).sum())
    return float(min(errors, key=lambda width: errors[width]))


def _entropy_bins(counts: np.ndarray, bits: int) -> float:
    levels = 2 ** (bits - 1)
    # Exact zeros (after a ReLU, most of the tensor) are represented exactly by every range: they must not decide.
    counts = counts.astype(np.float64)
    counts[0] = counts[1]
    divergences = {}
    for width in _candidates(counts, FIRST_BIN):
        reference = counts[:width].copy()
        level = np.arange(width) * levels // width
        present = reference > 0
        total = np.bincount(level, reference, levels)
        members = np.bincount(level, present, levels)
        quantized = np.where(present, (total / np.maximum(members, 1))[level], 0.0)
        reference[-1] += counts[width:].sum()
        divergences[width] = _divergence(reference, quantized)
    return float(min(divergences, key=lambda width: divergences[width]))


def _divergence(reference: np.ndarray, quantized: np.ndarray) -> float:
    """Kullback-Leibler divergence of two unnormalised distributions.

    Where clipped outliers are the only ones in the last bin the second has no mass: half a count stands there, else a
    single outlier could never be clipped.
    """
    there = reference > 0
    if not there.any():
        return 0.0
    p = reference[there] / reference.sum()
    q = np.where(quantized[there] > 0, quantized[there], 0.5)
    return float((p * np.log(p / (q / q.sum()))).sum())
