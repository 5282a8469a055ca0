"""The four calibrators: from the values that a quantizer sees to its range.

``max`` takes the largest magnitude. The other three look at a histogram of magnitudes and clip rare large values:
``percentile`` all above the 99.99th, ``entropy`` where the quantized distribution diverges least from the true one
(Kullback-Leibler; Migacz, "8-bit Inference with TensorRT", GTC 2017), ``mse`` where the mean squared error is least.

A briefly trained network can explode on a rare image, with activations ten times those of all other images. They would
widen every range, and at 8 bits nothing of the other images would be left (measured: 44.7 AP became 0.0). So each
quantizer leaves out images whose largest value is more than ``OUTLIER`` times the median image's.

They implement ModelOpt's calibrator interface; its own would not do. The histogram ``mse`` of ModelOpt 0.47 passes its
bits in the wrong place and finds ranges ten times too small, and its ``entropy`` takes seconds per quantizer.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from modelopt.torch.quantization.calib import _Calibrator
from torch import Tensor

BINS = 2048
PERCENTILE = 99.99
# An image whose largest value exceeds the median image's by this factor is left out.
OUTLIER = 3.0
# The narrowest range that entropy tries, in bins: with fewer bins than levels every range would be exact.
FIRST_BIN = 128
# Ranges of weights that `mse` tries, as shares of the largest weight.
WEIGHT_SHARES = np.linspace(0.4, 1.0, 31)
# For dead channels, which have no range: a scale of zero does not parse.
SMALLEST = 1e-6
# Steps that a bias may have, of int32's 2**31. The three bits left are for a build with finer steps (unsigned
# activations have twice as many), for a bias that grows in fine-tuning, and for the sum that starts from it.
LARGEST_BIAS = 2.0**28


class ActivationRange(_Calibrator):
    """The values that one activation quantizer saw; ``method`` is one of the four names above."""

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
        """Called by the quantizer with every tensor (N, ...) of N images."""
        magnitude = x.detach().abs()
        maxima = magnitude.flatten(1).amax(1).tolist()
        self.maxima += maxima
        largest = max(maxima)
        if self.method == "max" or not math.isfinite(sum(maxima)):
            return
        while self.top < largest:
            # Double the range with as many bins: neighbours are merged, nothing is counted again.
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
            return torch.tensor(total)  # an infinite or NaN range reports the broken network
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
        """The largest value of the images that are not left out."""
        middle = float(np.median(self.maxima))
        return max(m for m in self.maxima if m <= OUTLIER * middle) if middle > 0 else max(self.maxima)


def weight_range(weight: Tensor, method: str, bits: int, granularity: str) -> Tensor:
    """Range of a weight (O, I, h, w): (O, 1, 1, 1) per ``channel``, a scalar per ``tensor``.

    Weights are few and all known, so only ``mse`` clips them; the other methods take the largest.
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
    """The narrowest ranges (O,) of weights for which a bias (O,), in steps, fits into int32.

    Integer kernels start their sum from the bias, in steps of input scale times weight scale. If a channel's weights
    are dead but its bias is not, the weights' own range makes these steps so fine that the bias would be clipped.
    ``input_range`` is a scalar.
    """
    levels = (2 ** (bits - 1) - 1) * (2 ** (input_bits - 1) - 1)
    return bias.detach().abs() * levels / (input_range * LARGEST_BIAS)


def _percentile_bins(counts: np.ndarray, _bits: int) -> float:
    cumulated = np.cumsum(counts)
    return float(np.searchsorted(cumulated, PERCENTILE / 100 * cumulated[-1]) + 1)


def _candidates(counts: np.ndarray, first: int) -> list[int]:
    """Widths in bins to try, up to 256 of them; the last covers all that was counted."""
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
    # Zeros (most of a tensor after ReLU) are exact in every range: they must not influence the choice.
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

    If the last bin holds only clipped outliers, the second distribution has no mass there: it gets half a count, or a
    single outlier could never be clipped.
    """
    there = reference > 0
    if not there.any():
        return 0.0
    p = reference[there] / reference.sum()
    q = np.where(quantized[there] > 0, quantized[there], 0.5)
    return float((p * np.log(p / (q / q.sum()))).sum())
