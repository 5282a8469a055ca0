"""Fold batch normalisation into the convolution before it, so that torch, ONNX and an engine compute the same."""

from __future__ import annotations

import copy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from training.models.pose_net import PoseNet
from training.models.subpixel import Interleave, is_subpixel, subpixel

# Attribute pairs (convolution, batch normalisation) outside nn.Sequential.
_PAIRS = (
    ("conv1", "bn1"),
    ("conv2", "bn2"),
    ("conv3", "bn3"),
    ("adapt_conv", "bn"),
    ("depthwise", "depthwise_bn"),
    ("pointwise", "pointwise_bn"),
)


def fold_batch_norms(network: PoseNet) -> PoseNet:
    """A copy in eval mode with every batch normalisation folded and replaced by ``nn.Identity``.

    Exact up to float rounding. Names of convolutions stay, so policies written for one form fit the other. SWAHR's
    scale branch is dropped: only the loss uses it.

    Raises:
        ValueError: a batch normalisation is left that follows no convolution.
    """
    folded = copy.deepcopy(network).eval()
    folded.drop_scale_branches()
    for module in list(folded.modules()):
        pairs = [pair for pair in _PAIRS if isinstance(getattr(module, pair[1], None), nn.BatchNorm2d)]
        if isinstance(module, nn.Sequential):
            names = list(module._modules)
            pairs += [pair for pair in pairwise(names) if _is_pair(module, pair)]
        for conv_name, bn_name in pairs:
            conv, norm = getattr(module, conv_name), getattr(module, bn_name)
            # Not fuse_conv_bn_eval, which copies a convolution that is our own already: as long again as all the rest.
            weights = (conv.weight, conv.bias, norm.running_mean, norm.running_var)
            conv.weight, conv.bias = fuse_conv_bn_weights(
                *weights, norm.eps, norm.weight, norm.bias, isinstance(conv, nn.ConvTranspose2d)
            )
            setattr(module, bn_name, nn.Identity())
    left = [name for name, module in folded.named_modules() if isinstance(module, nn.BatchNorm2d)]
    if left:
        raise ValueError(f"batch normalisation without a convolution before it: {left}")
    return folded


def quantizable(network: PoseNet) -> PoseNet:
    """A copy in eval mode that quantizers can be put into: batch norms folded, transposed convolutions ordinary ones.

    INT8 then needs no kernel for transposed convolutions, which ONNX Runtime has not. Exact up to float rounding; names
    of convolutions stay. A network that is quantizable already is only copied.

    Raises:
        ValueError: see ``fold_batch_norms``; a transposed convolution that has no such form, or no ReLU after it.
    """
    folded = fold_batch_norms(network)
    for name, module in [*folded.named_modules()]:
        if not isinstance(module, nn.ConvTranspose2d):
            continue
        parent = folded.get_submodule(name.rpartition(".")[0])
        kinds = [type(child) for child in parent.children()]
        if kinds != [nn.ConvTranspose2d, nn.Identity, nn.ReLU] or not is_subpixel(module):
            raise ValueError(f"a transposed convolution that has no form for INT8: {name}")
        # The ReLU beside its convolution, where every runtime fuses it; interleaving only moves values.
        first, second, third = parent._modules
        parent._modules.update({first: subpixel(module), second: nn.ReLU(inplace=True), third: Interleave()})
    return folded


def _is_pair(module: nn.Sequential, pair: tuple[str, str]) -> bool:
    first, second = (module._modules[name] for name in pair)
    return isinstance(first, nn.Conv2d | nn.ConvTranspose2d) and isinstance(second, nn.BatchNorm2d)
