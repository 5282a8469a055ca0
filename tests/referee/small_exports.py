"""Networks of the zoo that are as wide as they are and as shallow as can be, and their exports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calibration.policy import load_policy
from calibration.ptq import quantize_network
from samkr_edge.model_card import ModelCard
from training.checkpoint import skeleton_for
from training.export import export_onnx
from training.models.adaptive_conv import AffineSampling
from training.models.pose_net import PoseNet
from training.models.zoo import build_model, model_config

SIZE = (64, 64)


def shallow_network(name: str, keypoints: int = 17) -> PoseNet:
    """A zoo network with random weights whose trunk does not repeat itself: every kind of layer, each block once.

    Its adaptive taps move, so that no grid is the regular one.
    """
    trunk = {"stage_modules": (1, 1, 1), "blocks": 1, "bottlenecks": 1}
    config = replace(model_config(name, keypoints), scale_branch=False, default_init=True, **trunk)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = build_model(config).eval()
        for module in network.modules():
            if isinstance(module, AffineSampling):
                module.affine.weight.normal_(std=0.05)
    return network


def quantized(network: PoseNet, policy: str) -> PoseNet:
    """``network`` with fake quantization by a shipped policy, calibrated on noise."""
    noise = np.random.default_rng(0).integers(0, 256, (8, *SIZE, 3), dtype=np.uint8)

    def batches() -> Iterator[np.ndarray]:
        yield from np.split(noise, 2)

    return quantize_network(network, load_policy(policy), batches())[0]


def export(network: PoseNet, path: Path, precision: str = "fp32", **options: Any) -> Path:
    """``network`` as ONNX at 64x64 with a card of that precision; ``options`` are those of :func:`export_onnx`."""
    config = network.config
    card = ModelCard(config.name, skeleton_for(config.keypoints), SIZE, precision=precision)
    export_onnx(network, card, path, size=SIZE, **options)
    return path
