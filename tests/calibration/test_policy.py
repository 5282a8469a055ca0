"""A policy is data: the first rule that matches decides, and a rule that matches nothing is a mistake."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from calibration.policy import assign, changed_policy, load_policy, policy_names, quantized_share
from samkr_edge.errors import SamkrError
from training.models.fold import quantizable
from training.models.macs import macs_of_quantizable
from training.models.pose_net import PoseNet
from training.models.zoo import build_model, model_config, model_names


@pytest.fixture(scope="module")
def network() -> PoseNet:
    return build_model(model_config("samkr_tiny"))


def write(path: Path, rules: list[dict[str, object]], **more: object) -> str:
    path.write_text(yaml.safe_dump({"about": "for a test", "rules": rules, **more}))
    return str(path)


def test_the_first_matching_rule_decides(network: PoseNet, tmp_path: Path) -> None:
    policy = load_policy(
        write(
            tmp_path / "p.yaml",
            [
                {"match": "backbone.conv1", "precision": "float", "why": "first"},
                {"op": "conv", "precision": "int8", "why": "second"},
            ],
        )
    )
    decided = {a.module: a for a in assign(policy, network)}
    assert (decided["backbone.conv1"].precision, decided["backbone.conv1"].why) == ("float", "first")
    assert (decided["backbone.conv2"].precision, decided["backbone.conv2"].why) == ("int8", "second")
    sums = [a for a in decided.values() if a.op == "residual_add"]
    assert sums
    assert all(a.precision == "float" and a.rule == -1 for a in sums)


def test_the_default_policy_keeps_sampling_attention_and_last_layers_float(network: PoseNet) -> None:
    decided = {a.module: a.precision for a in assign(load_policy("default"), network)}
    for name, precision in decided.items():
        if ".sampling." in name or ".attention." in name or name.endswith("_head.final"):
            assert precision == "float", name
    assert decided["backbone.conv1"] == decided["heatmap_head.transition.0"] == "int8"
    sums = {n: p for n, p in decided.items() if n.endswith(".add")}
    per_keypoint = {n: p for n, p in sums.items() if n.startswith("offset_head.")}
    assert set(per_keypoint.values()) == {"float"}
    assert len(sums) - len(per_keypoint) > 10
    assert {p for n, p in sums.items() if n not in per_keypoint} == {"int8"}


@pytest.mark.parametrize("name", ["samkr_tiny", "samkr_w32", "dekr_w32", "samkr_w32_nodc", "swahr_tiny"])
def test_every_shipped_policy_fits_every_kind_of_network(name: str) -> None:
    assert name in model_names()
    built = quantizable(build_model(model_config(name)))
    for policy in policy_names():
        assignments = assign(load_policy(policy), built)
        assert any(a.precision == "int8" for a in assignments)
        assert all(a.why for a in assignments)


@pytest.mark.parametrize("policy", ["default", "rtx"])
def test_heatmaps_and_tags_are_float_and_what_makes_the_finer_features_is_int8(policy: str) -> None:
    with torch.device("meta"):
        network = quantizable(build_model(model_config("swahr_tiny")))
    decided = {a.module: a.precision for a in assign(load_policy(policy), network)}
    head = {n.removeprefix("grouping_head."): p for n, p in decided.items() if n.startswith("grouping_head.")}
    assert {name for name, precision in head.items() if precision == "float"} == {"final_low", "final_high"}
    assert {name for name, precision in head.items() if precision == "int8"} == {
        "deconv.0", "blocks.0.conv1", "blocks.0.conv2", "blocks.0.add",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["samkr_tiny", "samkr_w32", "swahr_tiny"])
def test_the_default_policy_has_nine_tenths_of_the_work_in_int8(name: str) -> None:
    config = model_config(name)
    with torch.device("meta"):
        assignments = assign(load_policy("default"), quantizable(build_model(config)))
    macs = macs_of_quantizable(config)
    assert quantized_share(assignments, macs) > 0.9
    none = [replace(a, precision="float") for a in assignments]
    assert quantized_share(none, macs) == 0


def test_a_calibrator_from_outside_holds_for_every_rule(network: PoseNet, tmp_path: Path) -> None:
    rules: list[dict[str, object]] = [
        {"match": "backbone.conv1", "precision": "int8", "calibrator": "mse", "why": "one"},
        {"op": "conv", "precision": "int8", "why": "rest"},
    ]
    policy = load_policy(write(tmp_path / "p.yaml", rules, calibrator="percentile"))
    decided = {a.module: a.calibrator for a in assign(policy, network)}
    assert (decided["backbone.conv1"], decided["backbone.conv2"]) == ("mse", "percentile")
    forced = {a.calibrator for a in assign(changed_policy(policy, calibrator="entropy"), network)}
    assert forced == {"entropy", "max"}  # max: modules that no rule names
    assert changed_policy(policy, calibrator=None, bits=None) == policy
    with pytest.raises(SamkrError) as caught:
        changed_policy(policy, calibrator="mx")
    assert caught.value.code == "SE-U79"


def test_a_rule_that_matches_nothing_is_refused_with_the_nearest_names(
    network: PoseNet, tmp_path: Path
) -> None:
    policy = load_policy(
        write(tmp_path / "p.yaml", [{"match": "*heatmap_haed.final*", "precision": "int8", "why": "typo"}])
    )
    with pytest.raises(SamkrError) as caught:
        assign(policy, network)
    assert caught.value.code == "SE-U42"
    assert "heatmap_head.final" in caught.value.sentence()


def test_a_rule_shadowed_by_earlier_ones_is_not_a_mistake(network: PoseNet, tmp_path: Path) -> None:
    rules: list[dict[str, object]] = [
        {"op": "conv", "precision": "float", "why": "all"},
        {"match": "backbone.conv1", "precision": "int8", "why": "never reached"},
    ]
    decided = assign(load_policy(write(tmp_path / "p.yaml", rules)), network)
    assert {a.precision for a in decided} == {"float"}


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ("about: x\nrules:\n- {precison: int8, why: y}", "SE-U41", "precision"),
        ("about: x\nrules:\n- {precision: int4, why: y}", "SE-U41", "int8"),
        ("rules: [", "SE-U41", "reason"),
        ("- 1\n- 2", "SE-U41", ""),
    ],
)
def test_a_bad_policy_file_is_one_clear_error(tmp_path: Path, text: str, code: str, hint: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(SamkrError) as caught:
        load_policy(str(path))
    assert caught.value.code == code
    assert hint in str(caught.value)


def test_an_unknown_policy_names_the_shipped_ones() -> None:
    with pytest.raises(SamkrError) as caught:
        load_policy("defualt")
    assert caught.value.code == "SE-U40"
    assert "default" in str(caught.value)
    with pytest.raises(SamkrError) as caught:
        load_policy("mine/default")
    assert caught.value.code == "SE-U40"


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    rule: dict[str, object] = {"precision": "int8", "why": "y"}
    one = load_policy(write(tmp_path / "p.yaml", [rule]))
    other = load_policy(write(tmp_path / "p.yaml", [rule], bits=4))
    assert one.sha256 != other.sha256
    assert one.sha256 == load_policy(write(tmp_path / "p.yaml", [rule])).sha256
