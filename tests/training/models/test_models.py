"""The grouped network equals a plain loop over keypoints, and has the published parameters and operations."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samkr_edge.errors import SamkrError
from training.models import adaptive_conv
from training.models.adaptive_conv import AdaptiveBlock
from training.models.config import ModelConfig
from training.models.fold import fold_batch_norms
from training.models.grouped_conv import GroupedNarrowing, GroupedPointwise
from training.models.heads import OffsetHead
from training.models.macs import count_cost
from training.models.subspace_attention import SubspaceAttention
from training.models.zoo import build_model, model_config, model_names

# Parameters and GMACs counted on the official code (DEKR, its W18 with that width alone changed) and worked out for
# SAMKR's structures.
COSTS = [
    ("dekr_w32", 17, 29_561_182, 45.385),
    ("dekr_w48", 17, 65_684_590, 141.527),
    ("samkr_w32", 17, 29_582_568, 45.714),
    ("samkr_w48", 17, 65_710_056, 142.145),
    ("samkr_w32", 14, 29_539_683, 45.020),
    ("single_branch_272", 17, 30_844_072, 66.392),
    ("1_samkr_16", 17, 29_582_211, 45.714),
    ("16_samkr_16", 17, 29_582_976, 45.714),
    ("8_samkr_8", 17, 29_442_080, 43.432),
    ("8_samkr_24", 17, 29_762_224, 48.637),
    ("4_samkr_8", 17, 29_441_876, 43.432),
    ("12_samkr_24", 17, 29_762_428, 48.637),
    ("8_samkr_16", 17, 29_582_568, 45.714),
    ("2_samkr_16", 17, 29_582_262, 45.714),
    ("4_samkr_16", 17, 29_582_364, 45.714),
    ("dekr_w32", 14, 29_522_071, 44.749),
    ("dekr_w48", 14, 65_634_631, 140.256),
    ("samkr_w48", 14, 65_655_603, 140.765),
    ("dekr_w18", 17, 9_740_920, 20.043),
    ("samkr_w18", 17, 9_758_736, 20.313),
    ("samkr_w18", 14, 9_725_973, 19.785),
    ("samkr_w32_1block", 17, 29_528_066, 44.831),
    ("samkr_w48_1block", 17, 65_655_554, 140.766),
    ("samkr_w32_1block", 14, 29_494_799, 44.293),
    ("single_branch_272_1block", 17, 30_162_978, 55.242),
    ("8_samkr_24_1block", 17, 29_651_146, 46.832),
]

TINY = ModelConfig(
    "test", keypoints=3, input_size=(64, 64), width=8, stem_channels=8, bottlenecks=1, stage_modules=(1, 1, 1),
    blocks=1, channels=4, groups=2, default_init=True, identity_init=True,
)  # fmt: skip


@pytest.mark.parametrize(("name", "keypoints", "parameters", "gmacs"), COSTS)
def test_cost_is_the_published_one(name: str, keypoints: int, parameters: int, gmacs: float) -> None:
    cost = count_cost(model_config(name, keypoints))
    assert cost.parameters == parameters
    assert round(cost.macs / 1e9, 3) == gmacs


def bilinear(feature: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Values (c,) of feature (c, h, w) at one point, zero outside; the plainest way to write it."""
    _, h, w = feature.shape
    value = torch.zeros(feature.shape[0], dtype=feature.dtype)
    y0, x0 = int(torch.floor(y)), int(torch.floor(x))
    for yy in (y0, y0 + 1):
        for xx in (x0, x0 + 1):
            if 0 <= yy < h and 0 <= xx < w:
                value = value + feature[:, yy, xx] * (1 - (y - yy).abs()) * (1 - (x - xx).abs())
    return value


