"""The heads' last layers under autocast: what subspace attention adds reaches the offsets, and the loss its weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from training.models.heads import HeatmapHead, OffsetHead

MAP = 48  # 1 + 1 / 48^2 is 1 in bfloat16, and in FP16


@contextmanager
def half(kind: torch.dtype, *, training: bool) -> Iterator[None]:
    with torch.autocast("cpu", dtype=kind), torch.set_grad_enabled(training):
        yield


def random_weights(head: nn.Module) -> None:
    """What samples taps stays as it is. The attention's are small: its map is uneven, and nowhere near 0 or 1."""
    for name, parameter in head.named_parameters():
        if parameter.dim() == 4 and "affine" not in name:
            nn.init.normal_(parameter, std=0.2 if "attention" in name else 0.5)


@pytest.fixture
def head() -> OffsetHead:
    torch.manual_seed(0)
    head = OffsetHead(
        6, 3, 8, groups=4, adaptive_blocks=1, deformable=True, identity=True, single_branch=False, scale=8.0
    )
    random_weights(head)
    return head.eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 6, MAP, MAP, generator=torch.Generator().manual_seed(1))


KINDS = pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
MODES = pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])


@KINDS
@MODES
def test_attention_changes_nearly_every_offset(
    head: OffsetHead, x: Tensor, kind: torch.dtype, training: bool
) -> None:
    without = deepcopy(head)
    without.attention = nn.Identity()
    with half(kind, training=training):
        offsets, plain = head(x), without(x)
    assert offsets.dtype == torch.float32
    assert (offsets != plain).float().mean() > 0.99
    # And by as much as it should: 1 / (H W) of a feature, give or take the attention's own shape.
    assert ((offsets - plain).norm() / plain.norm()).item() == pytest.approx(1 / MAP**2, rel=0.7)


@KINDS
@MODES
def test_the_last_layers_are_those_of_float32_on_the_same_features(
    head: OffsetHead, x: Tensor, kind: torch.dtype, training: bool
) -> None:
    features = head.blocks(head.transition(x)).to(kind)
    tail = deepcopy(head)
    tail.transition = tail.blocks = nn.Identity()  # type: ignore[assignment]
    with half(kind, training=training):
        found = tail(features)
    # The attention's own convolutions are rounded, but what they weigh is 1 / (H W) of the result.
    expected = tail(features.float())
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6 * expected.abs().max().item())


@KINDS
def test_heatmaps_are_not_rounded_either(x: Tensor, kind: torch.dtype) -> None:
    torch.manual_seed(0)
    head = HeatmapHead(6, 4, 3, scale_branch=True)
    random_weights(head)
    with half(kind, training=True):
        features, heatmap = head.features(x), head(x)
        trained = head.forward_training(x)["heatmap"]
    assert heatmap.dtype == trained.dtype == torch.float32
    torch.testing.assert_close(heatmap, head.final(features.float()), rtol=1e-6, atol=1e-6)


@KINDS
def test_the_loss_reaches_the_attention(head: OffsetHead, x: Tensor, kind: torch.dtype) -> None:
    gradients = []
    for half_precision in (True, False):
        head.zero_grad()
        with torch.autocast("cpu", dtype=kind, enabled=half_precision):
            offsets = head.train()(x)
        offsets.float().square().mean().backward()
        weight = head.attention.pointwise.weight
        assert weight.grad is not None
        gradients.append(weight.grad.flatten().clone())
    assert torch.cosine_similarity(*gradients, dim=0) > 0.9
