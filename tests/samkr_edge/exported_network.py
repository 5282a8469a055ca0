"""samkr_tiny at 64x64, float and calibrated, and its exports: the part of these tests that needs torch and ModelOpt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from calibration.policy import load_policy
from calibration.ptq import quantize_network
from training.checkpoint import network_of, untrained_checkpoint
from training.export import export_onnx
from training.models.adaptive_conv import AffineSampling
from training.models.pose_net import PoseNet

SIZE = (64, 64)


def float_network() -> PoseNet:
    """Untrained, but its adaptive taps move: every position of a grid differs from the regular one."""
    network = network_of(untrained_checkpoint("samkr_tiny"))
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, AffineSampling):
            weight = module.affine.weight
            with torch.no_grad():
                weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
    return network


def int8_network(network: PoseNet, granularity: Literal["channel", "tensor"] = "channel") -> PoseNet:
    """``network`` with fake quantization, calibrated on noise."""
    noise = np.random.default_rng(0).integers(0, 256, (8, *SIZE, 3), dtype=np.uint8)

    def batches() -> Iterator[np.ndarray]:
        yield from np.split(noise, 2)

    policy = load_policy("default")
    rules = [
        rule.model_copy(update={"granularity": granularity}) if rule.op == "conv" else rule
        for rule in policy.rules
    ]
    return quantize_network(network, policy.model_copy(update={"rules": rules}), batches())[0]


def export(network: PoseNet, path: Path, *, precision: str = "fp32", **options: Any) -> Path:
    """``network`` as ONNX with a card of that precision; ``options`` are those of ``export_onnx``."""
    card = untrained_checkpoint("samkr_tiny").card
    if precision == "int8":
        card = replace(card, precision="int8", stage="ptq")
    export_onnx(network, card, path, size=SIZE, **options)
    return path
