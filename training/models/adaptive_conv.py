"""Adaptive convolution: a deformable 3x3 convolution whose nine taps are an affine image of the regular grid.

Source: SAMKR paper eq. (7)-(8); DEKR (Geng et al., CVPR 2021). At every pixel p the network predicts a 2x2 matrix A
and a translation t (six numbers); tap k samples the feature map at ``p + A g_k + t``, where g_k runs over the regular
3x3 offsets in row-major order and all vectors are (y, x) in map pixels. Samples outside the map are zero.

All branches run together: they lie side by side on the channel axis, and every operation is grouped.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models.execution import is_exported, widened, without_autocast
from training.models.grouped_conv import GroupedNarrowing, GroupedPointwise
from training.models.sums import ResidualAdd

TAPS = 9
# Most bytes of float32 taps that inference on a CPU makes at a time.
LARGEST_TAPS = 8 << 20


def regular_grid() -> Tensor:
    """The nine offsets of a 3x3 kernel, float32 (2, 9), rows (y, x), row-major taps."""
    steps = torch.tensor([-1.0, 0.0, 1.0])
    return torch.stack([steps.repeat_interleave(3), steps.repeat(3)])


class AffineSampling(nn.Module):
    """Predict the affine map per pixel and sample the nine taps.

    (N, B*c, H, W) -> (N, B*c*9, H, W) with channel order (branch, channel, tap): what a grouped 1x1 convolution with
    the 3x3 kernel's weights, flattened, needs. No transpose: ``grid_sample`` writes the taps below each other,
    (N*B, c, 9*H, W), which is the same memory.
    """

    regular_matrix: Tensor

    def __init__(self, channels: int, branches: int, identity: bool) -> None:
        super().__init__()
        total = channels * branches
        self.branches = branches
        # Six channels a branch: a00 a01 a10 a11, acting on (y, x) vectors, then t_y t_x. The official code has two
        # convolutions (transform_matrix_conv, translation_conv); side by side they are this one.
        self.affine = GroupedNarrowing(total, 6 * branches, 3, padding=1, groups=branches)
        self.register_buffer("regular_matrix", regular_grid(), persistent=False)
        self.identity = identity

    def initialise(self) -> None:
        """Zero weights. DEKR's biases are zero too: all taps start on the centre pixel; ``identity`` starts as 3x3."""
        assert self.affine.bias is not None
        with torch.no_grad():
            self.affine.weight.zero_()
            self.affine.bias.zero_()
            if self.identity:
                self.affine.bias.view(self.branches, 6)[:, [0, 3]] = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return sample_taps(x, self.affine(x), self.regular_matrix, self.branches)


