"""Batch norm statistics of the weights that are kept.

While training, the running statistics follow weights that change with every step, and small batches at low resolution
see few positions. An average of weights (``ema``) never saw a batch at all. In evaluation such a network can
blow up on an unusual image, layer by layer, and its calibrated ranges with it. Statistics re-estimated with the final
weights over many images cure that: "precise BN" (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3).
"""

from __future__ import annotations

import copy
from itertools import islice

import torch
from torch import Tensor, nn

from training.data.training_set import TrainingSet
from training.models.deploy import normalise
from training.models.pose_net import PoseNet


@torch.no_grad()
def settle_norms(
    network: PoseNet, weights: dict[str, Tensor], samples: TrainingSet, batches: int, batch_size: int
) -> PoseNet:
    """A copy of ``network`` with ``weights`` and the statistics that they give over ``batches`` of the training set.

    The images are those of the first epoch's order, augmented as they were then, so the result is the same every time.
    Each statistic is the plain mean over the batches. ``weights`` are tensors of any shape, by name.
    """
    settled = copy.deepcopy(network)
    settled.load_state_dict(weights)
    settled.train()
    for module in settled.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # torch's word for a plain mean
    device = next(settled.parameters()).device
    order = iter(samples.order(0).tolist())
    for _ in range(batches):
        images = [samples.sample(0, index)["image"] for index in islice(order, batch_size)]
        if len(images) < 2:
            break
        settled(normalise(torch.stack(images).to(device)))
    return settled
