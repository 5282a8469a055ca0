"""Whatever is switched on, the network computes what quantizing by that policy would."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from calibration.analysis.switches import Switches, int8_modules
from calibration.inputs import calibration_images
from calibration.policy import Policy, Rule, load_policy
from calibration.ptq import quantize_network
from training.checkpoint import Checkpoint, network_of
from training.models.fold import quantizable


@pytest.fixture(scope="module")
def batches(source: Checkpoint, people: Path) -> list[np.ndarray]:
    return list(calibration_images(source.card, data=people, count=8, seed=0).batches)


@pytest.fixture(scope="module")
def switches(source: Checkpoint, batches: list[np.ndarray]) -> Switches:
    return Switches(network_of(source), load_policy("default"), batches)


@pytest.fixture(scope="module")
def image() -> Iterator[torch.Tensor]:
    with torch.inference_mode():
        yield torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("restored", ["nothing", "backbone.stage3.*", "backbone.layer1.*"])
def test_switched_and_quantized_from_the_start_are_the_same_bits(
    source: Checkpoint, batches: list[np.ndarray], switches: Switches, image: torch.Tensor, restored: str
) -> None:
    base = load_policy("default")
    rule = Rule(match=restored, precision="float", optional=True, why="for a test")
    policy = base.model_copy(update={"rules": (rule, *base.rules)})
    chosen, _ = int8_modules(network_of(source), policy)
    expected, _ = quantize_network(network_of(source), policy, batches)
    for left, right in zip(expected.eval()(image), switches.use(chosen)(image), strict=True):
        assert torch.equal(left, right)


def test_with_nothing_switched_on_it_is_the_float_network(
    source: Checkpoint, switches: Switches, image: torch.Tensor
) -> None:
    expected = quantizable(network_of(source))(image)
    for left, right in zip(expected, switches.use(frozenset())(image), strict=True):
        assert torch.equal(left, right)


def test_every_module_alone_changes_the_maps(
    source: Checkpoint, switches: Switches, image: torch.Tensor
) -> None:
    _, candidates = int8_modules(network_of(source), load_policy("default"))
    plain = [m.clone() for m in switches.use(frozenset())(image)]
    for name in ("backbone.conv1", "offset_head.final", "heatmap_head.block.add"):
        assert name in candidates
        assert any(
            not torch.equal(left, right)
            for left, right in zip(plain, switches.use({name})(image), strict=True)
        )


def test_a_rule_s_own_calibrator_holds_for_its_modules_alone(
    source: Checkpoint, batches: list[np.ndarray]
) -> None:
    def rules(**more: str) -> Policy:
        first = {"match": "backbone.conv2", "precision": "int8", "why": "one", **more}
        rest = {"op": "conv", "precision": "int8", "why": "rest"}
        return Policy.model_validate({"name": "t", "about": "t", "rules": [first, rest]})

    plain, _ = quantize_network(network_of(source), rules(), batches)
    other, _ = quantize_network(
        network_of(source), rules(calibrator="percentile", granularity="tensor"), batches
    )
    name = "backbone.conv2"
    before, after = (n.get_submodule(f"{name}.input_quantizer").amax for n in (plain, other))
    assert float(after) < float(before)
    assert other.get_submodule(f"{name}.weight_quantizer").amax.numel() == 1
    name = "heatmap_head.transition.0"
    assert torch.equal(
        plain.get_submodule(f"{name}.input_quantizer").amax,
        other.get_submodule(f"{name}.input_quantizer").amax,
    )
