"""A network without its subspace attention, and otherwise with the same weights.

The attention multiplies each value of a feature map by ``1 + A``, where A sums to 1 over the map: its mean is 1/(H*W),
6e-5 on a map of 128x128. Unless training has made it a sharp peak, a network computes the same without it.
"""

from __future__ import annotations

import copy
from dataclasses import replace

from torch import nn

from samkr_edge.errors import SamkrError
from training.models.offset_net import OffsetNet
from training.models.pose_net import PoseNet


def without_attention(network: PoseNet) -> PoseNet:
    """A copy, float or fake-quantized as the network is, whose offset head has no attention and whose ``config`` says
    so (``groups`` 0). All remaining parameters and buffers have the same bits; quantizers inside the attention are
    removed too.

    Raises:
        SamkrError: SE-U80 it has none, like DEKR.
    """
    if not (isinstance(network, OffsetNet) and network.config.groups):
        raise SamkrError(
            "SE-U80",
            f"{network.config.name} has no attention, so there is nothing to leave out",
            fix="samkr-edge export CHECKPOINT -o model.onnx   # it is exported without any",
        )
    copied = copy.deepcopy(network)
    copied.offset_head.attention = nn.Identity()
    copied.config = replace(copied.config, groups=0)
    return copied
