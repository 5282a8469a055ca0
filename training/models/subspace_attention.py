"""Subspace attention, SAMKR paper eq. (9); ULSAM (Saini et al., WACV 2020).

Each branch's c channels are cut into g subspaces of s = c / g. One subspace f (N, s, H, W) becomes
``f + f * softmax(PW(maxpool(DW(f))))`` with a depthwise 1x1 (DW), a 3x3 max-pooling, a 1x1 to one map (PW), each
convolution followed by BN and ReLU as in ULSAM's code, and the softmax over all H*W positions.

The softmax's mean weight is 1 / (H*W): 2^-14 on a 128x128 map, the smallest normal number of FP16, and what remains of
1 + 2^-14 in half precision is 1. Softmax and product are therefore computed in float32, never quantized, and the result
is not rounded again: under autocast it is float32, too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.models.execution import is_exported, widened, without_autocast
from training.models.grouped_conv import GroupedPointwise

# ULSAM's code sets torch's momentum to 0.9, so its running statistics are nearly those of the last batch.
BN_MOMENTUM = 0.9


class SubspaceAttention(nn.Module):
    """(N, B*c, H, W) -> (N, B*c, H, W) float32, all B*g subspaces at once; float64 stays."""

    def __init__(self, channels: int, branches: int, groups: int) -> None:
        super().__init__()
        if channels % groups:
            raise ValueError(f"{channels} channels cannot be cut into {groups} equal subspaces")
        total, maps = channels * branches, groups * branches
        self.maps = maps
        self.depthwise = GroupedPointwise(total, total, 1, groups=total)
        self.depthwise_bn = nn.BatchNorm2d(total, momentum=BN_MOMENTUM)
        self.depthwise_relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.pointwise = GroupedPointwise(total, maps, 1, groups=maps)
        self.pointwise_bn = nn.BatchNorm2d(maps, momentum=BN_MOMENTUM)
        self.pointwise_relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        n, total, h, w = (int(size) for size in x.shape)  # plain numbers: static shapes in ONNX
        y = self.depthwise_relu(self.depthwise_bn(self.depthwise(x)))
        y = self.pointwise_relu(self.pointwise_bn(self.pointwise(self._pooled(y))))
        with without_autocast(x):
            attention = widened(y).reshape(n, self.maps, h * w).softmax(dim=2)  # (N, B*g, H*W)
            f = widened(x).reshape(n, self.maps, total // self.maps, h * w)
            attended = f + f * attention.unsqueeze(2)
        return attended.view(n, total, h, w)

    def _pooled(self, x: Tensor) -> Tensor:
        """``pool(x)``, with channels last on a CPU: ATen's pooling vectorises over channels only."""
        if x.device.type != "cpu" or is_exported():
            return self.pool(x)
        return self.pool(x.contiguous(memory_format=torch.channels_last)).contiguous()
