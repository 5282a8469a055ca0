"""The network as it is deployed: image bytes in, normalisation inside the graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.models.pose_net import PoseNet

# ImageNet statistics of RGB in 0..1, as every published HRNet was trained with.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class DeployNet(nn.Module):
    """uint8 (N, H, W, 3) RGB -> the network's two maps (N, C, h, w). ``net``: float or fake-quantized."""

    net: PoseNet
    scale: Tensor
    shift: Tensor

    def __init__(self, net: PoseNet) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("scale", 1.0 / (255.0 * torch.tensor(STD)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer(
            "shift", (torch.tensor(MEAN) / torch.tensor(STD)).view(1, 3, 1, 1), persistent=False
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(image.permute(0, 3, 1, 2).float() * self.scale - self.shift)


def normalise(image: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) RGB -> normalised float32 (N, 3, H, W), for training."""
    scale = 1.0 / (255.0 * torch.tensor(STD, device=image.device))
    shift = torch.tensor(MEAN, device=image.device) / torch.tensor(STD, device=image.device)
    return (image.float() * scale - shift).permute(0, 3, 1, 2).contiguous()
