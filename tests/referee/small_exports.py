"""Networks of the zoo that are as wide as they are and as shallow as can be, and their exports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.checkpoint import new_card, skeleton_for
from training.export import export_onnx
from training.models.adaptive_conv import AffineSampling
from training.models.hrnet import FuseModule
from training.models.pose_net import PoseNet
from training.models.sums import ChannelConcat
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


class SmallTrunk(nn.Module):
    """(N, 3, H, W) -> (N, channels, H / 4, W / 4) as HRNet: one of its modules, on two branches."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        branches = [channels // 3, channels - channels // 3]
        self.conv1 = nn.Conv2d(3, branches[0], 3, stride=4, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(branches[0], branches[1], 3, stride=2, padding=1)
        self.relu2 = nn.ReLU()
        self.stage2 = FuseModule(branches, 1)
        self.upsample = nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False)
        self.concat = ChannelConcat(2)

    def forward(self, image: Tensor) -> Tensor:
        x = self.relu1(self.conv1(image))
        wide, narrow = self.stage2([x, self.relu2(self.conv2(x))])
        return self.concat([wide, self.upsample(narrow)])


def heads_network(name: str, keypoints: int = 17) -> PoseNet:
    """Both heads of a zoo network, whole, behind a trunk of eight convolutions: a fraction of the time."""
    network = shallow_network(name, keypoints)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk: Any = SmallTrunk(network.backbone.channels)
    network.backbone = trunk.eval()
    return network


def quantized(network: PoseNet, policy: str, format: str | None = None) -> PoseNet:
    """``network`` with fake quantization by a shipped policy, in its format or another, calibrated on noise."""
    # Seconds of ModelOpt, for the tests that quantize alone.
    from calibration.policy import changed_policy, load_policy
    from calibration.ptq import quantize_network

    noise = np.random.default_rng(0).integers(0, 256, (8, *SIZE, 3), dtype=np.uint8)

    def batches() -> Iterator[np.ndarray]:
        yield from np.split(noise, 2)

    return quantize_network(network, changed_policy(load_policy(policy), format=format), batches())[0]


def export(network: PoseNet, path: Path, precision: str = "fp32", **options: Any) -> Path:
    """``network`` as ONNX at 64x64 with a card of that precision; ``options`` are those of ``export_onnx``."""
    config = network.config
    card = replace(new_card(config, skeleton_for(config.keypoints), SIZE), precision=precision)
    export_onnx(network, card, path, size=SIZE, **options)
    return path
