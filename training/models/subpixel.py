"""A transposed convolution of stride 2 as an ordinary one and a rearrangement: INT8 needs no kernel of its own for it.

Every output pixel of a 4x4 kernel with stride 2 sees 2x2 input pixels, and four neighbouring ones see them with four
different quarters of the kernel. So one 2x2 convolution computes four times as many channels, which are then
interleaved: Shi et al., "Is the deconvolution layer the same as a convolutional layer?" (2016).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Interleave(nn.Module):
    """(N, 4C, h + 1, w + 1) -> (N, C, 2h, 2w): four quarters of the channels become four neighbouring pixels, and the
    border is cut off.

    Quarters, not every four channels: where channels are the last axis, C values move together.
    """

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, rows, columns = x.shape
        apart = x.view(batch, 2, 2, channels // 4, rows, columns).permute(0, 3, 4, 1, 5, 2)
        return apart.reshape(batch, channels // 4, 2 * rows, 2 * columns)[:, :, 1:-1, 1:-1]


def is_subpixel(module: nn.Module) -> bool:
    """Whether a module is a transposed convolution that ``subpixel`` takes."""
    if not isinstance(module, nn.ConvTranspose2d):
        return False
    settings = (module.kernel_size, module.stride, module.padding, module.output_padding, module.dilation)
    return settings == ((4, 4), (2, 2), (1, 1), (0, 0), (1, 1)) and module.groups == 1


@torch.no_grad()
def subpixel(transposed: nn.ConvTranspose2d) -> nn.Conv2d:
    """A convolution (N, I, h, w) -> (N, 4O, h + 1, w + 1) that ``Interleave`` makes the transposed one of.

    Before its padding is cut off, output pixel 2j + a is the sum of input pixel j under tap a and input pixel j - 1
    under tap a + 2, on either axis; cutting off one pixel turns odd and even around.

    Args:
        transposed: as ``is_subpixel`` wants it.
    """
    inputs, outputs = transposed.in_channels, transposed.out_channels
    has_bias = transposed.bias is not None
    convolution = nn.Conv2d(inputs, 4 * outputs, 2, padding=1, bias=has_bias)
    # (I, O, rows of taps: j, j - 1; a; columns alike) -> (a of rows, a of columns, O, I, rows: j - 1, j; columns)
    taps = transposed.weight.view(inputs, outputs, 2, 2, 2, 2).permute(3, 5, 1, 0, 2, 4).flip(4, 5)
    convolution.to(transposed.weight)
    convolution.weight.copy_(taps.reshape(4 * outputs, inputs, 2, 2))
    if transposed.bias is not None and convolution.bias is not None:
        convolution.bias.copy_(transposed.bias.repeat(4))
    return convolution
