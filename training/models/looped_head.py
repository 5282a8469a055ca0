"""The offset head as a plain loop over a grouped head's weights: the reference for its values and its speed.

Keypoint by keypoint, tap by tap, subspace by subspace, as the paper's equations (7) to (9) and ULSAM's code read.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.adaptive_conv import AdaptiveBlock
from training.models.heads import OffsetHead
from training.models.offset_net import OffsetNet
from training.models.subspace_attention import SubspaceAttention
from training.models.zoo import model_config


def both_heads(name: str, keypoints: int) -> dict[str, nn.Module]:
    """The offset head of a zoo network as ``grouped`` and as ``looped``, with weights that sample a few pixels away."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head: OffsetHead = OffsetNet(model_config(name, keypoints)).offset_head
        with torch.no_grad():
            for parameter_name, parameter in head.named_parameters():
                if "sampling.affine" in parameter_name:
                    parameter.normal_(std=0.05)
                elif parameter.dim() == 4:
                    nn.init.kaiming_normal_(parameter)
    return {"grouped": head, "looped": LoopedOffsetHead(head, keypoints)}


class LoopedOffsetHead(nn.Module):
    """(N, C, h, w) -> (N, 2K, h, w), the same function of the same parameters as ``head``."""

    def __init__(self, head: OffsetHead, keypoints: int) -> None:
        super().__init__()
        self.head, self.keypoints = head, keypoints

    def forward(self, x: Tensor) -> Tensor:
        head, k = self.head, self.keypoints
        offsets = []
        for branch, y in enumerate(head.transition(x).chunk(k, dim=1)):
            for block in head.blocks:
                assert isinstance(block, AdaptiveBlock)
                y = looped_adaptive_block(block, y, branch, k)
            if isinstance(head.attention, SubspaceAttention):
                y = looped_attention(head.attention, y, branch, k)
            offsets.append(F.conv2d(y, part(head.final.weight, branch, k), part(head.final.bias, branch, k)))
        return torch.cat(offsets, dim=1) * head.scale


def looped_adaptive_block(block: AdaptiveBlock, x: Tensor, branch: int, branches: int) -> Tensor:
    """Equations (7) and (8) on one keypoint's features (N, c, h, w), same shape: a loop over the nine taps."""
    assert block.sampling is not None
    (n, c, h, w), layer = x.shape, block.sampling.affine
    affine = F.conv2d(x, part(layer.weight, branch, branches), part(layer.bias, branch, branches), padding=1)
    a = affine.unbind(1)  # a00 a01 a10 a11 on (y, x), then t_y t_x; each (N, h, w)
    rows = torch.arange(h, dtype=x.dtype, device=x.device).view(1, h, 1)
    columns = torch.arange(w, dtype=x.dtype, device=x.device).view(1, 1, w)
    kernel = part(block.adapt_conv.weight, branch, branches).view(c, c, 3, 3)
    total = x.new_zeros(n, c, h, w)
    for tap in range(9):
        dy, dx = tap // 3 - 1, tap % 3 - 1
        y = rows + dy * a[0] + dx * a[1] + a[4]
        z = columns + dy * a[2] + dx * a[3] + a[5]
        grid = torch.stack([(2 * z + 1) / w - 1, (2 * y + 1) / h - 1], dim=-1)
        sampled = F.grid_sample(x, grid, align_corners=False)
        total = total + F.conv2d(sampled, kernel[:, :, dy + 1, dx + 1].reshape(c, c, 1, 1))
    return torch.relu(batch_norm(block.bn, total, branch, branches) + x)


def looped_attention(attention: SubspaceAttention, x: Tensor, branch: int, branches: int) -> Tensor:
    """Equation (9) on one keypoint's features (N, c, h, w), same shape: a loop over its subspaces."""
    subspaces = attention.maps // branches
    first = branch * subspaces
    parts = []
    for index, f in enumerate(x.chunk(subspaces, dim=1), first):
        own = (index, attention.maps)
        depthwise, pointwise = attention.depthwise, attention.pointwise
        y = F.conv2d(f, part(depthwise.weight, *own), part(depthwise.bias, *own), groups=f.shape[1])
        y = F.max_pool2d(torch.relu(batch_norm(attention.depthwise_bn, y, *own)), 3, 1, 1)
        y = F.conv2d(y, part(pointwise.weight, *own), part(pointwise.bias, *own))
        y = torch.relu(batch_norm(attention.pointwise_bn, y, *own))
        parts.append(f + f * y.flatten(2).softmax(dim=2).view_as(y))
    return torch.cat(parts, dim=1)


def batch_norm(layer: nn.BatchNorm2d, x: Tensor, index: int, parts: int) -> Tensor:
    """``x`` (N, c, h, w), normalised by part ``index`` of the layer's channels, statistics included: same shape."""
    mean, variance, weight, bias = (
        part(tensor, index, parts)
        for tensor in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    )
    momentum = layer.momentum if layer.momentum is not None else 0.1
    return F.batch_norm(x, mean, variance, weight, bias, layer.training, momentum, layer.eps)


def part(tensor: Tensor | None, index: int, parts: int) -> Tensor:
    """Slice ``index`` of ``parts`` equal ones along the first axis, (C, ...) -> (c, ...); a view."""
    assert tensor is not None
    size = tensor.shape[0] // parts
    return tensor[index * size : (index + 1) * size]