def looped_adaptive_block(block: AdaptiveBlock, x: Tensor, channels: int) -> Tensor:
    """Paper eq. (7)-(8) with loops over keypoints, pixels and taps; batch of one, eval mode."""
    assert block.sampling is not None
    _, total, h, w = x.shape
    branches = total // channels
    out = []
    for k in range(branches):
        own = x[:, k * channels : (k + 1) * channels]
        affine = F.conv2d(
            own,
            block.sampling.affine.weight[6 * k : 6 * k + 6],
            block.sampling.affine.bias[6 * k : 6 * k + 6],
            padding=1,
        )[0]
        kernel = block.adapt_conv.weight[k * channels : (k + 1) * channels].view(channels, channels, 3, 3)
        result = torch.zeros(channels, h, w, dtype=x.dtype)
        for row in range(h):
            for column in range(w):
                a = affine[:, row, column]
                for tap in range(9):
                    g = torch.tensor([tap // 3 - 1, tap % 3 - 1], dtype=x.dtype)
                    py = row + a[0] * g[0] + a[1] * g[1] + a[4]
                    px = column + a[2] * g[0] + a[3] * g[1] + a[5]
                    result[:, row, column] = result[:, row, column] + kernel[
                        :, :, tap // 3, tap % 3
                    ] @ bilinear(own[0], py, px)
        out.append(result)
    y = block.bn(torch.cat(out)[None])
    return torch.relu(y + x)


def randomised(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            nn.init.normal_(child.running_mean, std=0.1)
            nn.init.uniform_(child.running_var, 0.5, 1.5)
    return module.double().eval()


def test_the_adaptive_block_equals_a_loop_in_values_and_gradients() -> None:
    channels, branches = 2, 3
    block = AdaptiveBlock(channels, branches, deformable=True, identity=False)
    randomised(block)
    x = torch.randn(1, channels * branches, 5, 4, dtype=torch.float64, requires_grad=True)
    grouped = block(x)
    looped = looped_adaptive_block(block, x, channels)
    torch.testing.assert_close(grouped, looped, rtol=1e-5, atol=1e-9)
    weights = torch.randn_like(grouped)
    parameters = [x, block.adapt_conv.weight, block.sampling.affine.weight]
    for ours, theirs in zip(
        torch.autograd.grad((grouped * weights).sum(), parameters),
        torch.autograd.grad((looped * weights).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("bias", [False, True], ids=["training", "folded"])
def test_branches_one_after_the_other_equal_all_at_once(monkeypatch: pytest.MonkeyPatch, bias: bool) -> None:
    channels, branches = 2, 5
    block = AdaptiveBlock(channels, branches, deformable=True, identity=False)
    if bias:
        block.adapt_conv.bias = nn.Parameter(torch.zeros(channels * branches))
    randomised(block)
    x = torch.randn(3, channels * branches, 6, 7, dtype=torch.float64)
    with torch.no_grad():
        assert block._branches_at_once(x) >= branches
        whole = block(x)
        monkeypatch.setattr(adaptive_conv, "LARGEST_TAPS", 2 * 9 * 4 * channels * 3 * 6 * 7)
        assert block._branches_at_once(x) == 2  # so two, two and one
        torch.testing.assert_close(block(x), whole)
    assert block._branches_at_once(x) == branches  # training


def test_whoever_listens_to_an_adaptive_convolution_hears_all_branches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adaptive_conv, "LARGEST_TAPS", 1)
    block = AdaptiveBlock(2, 3, deformable=True, identity=False).eval()
    heard: list[torch.Size] = []
    block.adapt_conv.register_forward_hook(lambda _module, inputs, _output: heard.append(inputs[0].shape))
    with torch.no_grad():
        block(torch.randn(1, 6, 4, 4))
    assert heard == [(1, 6 * 9, 4, 4)]


def test_subspace_attention_equals_eq_9_written_per_subspace() -> None:
    channels, branches, groups = 4, 2, 2
    attention = SubspaceAttention(channels, branches, groups)
    randomised(attention)
    x = torch.randn(2, channels * branches, 6, 5, dtype=torch.float64)
    parts = []
    size = channels // groups
    for index, f in enumerate(x.split(size, dim=1)):
        own = slice(index * size, (index + 1) * size)
        depthwise, norm = attention.depthwise, attention.depthwise_bn
        y = f * depthwise.weight[own].view(1, -1, 1, 1) + depthwise.bias[own].view(1, -1, 1, 1)
        y = F.batch_norm(y, norm.running_mean[own], norm.running_var[own], norm.weight[own], norm.bias[own])
        y = F.max_pool2d(torch.relu(y), 3, 1, 1)
        point, norm, one = attention.pointwise, attention.pointwise_bn, slice(index, index + 1)
        y = F.conv2d(y, point.weight[one], point.bias[one])
        y = F.batch_norm(y, norm.running_mean[one], norm.running_var[one], norm.weight[one], norm.bias[one])
        weights = torch.softmax(torch.relu(y).flatten(2), dim=2).view_as(y)
        parts.append(f + f * weights)
    torch.testing.assert_close(attention(x), torch.cat(parts, dim=1), rtol=1e-9, atol=1e-12)


def test_attention_is_not_flushed_to_zero_in_half_precision() -> None:
    attention = SubspaceAttention(2, 1, 1).eval()
    with torch.no_grad():
        attention.pointwise.weight.zero_()
        attention.pointwise.bias.zero_()
    x = torch.ones(1, 2, 128, 128)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        gain = attention(x) - x
    assert gain.mean().item() == pytest.approx(2**-14, rel=1e-2)


@pytest.mark.parametrize(
    "layer",
    [
        GroupedPointwise(6, 4, 1, groups=2, bias=False),
        GroupedPointwise(6, 4, 1, groups=2),
        GroupedPointwise(6, 6, 1, groups=6),
        GroupedNarrowing(6, 4, 3, padding=1, groups=2),
    ],
    ids=["pointwise", "pointwise with bias", "depthwise", "narrowing"],
)
def test_grouped_convolutions_have_the_gradients_of_ordinary_ones(layer: nn.Conv2d) -> None:
    torch.manual_seed(0)
    layer = layer.double()
    x = torch.randn(3, 6, 4, 5, dtype=torch.float64, requires_grad=True)
    plain = F.conv2d(x, layer.weight, layer.bias, padding=layer.padding, groups=layer.groups)
    torch.testing.assert_close(layer(x), plain)
    assert type(layer(x).grad_fn) is not type(plain.grad_fn)  # it is the other way that is compared
    weights, wanted = torch.randn_like(plain), [x, *layer.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad((layer(x) * weights).sum(), wanted),
        torch.autograd.grad((plain * weights).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_sampling_coordinates_stay_float32_where_a_cpu_trains_in_bfloat16() -> None:
    layer = GroupedNarrowing(6, 4, 3, padding=1, groups=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.randn(1, 6, 4, 4, dtype=torch.bfloat16)).dtype == torch.float32


def test_official_initialisation_samples_the_centre_with_every_tap() -> None:
    head = OffsetHead(
        8, 2, 4, groups=2, adaptive_blocks=1, deformable=True, identity=False, single_branch=False, scale=1.0
    )
    sampling = head.blocks[0].sampling
    sampling.initialise()
    x = torch.randn(1, 8, 4, 4)
    sampled = sampling(x).view(1, 8, 9, 4, 4)
    torch.testing.assert_close(sampled, x.unsqueeze(2).expand_as(sampled), rtol=1e-5, atol=1e-5)


def test_folding_batch_norms_changes_nothing_but_the_structure() -> None:
    network = build_model(TINY)
    randomised(network)
    folded = fold_batch_norms(network)
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    for before, after in zip(network(x), folded(x), strict=True):
        torch.testing.assert_close(before, after)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert {n for n, m in network.named_modules() if isinstance(m, nn.Conv2d)} == {
        n for n, m in folded.named_modules() if isinstance(m, nn.Conv2d)
    }


@pytest.mark.parametrize("deformable", [True, False])
def test_maps_have_a_quarter_of_the_input_size(deformable: bool) -> None:
    from dataclasses import replace

    heatmap, offset = build_model(replace(TINY, deformable=deformable))(torch.randn(2, 3, 64, 96))
    assert heatmap.shape == (2, 4, 16, 24)
    assert offset.shape == (2, 6, 16, 24)


def test_an_unknown_model_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(SamkrError) as caught:
        model_config("samkr_w23")
    assert caught.value.code == "SE-U01"
    assert "samkr_w32" in str(caught.value)


@pytest.mark.parametrize("name", model_names())
def test_no_module_has_a_name_that_modelopt_leaves_out(name: str) -> None:
    with torch.device("meta"):
        network = build_model(model_config(name))
    excluded = ("output", "visual", "router", "lm_head", "vision")
    assert not [n for n, _ in network.named_modules() if any(word in n for word in excluded)]
