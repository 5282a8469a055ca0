"""Groups of layers: every module of every network has one home."""

import pytest
import torch

from calibration.analysis.groups import GROUPS, group_modules
from calibration.policy import operation_of
from training.models.zoo import build_model, model_config, model_names


def modules_of(name: str) -> list[str]:
    with torch.device("meta"):
        network = build_model(model_config(name))
    return [
        n
        for n, module in network.named_modules()
        if operation_of(module) is not None and ".scale." not in n  # SWAHR's branch is not deployed
    ]


@pytest.mark.parametrize(
    "name", ["samkr_tiny", "samkr_w32", "dekr_w48", "samkr_w32_nodc", "single_branch_272"]
)
def test_every_module_has_exactly_one_home(name: str) -> None:
    assert name in model_names()
    modules = modules_of(name)
    members = group_modules(modules)
    assert sorted(m for found in members.values() for m in found) == sorted(modules)


def test_a_whole_samkr_has_all_groups_and_a_network_without_a_part_lacks_its_group() -> None:
    assert list(group_modules(modules_of("samkr_w32"))) == list(GROUPS)
    assert 20 <= len(GROUPS) <= 30
    names = {group.name for group in group_modules(modules_of("dekr_w32_nodc"))}
    assert {g.name for g in GROUPS} - names == {"attention", "adaptive offsets"}


def test_an_unknown_module_is_not_silently_left_out() -> None:
    with pytest.raises(ValueError, match=r"neck\.conv"):
        group_modules(["neck.conv"])
