"""A transposed convolution in the form that integers are computed in: the same numbers from an ordinary one."""

import pytest
import torch
from torch import nn

from training.models.fold import quantizable
from training.models.subpixel import Interleave, is_subpixel, subpixel
from training.models.zoo import build_model, model_config


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(7, 6), (1, 1)])
def test_an_ordinary_convolution_interleaved_is_the_transposed_one(bias: bool, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    transposed = nn.ConvTranspose2d(5, 3, 4, stride=2, padding=1, bias=bias).double()
    x = torch.randn(2, 5, *size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(Interleave()(subpixel(transposed)(x)), transposed(x))
    assert subpixel(transposed).weight.numel() == transposed.weight.numel()


@pytest.mark.parametrize(
    "other",
    [
        nn.ConvTranspose2d(4, 4, 2, stride=2),
        nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1, groups=2),
        nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1, output_padding=1),
        nn.Conv2d(4, 4, 4, stride=2, padding=1),
    ],
    ids=str,
)
def test_other_convolutions_have_no_such_form(other: nn.Module) -> None:
    assert not is_subpixel(other)


def test_a_quantizable_network_computes_the_same_and_keeps_its_names() -> None:
    torch.manual_seed(0)
    network = build_model(model_config("swahr_tiny", 5)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            nn.init.normal_(module.bias, std=0.1)
    found = quantizable(network)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for before, after in zip(network(image), found(image), strict=True):
            torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4 * float(before.abs().max()))
    network.drop_scale_branches()
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    names = [name for name, module in network.named_modules() if isinstance(module, kinds)]
    assert names == [name for name, module in found.named_modules() if isinstance(module, nn.Conv2d)]
    again = quantizable(found)
    assert again.state_dict().keys() == found.state_dict().keys()


def test_a_transposed_convolution_without_that_form_is_told() -> None:
    network = build_model(model_config("swahr_tiny", 5)).eval()
    network.grouping_head.deconv[0] = nn.ConvTranspose2d(26, 16, 2, stride=2)
    with pytest.raises(ValueError, match=r"grouping_head\.deconv\.0"):
        quantizable(network)
