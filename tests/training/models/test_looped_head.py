"""The benchmark's looped head computes what the grouped one does: a speed-up over something else would mean nothing."""

from dataclasses import replace

import pytest
import torch
from small_run import SMALL
from torch import nn

from training.models.looped_head import LoopedOffsetHead
from training.models.zoo import build_model


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_looped_head_equals_the_grouped_one_in_values_and_gradients(blocks: int) -> None:
    torch.manual_seed(0)
    keypoints = 3
    head = build_model(replace(SMALL, keypoints=keypoints, adaptive_blocks=blocks)).offset_head.double()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.4)
    looped = LoopedOffsetHead(head, keypoints)
    x = torch.randn(2, head.transition[0].in_channels, 6, 5, dtype=torch.float64, requires_grad=True)
    inputs = [x, *head.parameters()]
    results = []
    for form in (head.train(), looped.train()):
        offset = form(x)
        results.append([offset, *torch.autograd.grad(offset.square().sum(), inputs)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-9)
