"""Rescale channels so that one range per tensor costs little: cross-layer equalisation, exact through ReLU.

After Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (ICCV 2019), section 4.1:
multiply an output channel's weights and bias by s, divide the input channels that read it by s, and a network of ReLUs,
sums and resizes computes the same. The paper balances the ranges of weights, s = sqrt(r2 / r1) by its eq. (11), pair by
pair. Here every tensor has one range (weights, activations, residual streams, sums over resolutions), and balancing
weights alone made activations worse than it made weights better (docs/equalisation.md). So all factors are chosen
together, to minimise the expected error of the network's outputs.

A tensor of range R in steps of R / b has an error of variance R^2 / (12 b^2) wherever it is not zero; in the original
units it is divided by s^2, or for a weight by (s of its output / s of its input)^2. How much of it reaches the outputs
is measured (``calibration.channel_statistics``). Every term is a product of powers of factors, and ranges are maxima of
such products, so the sum is convex in the logarithms of the factors: it has one minimum, whatever the channels looked
like before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from calibration.channel_statistics import ChannelStatistics, channel_statistics
from calibration.channel_ties import ChannelTies, trace_ties
from calibration.policy import Assignment, Policy, assign
from calibration.scale_groups import quantizer_names, scale_groups, trace_readers

# Images that the statistics are measured on: each costs a forward and a backward pass.
IMAGES = 32
STEPS = 150
RATE = 0.2
# Weight of the squared logarithms: it keeps what nothing else decides (dead channels, those only float layers read).
RIDGE = 1e-6
# Factors are within 2^-12 .. 2^12, and none makes an activation larger than this: FP16 ends at 65504.
LARGEST_FACTOR = 2.0**12
LARGEST_ACTIVATION = 2.0**13


@dataclass(frozen=True)
class Equalised:
    """The result of an equalisation.

    Attributes:
        factors: number of independently rescaled channels, tied ones counting once.
        error_before, error_after: expected relative error of the outputs through quantization.
    """

    factors: int
    error_before: float
    error_after: float


def equalise_network(folded: nn.Module, policy: Policy, batches: Sequence[np.ndarray]) -> Equalised:
    """Rescale the channels of ``folded`` in place, from statistics on some of the calibration images.

    Args:
        folded: float, batch norms folded.
        policy: what becomes INT8, how, and with how many bits. Layers that stay float adapt at no cost.
        batches: uint8 (N, H, W, 3).
    """
    if not batches:
        return Equalised(0, 0.0, 0.0)
    assignments = assign(policy, folded)
    modules = [assignment.module for assignment in assignments]
    wanted = max(1, IMAGES // len(batches[0]))
    statistics = channel_statistics(folded, modules, batches[:: max(1, len(batches) // wanted)])
    readers = trace_readers(folded, assignments) if policy.shared_scales else {}
    groups = scale_groups(readers, {a.module for a in assignments if a.quantized})
    return equalise(folded, policy, assignments, trace_ties(folded, modules), statistics, groups)


def equalise(
    folded: nn.Module,
    policy: Policy,
    assignments: Sequence[Assignment],
    ties: ChannelTies,
    statistics: ChannelStatistics,
    groups: Sequence[Sequence[str]],
) -> Equalised:
    """Rescale the weights and biases of ``folded`` in place; its outputs stay the same up to rounding.

    Args:
        folded: float, batch norms folded.
        policy: its bits.
        assignments: by this policy.
        ties: with the inputs of all assigned modules.
        statistics: of all assigned modules.
        groups: names of activation quantizers that share one range.
    """
    int8 = [a for a in assignments if a.quantized and a.module in statistics.sensitivity]
    noise = _Noise(folded, policy, int8, ties, statistics, groups)
    before = noise.of(torch.zeros(ties.factors + 1)).sqrt().item()
    if not ties.factors or not 0 < before < math.inf:
        return Equalised(0, before, before)
    logarithms = _within_bounds(_least(noise, ties.factors), ties, statistics)
    rescale(folded, ties, logarithms.exp())
    return Equalised(ties.factors, before, noise.of(logarithms).sqrt().item())


def _least(noise: _Noise, factors: int) -> Tensor:
    """Logarithms (factors + 1,) of the factors with the least error; number 0 stays 0."""
    free = torch.zeros(factors, requires_grad=True)
    optimiser = torch.optim.Adam([free], lr=RATE)
    best, least = torch.zeros(factors), math.inf
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = RATE * (1 - step / STEPS) ** 2
        with torch.enable_grad():
            loss = noise.of(_with_fixed(free)).log() + RIDGE * free.square().sum()
            optimiser.zero_grad()
            loss.backward()
        if loss.item() < least:
            best, least = free.detach().clone(), loss.item()
        optimiser.step()
    return _with_fixed(best)


def _with_fixed(free: Tensor) -> Tensor:
    return torch.cat([torch.zeros(1), free])


def _within_bounds(logarithms: Tensor, ties: ChannelTies, statistics: ChannelStatistics) -> Tensor:
    """Any factor is exact; these bounds keep rescaled weights, biases and activations inside FP16."""
    largest = torch.zeros_like(logarithms)
    for name, inputs in statistics.inputs.items():
        for numbers, seen in zip(ties.inputs[name], inputs, strict=True):
            largest.scatter_reduce_(0, numbers, seen.largest, "amax")
    bound = math.log(LARGEST_FACTOR)
    room = (LARGEST_ACTIVATION / largest.clamp(min=1e-12)).log().clamp(0.0, bound)
    return torch.minimum(logarithms, room).clamp(min=-bound)


@torch.no_grad()
def rescale(folded: nn.Module, ties: ChannelTies, factors: Tensor) -> None:
    """Multiply every channel by its factor where it is written, divide where it is read; ``factors`` is (F + 1,)."""
    for name, around in ties.convolutions.items():
        conv: nn.Conv2d = folded.get_submodule(name)  # type: ignore[assignment]
        by = factors[around.writes].to(conv.weight)
        conv.weight *= (by[:, None] / factors[around.reads].to(conv.weight))[:, :, None, None]
        if conv.bias is not None:
            conv.bias *= by


class _Noise:
    """Expected squared relative error of the outputs, as a function of the factors' logarithms.

    All in flat tensors: one entry for each pair of an output and an input channel of each INT8 convolution, and one
    for each channel of each quantized input.
    """

    def __init__(
        self,
        folded: nn.Module,
        policy: Policy,
        int8: Sequence[Assignment],
        ties: ChannelTies,
        statistics: ChannelStatistics,
        groups: Sequence[Sequence[str]],
    ) -> None:
        weights, channels = _Columns(5), _Columns(4)
        shared = {name: index for index, group in enumerate(groups) for name in group}
        ranges, count, steps = len(groups), 0, 12.0 * (2 ** (policy.activation_bits - 1) - 1) ** 2
        for assignment in int8:
            module = assignment.module
            felt = statistics.sensitivity[module]
            inputs = statistics.inputs[module]
            feels = [felt] * len(inputs)
            if assignment.op == "conv":
                conv: nn.Conv2d = folded.get_submodule(module)  # type: ignore[assignment]
                weight, around = conv.weight.detach().float().cpu(), ties.convolutions[module]
                outputs, each = weight.shape[:2]
                by_channel = assignment.granularity == "channel"
                row = torch.arange(outputs)[:, None].expand(outputs, each)
                weights.add(
                    weight.abs().amax((2, 3)),
                    around.writes[:, None].expand(outputs, each),
                    around.reads,
                    count + (row if by_channel else torch.zeros_like(row)),
                    statistics.weights[module],
                )
                count += outputs if by_channel else 1
                # The input channel of each pair.
                column = row // (outputs // conv.groups) * each + torch.arange(each)
                feel = (felt[:, None] * weight.square().sum((2, 3))).flatten()
                feels = [torch.zeros(conv.in_channels).index_add_(0, column.flatten(), feel)]
            names = quantizer_names(assignment.op, len(inputs))
            for name, numbers, seen, feel in zip(names, ties.inputs[module], inputs, feels, strict=True):
                index = shared.get(f"{module}.{name}")
                if index is None:
                    index, ranges = ranges, ranges + 1
                channels.add(
                    seen.largest, numbers, torch.full_like(numbers, index), feel * seen.filled / steps
                )
        self._weights, self._channels = weights.joined(), channels.joined()
        self._weight_ranges, self._input_ranges = count, ranges
        self._weight_steps = 12.0 * (2 ** (policy.bits - 1) - 1) ** 2

    def of(self, logarithms: Tensor) -> Tensor:
        """Scalar; ``logarithms`` float32 (factors + 1,), the first one 0."""
        factors = logarithms.exp()
        return self._of_weights(factors) + self._of_inputs(factors)

    def _of_weights(self, factors: Tensor) -> Tensor:
        if not self._weights:
            return torch.zeros(())
        size, writes, reads, of_range, felt = self._weights
        by = factors[writes] / factors[reads]
        ranges = torch.zeros(self._weight_ranges).scatter_reduce(0, of_range, size * by, "amax")
        return (ranges[of_range].square() * felt / by.square()).sum() / self._weight_steps

    def _of_inputs(self, factors: Tensor) -> Tensor:
        if not self._channels:
            return torch.zeros(())
        largest, numbers, of_range, feel = self._channels
        by = factors[numbers]
        ranges = torch.zeros(self._input_ranges).scatter_reduce(0, of_range, largest * by, "amax")
        return (ranges[of_range].square() * feel / by.square()).sum()


class _Columns:
    """Tensors of equal length, gathered piece by piece."""

    def __init__(self, count: int) -> None:
        self._pieces: list[list[Tensor]] = [[] for _ in range(count)]
        self.length = 0

    def add(self, *pieces: Tensor) -> None:
        for column, piece in zip(self._pieces, pieces, strict=True):
            column.append(piece.flatten())
        self.length += pieces[0].numel()

    def joined(self) -> list[Tensor]:
        """Empty where nothing was added."""
        return [torch.cat(column) for column in self._pieces] if self.length else []
