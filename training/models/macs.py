"""Count parameters and multiply-accumulates of a network, without running it.

Convolutions count as in HRNet's and DEKR's own tool: output size x kernel weights. Adaptive (deformable) convolutions
are included; bilinear sampling, batch norms and additions are not. A transposed convolution counts by its output's size
too, as in HigherHRNet's and SWAHR's printed figures: at stride 2 that is four times what it multiplies. The GFLOPs of
these papers are GMACs. The tool behind SAMKR's printed 44.9 did not count deformable convolutions, so its numbers are
below ours and cannot be compared with DEKR's 45.4, which does count them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from training.models.config import ModelConfig
from training.models.fold import quantizable
from training.models.pose_net import PoseNet
from training.models.zoo import build_model


@dataclass(frozen=True)
class Cost:
    """Parameters, and multiply-accumulates of one image."""

    parameters: int
    macs: int


def count_cost(config: ModelConfig) -> Cost:
    """Cost of a network as deployed: without SWAHR's scale branch."""
    with torch.device("meta"):
        network = build_model(replace(config, scale_branch=False)).eval()
    macs = count_macs(network, config.input_size)
    return Cost(sum(p.numel() for p in network.parameters()), sum(macs.values()))


def macs_of_quantizable(config: ModelConfig) -> dict[str, int]:
    """Multiply-accumulates by convolution name of the network that quantizers are put into: a transposed convolution is
    an ordinary one there, and counts what it multiplies.
    """
    with torch.device("meta"):
        network = quantizable(build_model(config))
    return count_macs(network, config.input_size)


def count_macs(network: PoseNet, input_size: tuple[int, int]) -> dict[str, int]:
    """Multiply-accumulates by convolution name for one image (H, W); the network must live on the meta device."""
    macs: dict[str, int] = defaultdict(int)

    def hook(name: str) -> Any:
        def count(module: nn.Conv2d | nn.ConvTranspose2d, inputs: Any, output: torch.Tensor) -> None:
            macs[name] += module.weight.numel() * output.shape[2] * output.shape[3] * output.shape[0]

        return count

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    ]
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    through = nn.Identity().forward
    try:
        for norm in norms:  # half of the time, for nothing that counts
            norm.forward = through  # type: ignore[method-assign]
        with torch.no_grad():
            network(torch.empty(1, 3, *input_size, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
        for norm in norms:
            vars(norm).pop("forward", None)
    return dict(macs)
