"""Tensors that meet in a sum share one range, and so do all readers of one tensor."""

import pytest

from calibration.policy import assign, load_policy
from calibration.scale_groups import scale_groups, trace_readers
from training.models.fold import quantizable
from training.models.zoo import build_model, model_config


@pytest.fixture(scope="module")
def groups() -> list[set[str]]:
    folded = quantizable(build_model(model_config("samkr_tiny")).eval())
    assignments = assign(load_policy("default"), folded)
    int8 = {a.module for a in assignments if a.precision == "int8"}
    return [set(group) for group in scale_groups(trace_readers(folded, assignments), int8)]


def group_of(name: str, groups: list[set[str]]) -> set[str]:
    (found,) = [group for group in groups if name in group]
    return found


def test_a_block_s_skip_its_branch_and_the_convolution_that_reads_the_skip_share(
    groups: list[set[str]],
) -> None:
    block = "backbone.stage2.0.branches.0.1"
    assert group_of(f"{block}.add.skip_input_quantizer", groups) == {
        f"{block}.conv1.input_quantizer",
        f"{block}.add.skip_input_quantizer",
        f"{block}.add.branch_input_quantizer",
    }


def test_the_terms_of_a_sum_share_with_all_who_read_its_own_branch(groups: list[set[str]]) -> None:
    module = "backbone.stage3.0"
    assert group_of(f"{module}.sums.1.term0_input_quantizer", groups) == {
        *(f"{module}.sums.1.term{i}_input_quantizer" for i in range(3)),
        f"{module}.fuse_layers.0.1.0.input_quantizer",
        f"{module}.fuse_layers.2.1.0.0.input_quantizer",
    }


def test_both_heads_read_the_concatenation_by_one_range(groups: list[set[str]]) -> None:
    found = group_of("heatmap_head.transition.0.input_quantizer", groups)
    assert found == {"heatmap_head.transition.0.input_quantizer", "offset_head.transition.0.input_quantizer"}


def test_no_quantizer_is_in_two_groups_and_no_group_holds_two_sums(groups: list[set[str]]) -> None:
    names = [name for group in groups for name in group]
    assert len(names) == len(set(names))
    for group in groups:
        sums = {n.rpartition(".")[0] for n in group if ".sums." in n or ".add." in n}
        assert len(sums) <= 1, sums


def test_a_module_that_stays_float_takes_no_part() -> None:
    folded = quantizable(build_model(model_config("samkr_tiny")).eval())
    assignments = assign(load_policy("trunk_only"), folded)
    int8 = {a.module for a in assignments if a.precision == "int8"}
    names = {name for group in scale_groups(trace_readers(folded, assignments), int8) for name in group}
    assert names
    assert all(name.startswith("backbone.") for name in names)
