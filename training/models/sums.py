"""Sums and concatenations as modules, so that a quantization policy can name them and quantize their inputs.

A plain ``+`` in a forward pass is invisible to ModelOpt; HRNet has a residual sum in every block and a sum over
resolutions in every fuse layer, and an INT8 engine can fuse convolution + sum + ReLU only where the inputs of the
sum are INT8 too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualAdd(nn.Module):
    """``branch + skip``, two tensors of one shape (N, C, h, w)."""

    def forward(self, branch: Tensor, skip: Tensor) -> Tensor:
        return branch + skip


class ResolutionSum(nn.Module):
    """Sum of ``inputs`` tensors of one shape (N, C, h, w): HRNet's fusion of branches, all at one resolution."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.inputs = inputs

    def forward(self, tensors: list[Tensor]) -> Tensor:
        total = tensors[0]
        for tensor in tensors[1:]:
            total = total + tensor
        return total


class ChannelConcat(nn.Module):
    """``inputs`` tensors (N, C_i, H, W), concatenated on the channel axis: (N, C, H, W)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.inputs = inputs

    def forward(self, tensors: list[Tensor]) -> Tensor:
        return torch.cat(tensors, dim=1)
