"""Grouped convolutions of a few channels each, as matrix products where ATen's own kernels train slowly.

Results are those of ``nn.Conv2d``, up to rounding. Only training on a CPU differs: there ATen would run such a
convolution group by group and join the results. Everything else (inference, export, CUDA) runs the base class, and
since each is still an ``nn.Conv2d``, ModelOpt quantizes it and ONNX gets a Conv.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _trains_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and torch.is_grad_enabled()


class GroupedPointwise(nn.Conv2d):
    """A grouped 1x1 convolution: one matrix product per group, (c_out, c_in) @ (c_in, H*W)."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not _trains_on_cpu(input):
            return super()._conv_forward(input, weight, bias)
        n, inputs, h, w = input.shape
        # Not under autocast: converting the adaptive convolution's float32 taps costs more than multiplying them.
        with torch.autocast("cpu", enabled=False):
            kernels = weight.to(input.dtype).view(self.groups, -1, inputs // self.groups)
            x = input.reshape(n, self.groups, inputs // self.groups, h * w)
            # A product with a single input channel is a scaling.
            y = x * kernels if kernels.shape[2] == 1 else torch.matmul(kernels, x)
            y = y.view(n, -1, h, w)
            return y if bias is None else y + bias.to(y.dtype).view(-1, 1, 1)


class GroupedNarrowing(nn.Conv2d):
    """A grouped 3x3 convolution, zero-padded, to fewer channels than it reads.

    First every pixel's products with all nine taps, one matrix product per group; then each tap's plane is added where
    its pixel contributes. So nine planes are needed of the few outputs, not of the many inputs.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not _trains_on_cpu(input):
            return super()._conv_forward(input, weight, bias)
        n, (h, w) = input.shape[0], input.shape[2:]
        outputs, each, rows, columns = weight.shape
        with torch.autocast("cpu", enabled=False):
            # Pixel q reaches q + g through tap -g: hence the taps in reverse order, (B, c_out * 9, c_in).
            taps = weight.flip(2, 3).view(self.groups, -1, each, rows * columns).transpose(2, 3)
            x = input.to(weight.dtype).reshape(n, self.groups, each, h * w)
            planes = torch.matmul(taps.reshape(self.groups, -1, each), x)
            y = F.fold(
                planes.view(n, outputs * rows * columns, h * w), (h, w), (rows, columns), padding=(1, 1)
            )
            return y if bias is None else y + bias.view(-1, 1, 1)
