"""Factors on channels: which are free, which are tied, and that any choice of them changes nothing."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calibration.channel_ties import FIXED, ChannelTies, trace_ties
from calibration.equalise import rescale
from training.models.adaptive_conv import AffineSampling
from training.models.config import ModelConfig
from training.models.fold import quantizable
from training.models.pose_net import PoseNet
from training.models.zoo import build_model

SMALL = ModelConfig(
    "small", input_size=(64, 64), width=8, stem_channels=16, bottlenecks=1, stage_modules=(1, 1, 1), blocks=1,
    channels=4, groups=2, adaptive_blocks=2, identity_init=True, offset_scale=8.0, default_init=True,
)  # fmt: skip
KINDS = {
    "samkr": SMALL,
    "dekr": replace(SMALL, groups=0, identity_init=False),
    "nodc": replace(SMALL, deformable=False),
    "single branch": replace(SMALL, single_branch=True, channels=12),
    "two bottlenecks, scale branch": replace(SMALL, bottlenecks=2, scale_branch=True),
    "14 keypoints": replace(SMALL, keypoints=14),
    "grouping": replace(
        SMALL, decoding="grouping", channels=0, groups=0, adaptive_blocks=0, scale_branch=True
    ),
}


def lively(config: ModelConfig) -> PoseNet:
    """Every weight and statistic random: nothing passes because it is zero."""
    torch.manual_seed(3)
    network = build_model(config).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, AffineSampling):
            nn.init.normal_(module.affine.weight, std=0.05)
    return network


def random_powers_of_two(ties: ChannelTies) -> Tensor:
    powers = torch.randint(-6, 7, (ties.factors + 1,), generator=torch.Generator().manual_seed(1)).float()
    powers[FIXED] = 0.0
    return powers.exp2()


@pytest.mark.parametrize("kind", KINDS)
def test_any_factors_leave_the_outputs_as_they_were_to_the_last_bit(kind: str) -> None:
    network = quantizable(lively(KINDS[kind]))
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = network(image)
        ties = trace_ties(network)
        before = network.backbone.conv2.weight.clone()
        # Powers of two: no product and no sum is rounded otherwise than before.
        rescale(network, ties, random_powers_of_two(ties))
        assert not torch.equal(before, network.backbone.conv2.weight)
        for left, right in zip(expected, network(image), strict=True):
            assert float(left.std()) > 0
            assert torch.equal(left, right)


def test_every_convolution_but_the_last_ones_can_be_rescaled() -> None:
    ties = trace_ties(quantizable(build_model(SMALL)))
    held = {name for name, around in ties.convolutions.items() if bool((around.writes == FIXED).any())}
    assert held == {
        "heatmap_head.final",
        "offset_head.final",
        "offset_head.blocks.0.sampling.affine",  # coordinates
        "offset_head.blocks.1.sampling.affine",
        "offset_head.attention.pointwise",  # softmax
    }
    first = ties.convolutions["backbone.conv1"]
    assert bool((first.reads == FIXED).all())  # the image
    assert len(first.writes.unique()) == 16


def test_a_residual_stream_is_tied_from_its_transition_to_both_heads() -> None:
    ties = trace_ties(quantizable(build_model(SMALL)), ["backbone.stage4.0.sums.1"]).convolutions
    stream = ties["backbone.transition1.0.0"].writes
    assert torch.equal(stream, ties["backbone.stage2.0.branches.0.0.conv2"].writes)
    assert torch.equal(stream, ties["backbone.stage4.0.fuse_layers.0.3.0"].writes)  # nearest resize, sum
    assert torch.equal(stream, ties["offset_head.transition.0"].reads[0, : len(stream)])  # concatenation
    second = ties["backbone.transition1.1.0.0"].writes
    # bilinear resize, and its place in the concatenation
    assert torch.equal(second, ties["heatmap_head.transition.0"].reads[5, len(stream) : 3 * len(stream)])
    assert not set(stream.tolist()) & set(ties["backbone.stage2.0.branches.0.0.conv1"].writes.tolist())


def test_the_four_channels_that_become_neighbouring_pixels_are_tied_and_tags_are_held() -> None:
    ties = trace_ties(quantizable(build_model(KINDS["grouping"])))
    held = {name for name, around in ties.convolutions.items() if bool((around.writes == FIXED).any())}
    assert held == {"grouping_head.final_low", "grouping_head.final_high"}
    deconv = ties.convolutions["grouping_head.deconv.0"]
    assert torch.equal(
        deconv.reads[0, 8:], torch.zeros(34, dtype=torch.int64)
    )  # heatmap and tags, as they are
    assert not bool((deconv.reads[0, :8] == FIXED).any())
    by_pixel = deconv.writes.view(4, 8)
    assert torch.equal(by_pixel, by_pixel[:1].expand(4, 8))
    assert len(by_pixel.unique()) == 8


def test_inputs_of_watched_modules_are_told_tensor_by_tensor() -> None:
    ties = trace_ties(quantizable(build_model(SMALL)), ["backbone.stage4.0.sums.1", "backbone.conv2"])
    assert torch.equal(ties.inputs["backbone.conv2"][0], ties.convolutions["backbone.conv1"].writes)
    terms = ties.inputs["backbone.stage4.0.sums.1"]
    assert len(terms) == 4
    assert all(torch.equal(term, terms[0]) for term in terms)


class Between(nn.Module):
    """Two convolutions and something between them."""

    def __init__(self, between: Callable[[Tensor], Tensor], inputs: int = 4, groups: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.between = between
        self.second = nn.Conv2d(inputs, 8, 1, groups=groups)

    def forward(self, image: Tensor) -> Tensor:
        return self.second(self.between(self.first(image)))


FREE: dict[str, Between] = {
    "relu": Between(F.relu),
    "max-pooling": Between(lambda x: F.max_pool2d(x, 3, 1, 1)),
    "nearest": Between(lambda x: F.interpolate(x, scale_factor=2.0)),
    "bilinear": Between(lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)),
    "a constant times": Between(lambda x: 0.5 * x),
    "reshape and back": Between(lambda x: x.view(1, 2, 2, -1).permute(0, 2, 1, 3).permute(0, 2, 1, 3).reshape(x.shape)),
    "concatenation": Between(lambda x: torch.cat([x, F.relu(x)], 1), inputs=8),
    "groups": Between(F.relu, groups=4),
    "attention": Between(lambda x: x + x * F.softmax(torch.zeros(x.shape, device=x.device), 2)),
}  # fmt: skip
PINNED: dict[str, Between] = {
    "softmax": Between(lambda x: F.softmax(x, 1)),
    "sigmoid": Between(torch.sigmoid),
    "adding a constant": Between(lambda x: x + 1.0),
    "adding a constant tensor": Between(lambda x: x + torch.ones(1, device=x.device)),
    "square": Between(lambda x: x * x),
    "difference": Between(lambda x: x - 0.5),
    "clipping": Between(lambda x: x.clamp(max=6.0)),
    "batch norm": Between(nn.BatchNorm2d(4).eval()),
    "mean of channels": Between(lambda x: x - x.mean(1, keepdim=True)),
    "coordinates": Between(
        lambda x: F.grid_sample(torch.ones_like(x), x[:, :2].permute(0, 2, 3, 1), align_corners=False)
    ),
}


@pytest.mark.parametrize("what", FREE)
def test_what_is_homogeneous_lets_factors_through(what: str) -> None:
    network = FREE[what].eval()
    ties = trace_ties(network)
    assert ties.factors == 4
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(image)
        rescale(network, ties, random_powers_of_two(ties))
        assert torch.equal(expected, network(image))


@pytest.mark.parametrize("what", PINNED)
def test_what_is_not_holds_its_inputs_as_they_are(what: str) -> None:
    ties = trace_ties(PINNED[what])
    assert ties.factors == 0
    assert bool((ties.convolutions["first"].writes == FIXED).all())
    assert bool((ties.convolutions["second"].reads == FIXED).all())


def test_a_sum_with_something_fixed_is_fixed_channel_by_channel() -> None:
    network = Between(lambda x: torch.cat([x[:, :2] + 1.0, x[:, 2:]], 1))
    assert trace_ties(network).convolutions["first"].writes.tolist() == [FIXED, FIXED, 1, 2]


def test_a_convolution_that_runs_twice_has_one_set_of_factors() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.shared = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
            self.last = nn.Conv2d(4, 2, 1)

        def forward(self, image: Tensor) -> Tensor:
            return self.last(self.shared(F.relu(self.shared(self.first(image)))))

    ties = trace_ties(Twice()).convolutions
    assert torch.equal(ties["first"].writes, ties["shared"].writes)


def test_a_transposed_convolution_is_not_followed() -> None:
    class Up(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.up = nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 4, 2, 2)

        def forward(self, image: Tensor) -> Tensor:
            return self.up(self.first(image))

    assert trace_ties(Up()).factors == 0