def sample_taps(x: Tensor, affine: Tensor, regular_matrix: Tensor, branches: int) -> Tensor:
    """Features (N, B*c, H, W) and affine parameters (N, 6B, H, W) -> the nine taps (N, B*c*9, H, W).

    ``regular_matrix`` (2, 9) holds the taps of a plain 3x3 convolution.
    """
    n, total, h, w = (int(size) for size in x.shape)  # plain numbers: static shapes in ONNX
    # Coordinates need float32: half precision has steps of 1/16 pixel at the far border of a 128-pixel map.
    with without_autocast(x):
        affine = widened(affine).reshape(n * branches, 6, h * w)
        matrix, shift = affine[:, :4].reshape(n * branches, 2, 2, h * w), affine[:, 4:].unsqueeze(2)
        taps = regular_matrix.to(affine.dtype)  # (2, 9)
        # (N*B, 2, 9, H*W): A g_k + t, rows y then x.
        moved = matrix[:, :, :1] * taps[0].view(1, 1, TAPS, 1) + matrix[:, :, 1:] * taps[1].view(
            1, 1, TAPS, 1
        )
        moved = moved + shift + pixel_grid(h, w, x.device).to(affine.dtype)
        # grid_sample wants (x, y); with align_corners=False pixel i lies at (2 i + 1) / size - 1. Either convention
        # samples the same points; for this one ONNX Runtime's kernel is five times faster.
        row = moved[:, 0] * (2.0 / h) + (1.0 / h - 1.0)
        column = moved[:, 1] * (2.0 / w) + (1.0 / w - 1.0)
        grid = torch.stack([column, row], dim=-1).view(n * branches, TAPS * h, w, 2)
        features = widened(x).reshape(n * branches, total // branches, h, w)
        sampled = F.grid_sample(features, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled.view(n, total * TAPS, h, w)


def pixel_grid(h: int, w: int, device: torch.device) -> Tensor:
    """Integer pixel coordinates, float32 (1, 2, 1, H*W), rows (y, x).

    Made by NumPy, so that an exported graph holds the numbers and not the steps to make them.
    """
    rows, columns = np.divmod(np.arange(h * w), w)
    return torch.from_numpy(np.stack([rows, columns]).astype(np.float32)).view(1, 2, 1, h * w).to(device)


class AdaptiveBlock(nn.Module):
    """ReLU(BN(adaptive 3x3 convolution(x)) + x) on all branches: (N, B*c, H, W) -> (N, B*c, H, W).

    ``deformable=False`` is the ``_nodc`` variant: a plain grouped 3x3 convolution, for runtimes without sampling.
    """

    def __init__(self, channels: int, branches: int, *, deformable: bool, identity: bool) -> None:
        super().__init__()
        total = channels * branches
        self.sampling = AffineSampling(channels, branches, identity) if deformable else None
        if deformable:
            # The 3x3 kernel (c, c, 3, 3) of a branch, flattened to (c, c*9, 1, 1).
            self.adapt_conv: nn.Conv2d = GroupedPointwise(total * TAPS, total, 1, groups=branches, bias=False)
        else:
            self.adapt_conv = nn.Conv2d(total, total, 3, padding=1, groups=branches, bias=False)
        self.bn = nn.BatchNorm2d(total)
        self.add = ResidualAdd()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        if self.sampling is None:
            y = self.adapt_conv(x)
        elif (branches := self._branches_at_once(x)) < self.sampling.branches:
            y = self._in_parts(x, self.sampling, branches)
        else:
            y = self.adapt_conv(self.sampling(x))
        return self.relu(self.add(self.bn(y), x))

    def _branches_at_once(self, x: Tensor) -> int:
        """All branches; for inference on a CPU as many as keep the taps, nine times the features, below LARGEST_TAPS.

        Training holds all taps for its backward pass anyway. An exported graph keeps one sampling, and a convolution
        with quantizers or hooks gets its whole input.
        """
        assert self.sampling is not None
        branches = self.sampling.branches
        quantized = type(self.adapt_conv) is not GroupedPointwise  # ModelOpt gives it another class
        heard = any(m._forward_hooks or m._forward_pre_hooks for m in (self.sampling, self.adapt_conv))
        kept = torch.is_grad_enabled() or is_exported()
        if x.device.type != "cpu" or quantized or heard or kept:
            return branches
        return max(1, LARGEST_TAPS // (TAPS * x.numel() // branches * 4))

    def _in_parts(self, x: Tensor, sampling: AffineSampling, at_once: int) -> Tensor:
        """``adapt_conv(sampling(x))``, so many branches at a time."""
        kernel, outputs = self.adapt_conv, []
        c = x.shape[1] // sampling.branches
        affine = sampling.affine(x)
        for first in range(0, sampling.branches, at_once):
            count = min(at_once, sampling.branches - first)
            own = slice(first * c, (first + count) * c)
            taps = sample_taps(
                x[:, own], affine[:, 6 * first : 6 * (first + count)], sampling.regular_matrix, count
            )
            bias = None if kernel.bias is None else kernel.bias[own]
            outputs.append(F.conv2d(taps, kernel.weight[own], bias, groups=count))
        return torch.cat(outputs, dim=1)
