"""HigherHRNet and SWAHR by their authors' names, one function call after the other: what imported weights must compute.

Its outputs have been held against those of the official code itself, at full size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


def official_forward(image: Tensor, state: State) -> tuple[Tensor, Tensor]:
    """Image (N, 3, H, W) -> maps at stride 4, K heatmaps and then K tags, and at stride 2, K heatmaps.

    SWAHR's has K scale maps before either.
    """
    x = backbone(image, state)
    low = conv(x, state, "final_layers.0")
    first = "deconv_layers.0.0"
    y = F.conv_transpose2d(torch.cat([x, low], 1), state[f"{first}.0.weight"], stride=2, padding=1)
    y = chain(norm(y, state, f"{first}.1").relu(), state, "deconv_layers.0", "{}.0", start=1)
    high = conv(y, state, "final_layers.1")
    if "conv_scale_layers.0.0.weight" not in state:
        return low, high
    scales = [scale(features, state, f"conv_scale_layers.{index}") for index, features in enumerate((x, y))]
    return torch.cat([scales[0], low], 1), torch.cat([scales[1], high], 1)


def scale(x: Tensor, state: State, name: str) -> Tensor:
    x = norm(conv(x, state, f"{name}.0"), state, f"{name}.1").relu()
    return conv(x, state, f"{name}.3", groups=x.shape[1])


def backbone(image: Tensor, state: State) -> Tensor:
    """(N, 3, H, W) -> (N, C, H / 4, W / 4)."""
    x = image
    for number in (1, 2):
        x = norm(conv(x, state, f"conv{number}", stride=2), state, f"bn{number}").relu()
    x = chain(x, state, "layer1", "{}")
    branches = [
        conv_bn(x, state, "transition1.0").relu(),
        conv_bn(x, state, "transition1.1.0", stride=2).relu(),
    ]
    for stage in (2, 3, 4):
        if stage > 2:
            added = f"transition{stage - 1}.{stage - 1}.0"
            branches.append(conv_bn(branches[-1], state, added, stride=2).relu())
        for module in range(count(state, f"stage{stage}")):
            branches = fused(branches, state, f"stage{stage}.{module}")
    return branches[0]


def fused(branches: list[Tensor], state: State, name: str) -> list[Tensor]:
    """One module: blocks on every branch, and for every output the sum of what comes from all branches."""
    branches = [chain(x, state, f"{name}.branches.{b}", "{}") for b, x in enumerate(branches)]
    outputs = []
    for target in range(count(state, f"{name}.fuse_layers")):
        total = branches[target]
        for source, x in enumerate(branches):
            path = f"{name}.fuse_layers.{target}.{source}"
            if source > target:
                x = F.interpolate(conv_bn(x, state, path), scale_factor=2 ** (source - target))
            for step in range(target - source):
                x = conv_bn(x, state, f"{path}.{step}", stride=2)
                x = x if step == target - source - 1 else x.relu()
            total = total + x if source != target else total
        outputs.append(total.relu())
    return outputs


def chain(x: Tensor, state: State, name: str, block: str, start: int = 0) -> Tensor:
    """Basic blocks and bottlenecks, whose convolutions are numbered from 1."""
    for index in range(start, count(state, name)):
        inner, y = f"{name}.{block.format(index)}", x
        last = 3 if f"{inner}.conv3.weight" in state else 2
        for number in range(1, last + 1):
            y = norm(conv(y, state, f"{inner}.conv{number}"), state, f"{inner}.bn{number}")
            y = y if number == last else y.relu()
        skip = conv_bn(x, state, f"{inner}.downsample") if f"{inner}.downsample.0.weight" in state else x
        x = (y + skip).relu()
    return x


def count(state: State, name: str) -> int:
    """How many numbered parts there are below a name."""
    return len({key[len(name) + 1 :].partition(".")[0] for key in state if key.startswith(f"{name}.")})


def conv_bn(x: Tensor, state: State, name: str, stride: int = 1) -> Tensor:
    return norm(conv(x, state, f"{name}.0", stride), state, f"{name}.1")


def conv(x: Tensor, state: State, name: str, stride: int = 1, groups: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state.get(f"{name}.bias"), stride, weight.shape[-1] // 2, groups=groups)


def norm(x: Tensor, state: State, name: str) -> Tensor:
    names = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(x, *(state[f"{name}.{part}"] for part in names))
