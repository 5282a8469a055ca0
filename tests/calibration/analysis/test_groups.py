"""Groups of layers: every module of every network has one home."""

from dataclasses import replace

import pytest
import torch

from calibration.analysis.groups import GROUPS, group_modules
from calibration.policy import operation_of
from training.models.fold import quantizable
from training.models.zoo import build_model, model_config, model_names


def modules_of(name: str, **changes: bool) -> list[str]:
    with torch.device("meta"):
        network = quantizable(build_model(replace(model_config(name), **changes)))
    return [n for n, module in network.named_modules() if operation_of(module) is not None]


@pytest.mark.parametrize(
    "name",
    ["samkr_tiny", "samkr_w32", "dekr_w48", "samkr_w32_nodc", "single_branch_272", "swahr_w32", "swahr_tiny"],
)
def test_every_module_has_exactly_one_home(name: str) -> None:
    assert name in model_names()
    modules = modules_of(name)
    members = group_modules(modules)
    assert sorted(m for found in members.values() for m in found) == sorted(modules)


def names_of(name: str, **changes: bool) -> list[str]:
    return [group.name for group in group_modules(modules_of(name, **changes))]


def test_a_network_has_all_groups_but_those_of_parts_it_lacks() -> None:
    whole, grouping = names_of("samkr_tiny"), names_of("swahr_tiny")
    assert {*whole} - {*names_of("dekr_tiny", deformable=False)} == {"attention", "adaptive offsets"}
    heads = [name for name in whole if name.split()[0] in ("heatmap", "offset", "adaptive", "attention")]
    assert grouping[:-4] == [name for name in whole if name not in heads]
    assert grouping[-4:] == ["tags and heatmap", "deconvolution", "stride 2 blocks", "stride 2 heatmap"]
    assert {group.name for group in GROUPS} == {*whole, *grouping}


def test_an_unknown_module_is_not_silently_left_out() -> None:
    with pytest.raises(ValueError, match=r"neck\.conv"):
        group_modules(["neck.conv"])
