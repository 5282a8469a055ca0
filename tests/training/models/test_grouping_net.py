"""HigherHRNet and SWAHR: sizes, maps, and what folding and half precision leave alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from samkr_edge.errors import SamkrError
from training.cli.models import PRINTED
from training.models.fold import fold_batch_norms
from training.models.grouping_net import GroupingHead, GroupingNet
from training.models.macs import count_cost
from training.models.pose_net import PoseNet
from training.models.zoo import build_model, model_config


def random_weights(network: nn.Module) -> None:
    """Weights and statistics at which no part of a network is 0 or does nothing."""
    torch.manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    module.bias.normal_(std=0.1)
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(std=0.2)
                module.running_var.uniform_(0.5, 2)
                module.weight.normal_(1, 0.15)
                module.bias.normal_(std=0.1)


@pytest.fixture(scope="module")
def tiny() -> GroupingNet:
    network = build_model(model_config("swahr_tiny", 5))
    assert isinstance(network, GroupingNet)
    random_weights(network)
    return network.eval()


@pytest.fixture
def image() -> Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "keypoints", "parameters", "gmacs"),
    [
        ("higherhrnet_w32", 17, 28_645_331, 47.9),
        ("higherhrnet_w48", 17, 63_827_139, 154.3),
        ("swahr_w32", 17, 28_645_331, 47.9),
        ("swahr_w48", 14, 63_822_090, 153.8),
    ],
)
def test_sizes_are_those_of_the_official_code(
    name: str, keypoints: int, parameters: int, gmacs: float
) -> None:
    cost = count_cost(model_config(name, keypoints))
    assert cost.parameters == parameters
    assert round(cost.macs / 1e9, 1) == gmacs


@pytest.mark.parametrize("name", ["swahr_w32", "swahr_w48"])
def test_what_is_printed_of_swahr_includes_the_scale_branches(name: str) -> None:
    config = model_config(name)
    with torch.device("meta"):
        network = build_model(config)
    height, width = config.input_size
    branches = 0
    for branch, stride in zip(network.scale_branches, (4, 2), strict=True):
        weights = sum(m.weight.numel() for m in branch.modules() if isinstance(m, nn.Conv2d))
        branches += weights * (height // stride) * (width // stride)
    printed = float(PRINTED[name][1])
    assert round((count_cost(config).macs + branches) / 1e9, 1) == printed
    assert round(count_cost(config).macs / 1e9, 1) < printed


def test_only_training_has_the_scale_branches(tiny: GroupingNet, image: Tensor) -> None:
    with torch.no_grad():
        assert sorted(tiny.forward_training(image)) == ["heatmap", "heatmap_low", "scale", "scale_low", "tag"]
        plain = build_model(replace(tiny.config, scale_branch=False)).eval()
        plain.load_state_dict(tiny.state_dict(), strict=False)
        assert sorted(plain.forward_training(image)) == ["heatmap", "heatmap_low", "tag"]
        for found, expected in zip(plain(image), tiny(image), strict=True):
            assert torch.equal(found, expected)
    assert len(tiny.scale_branches) == 2
    assert not plain.scale_branches


def test_the_deployed_heatmap_is_the_mean_of_both_resolutions(tiny: GroupingNet, image: Tensor) -> None:
    with torch.no_grad():
        maps, (heatmap, tag) = tiny.forward_training(image), tiny(image)
    assert heatmap.shape == (2, 5, 32, 48)
    assert tag.shape == (2, 5, 16, 24)
    low = nn.functional.interpolate(maps["heatmap_low"], scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(heatmap, (low + maps["heatmap"]) / 2)
    assert torch.equal(tag, maps["tag"])
    assert maps["scale"].shape == maps["heatmap"].shape
    assert maps["scale_low"].shape == tag.shape


def test_folding_changes_nothing_but_rounding(tiny: GroupingNet, image: Tensor) -> None:
    folded: PoseNet = fold_batch_norms(tiny)
    assert not folded.scale_branches
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    with torch.no_grad():
        for found, expected in zip(folded(image), tiny(image), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_heatmaps_and_tags_are_not_rounded_to_half_precision() -> None:
    head = GroupingHead(8, 3, 1, scale_branch=False).eval()
    random_weights(head)
    x = torch.randn(1, 8, 6, 6, generator=torch.Generator().manual_seed(2)).bfloat16()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        heatmap, tag = head(x)
    with torch.no_grad():
        expected = nn.functional.conv2d(x.float(), head.final_low.weight, head.final_low.bias)
    assert heatmap.dtype == tag.dtype == torch.float32
    torch.testing.assert_close(tag, expected[:, 3:], rtol=1e-5, atol=1e-5)


def test_the_papers_start_leaves_the_scale_branch_at_zero() -> None:
    network = build_model(replace(model_config("swahr_tiny", 5), default_init=False))
    with torch.no_grad():
        maps = network.forward_training(torch.randn(1, 3, 64, 64))
    assert not maps["scale"].any()
    assert not maps["scale_low"].any()
    deconv = network.get_submodule("grouping_head.deconv.0")
    assert isinstance(deconv, nn.ConvTranspose2d)
    assert 0.0005 < float(deconv.weight.detach().std()) < 0.0015


@pytest.mark.parametrize("name", ["higherhrnet_w32_1block", "swahr_tiny_1block"])
def test_a_network_without_adaptive_convolutions_has_no_version_with_one_block(name: str) -> None:
    with pytest.raises(SamkrError, match="SE-U01"):
        model_config(name)
