"""Statistics of every channel on calibration images: how large it is, and how much its error affects the outputs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from calibration.channel_ties import tensors_of
from calibration.ranges import OUTLIER
from training.models.deploy import normalise


@dataclass(frozen=True)
class InputStatistics:
    """Of one tensor (N, C, H, W) that a module reads; each float32 (C,) on the CPU.

    Attributes:
        largest: magnitude, without the rare images that calibration leaves out too.
        filled: share of the values that are not zero: zero is represented exactly.
    """

    largest: Tensor
    filled: Tensor


@dataclass(frozen=True)
class ChannelStatistics:
    """By module name: its inputs, and how sensitive the outputs are to an error in its own output's channels.

    Attributes:
        inputs: one entry a tensor.
        sensitivity: float32 (C,): squared relative error of the network's outputs, summed, for an independent
            error of variance 1 in every pixel of the channel.
        weights: of convolutions, float32 (O, I / groups): the same for an error of variance 1 in every tap of a
            weight, which affects all pixels alike.
    """

    inputs: dict[str, list[InputStatistics]]
    sensitivity: dict[str, Tensor]
    weights: dict[str, Tensor]


def channel_statistics(
    folded: nn.Module, modules: Collection[str], batches: Iterable[np.ndarray]
) -> ChannelStatistics:
    """Measure on images, uint8 (N, H, W, 3), on the network's device.

    The sensitivity is the squared norm of the outputs' derivative, estimated by Hutchinson's trick: it is
    the expected square of the gradient of the outputs weighted with random signs.
    """
    generator = torch.Generator().manual_seed(0)
    device = next(folded.parameters()).device
    seen: dict[str, list[_Collected]] = {}
    slopes: dict[str, list[Tensor]] = defaultdict(list)

    def before(name: str) -> Any:
        def collect(module: nn.Module, given: tuple[Any, ...]) -> None:
            tensors = tensors_of(given)
            for kept, tensor in zip(
                seen.setdefault(name, [_Collected() for _ in tensors]), tensors, strict=True
            ):
                kept.add(tensor.detach())

        return collect

    def after(name: str) -> Any:
        def collect(module: nn.Module, given: Any, output: Tensor) -> None:
            output.register_hook(lambda slope: slopes[name].append(slope.square().sum((2, 3)).cpu()))

        return collect

    handles = []
    convolutions: dict[str, nn.Conv2d] = {}
    for name in modules:
        module = folded.get_submodule(name)
        if isinstance(module, nn.Conv2d):
            convolutions[name] = module
        handles += [module.register_forward_pre_hook(before(name)), module.register_forward_hook(after(name))]
    weights = {name: torch.zeros(conv.weight.shape[:2]) for name, conv in convolutions.items()}
    trained = [p for p in folded.parameters() if p.requires_grad]
    images = 0
    try:
        folded.requires_grad_(False)
        for conv in convolutions.values():
            conv.weight.requires_grad_()
        for batch in batches:
            image = normalise(torch.from_numpy(batch).to(device)).requires_grad_()
            with torch.enable_grad():
                total = _signed_total(tensors_of(folded(image)), generator)
            total.backward()
            images += len(batch)
            for name, conv in convolutions.items():
                if conv.weight.grad is not None:
                    # Signs are drawn per image: a batch's squared gradient has the sum of its images' as expectation.
                    weights[name] += conv.weight.grad.square().sum((2, 3)).cpu()
                    conv.weight.grad = None
    finally:
        for handle in handles:
            handle.remove()
        folded.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_()
    return ChannelStatistics(
        {name: [kept.statistics() for kept in given] for name, given in seen.items()},
        {name: torch.cat(given).mean(0) for name, given in slopes.items()},
        {name: total / max(images, 1) for name, total in weights.items()},
    )


def _signed_total(outputs: Iterable[Tensor], generator: torch.Generator) -> Tensor:
    """All values of the outputs, (N, ...), with random signs, each relative to the norm of its image's output."""
    total: Any = 0.0
    for output in outputs:
        signs = torch.randint(0, 2, output.shape, generator=generator).to(output.device) * 2.0 - 1.0
        size = output.detach().square().flatten(1).sum(1).sqrt().clamp(min=1e-12)
        total = total + ((output * signs).flatten(1).sum(1) / size).sum()
    return total


class _Collected:
    """Per image and channel, (N, C) a batch."""

    def __init__(self) -> None:
        self._largest: list[Tensor] = []
        self._filled: list[Tensor] = []

    def add(self, tensor: Tensor) -> None:
        self._largest.append(tensor.abs().amax((2, 3)).cpu())
        self._filled.append((tensor != 0).float().mean((2, 3)).cpu())

    def statistics(self) -> InputStatistics:
        largest = torch.cat(self._largest)
        by_image = largest.amax(1)
        usual = by_image <= OUTLIER * by_image.median()
        kept = largest[usual] if bool(usual.any()) and math.isfinite(float(by_image.sum())) else largest
        return InputStatistics(kept.amax(0), torch.cat(self._filled).mean(0))
