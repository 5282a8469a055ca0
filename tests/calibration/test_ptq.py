"""Calibration of a real network by the real ModelOpt: what is quantized, with which ranges, and what comes back."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from onnx import numpy_helper

from calibration.policy import Policy, Rule, load_policy
from calibration.ptq import enabled_quantizers, quantize_network, restore_network
from calibration.qat import FineTuning
from samkr_edge.errors import SamkrError
from training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, untrained_checkpoint
from training.checkpoint import network_of as open_network
from training.export import export_onnx
from training.loop.losses import LossSettings
from training.models.deploy import normalise
from training.models.pose_net import PoseNet

SIZE = (64, 64)


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)


def batches(count: int = 8) -> Iterator[np.ndarray]:
    yield from np.split(images(count), count // 4)


@pytest.fixture(scope="module")
def source() -> Checkpoint:
    return untrained_checkpoint("samkr_tiny")


@pytest.fixture(scope="module")
def quantized(source: Checkpoint) -> PoseNet:
    return quantize_network(open_network(source), load_policy("default"), batches())[0]


@pytest.fixture(scope="module")
def saved(source: Checkpoint, quantized: PoseNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ptq") / "ptq.pt"
    quantization = {"policy": load_policy("default").model_dump(mode="json")}
    card = replace(source.card, precision="int8", stage="ptq")
    save_checkpoint(
        path, Checkpoint(card, source.config, quantized.state_dict(), "quantized", {}, quantization)
    )
    return path


def test_weights_have_a_range_per_output_channel_and_activations_one(quantized: PoseNet) -> None:
    modules = dict(quantized.named_modules())
    for name, quantizer in enabled_quantizers(quantized):
        owner = modules[name.rpartition(".")[0]]
        wanted = owner.out_channels if name.endswith("weight_quantizer") else 1
        assert quantizer.amax.numel() == wanted, name
        assert quantizer.num_bits == 8
        assert bool((quantizer.amax > 0).all())


def test_the_range_of_the_first_input_is_the_largest_calibration_pixel(quantized: PoseNet) -> None:
    seen = normalise(torch.from_numpy(images(8))).abs().max()
    amax = quantized.get_submodule("backbone.conv1.input_quantizer").amax
    assert float(amax) == pytest.approx(float(seen), rel=1e-5)


def test_fake_quantization_changes_the_maps_a_little_and_not_at_all_beyond_that(
    source: Checkpoint, quantized: PoseNet
) -> None:
    image = normalise(torch.from_numpy(images(2, seed=5)))
    with torch.no_grad():
        expected, found = open_network(source).eval()(image), quantized.eval()(image)
    for left, right in zip(expected, found, strict=True):
        error = float((left - right).norm() / left.norm())
        assert 1e-6 < error < 0.2


@pytest.mark.parametrize("calibrator", ["entropy", "percentile"])
def test_histogram_calibrators_never_widen_a_range(
    source: Checkpoint, quantized: PoseNet, calibrator: str
) -> None:
    policy = Policy.model_validate({**load_policy("default").model_dump(), "calibrator": calibrator})
    other, _ = quantize_network(open_network(source), policy, batches())
    widest = {name: float(q.amax.max()) for name, q in enabled_quantizers(quantized)}
    narrower = 0
    for name, quantizer in enabled_quantizers(other):
        assert float(quantizer.amax.max()) <= widest[name] * 1.01, name
        narrower += float(quantizer.amax.max()) < widest[name] * 0.99
    assert narrower > 0


def test_a_restored_checkpoint_computes_bit_for_bit_the_same(quantized: PoseNet, saved: Path) -> None:
    again = restore_network(load_checkpoint(saved)).eval()
    image = normalise(torch.from_numpy(images(1, seed=7)))
    with torch.no_grad():
        for left, right in zip(quantized.eval()(image), again(image), strict=True):
            assert torch.equal(left, right)


def test_weights_that_do_not_fit_their_policy_are_refused(saved: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(saved)
    other = {"policy": load_policy("everything").model_dump(mode="json")}
    with pytest.raises(SamkrError) as caught:
        restore_network(replace(checkpoint, quantization=other))
    assert caught.value.code == "SE-A47"


def test_a_policy_that_this_version_does_not_know_is_refused(saved: Path) -> None:
    checkpoint = load_checkpoint(saved)
    other = {"policy": {**checkpoint.quantization["policy"], "of_a_later_version": 1}}
    with pytest.raises(SamkrError, match="of_a_later_version") as caught:
        restore_network(replace(checkpoint, quantization=other))
    assert caught.value.code == "SE-A47"


def test_too_few_images_are_refused(source: Checkpoint) -> None:
    with pytest.raises(SamkrError) as caught:
        quantize_network(open_network(source), load_policy("default"), [images(4)])
    assert caught.value.code == "SE-D43"


def test_nan_activations_are_a_named_error(source: Checkpoint) -> None:
    network = open_network(source)
    with torch.no_grad():
        network.get_submodule("backbone.conv2").weight.fill_(float("inf"))
    with pytest.raises(SamkrError) as caught:
        quantize_network(network, load_policy("default"), batches())
    assert caught.value.code in {"SE-A44", "SE-A45"}
    assert "quantizer" in str(caught.value)


def test_a_layer_that_never_fires_is_named_with_the_rule_that_helps(source: Checkpoint) -> None:
    network, policy = open_network(source), load_policy("default")
    with torch.no_grad():
        norm = network.get_submodule("backbone.bn1")
        norm.weight.zero_()
        norm.bias.fill_(-1.0)
    with pytest.raises(SamkrError) as caught:
        quantize_network(network, policy, batches())
    assert caught.value.code == "SE-A44"
    assert caught.value.facts["module"][0].startswith("backbone.conv2, by rule")
    lines = yaml.safe_load(str(caught.value.fix).partition("FILE:")[2])
    rules = (*(Rule.model_validate(line) for line in lines), *policy.rules)
    quantize_network(network, policy.model_copy(update={"rules": rules}), batches())


def test_a_dead_channel_still_gets_a_positive_scale(source: Checkpoint) -> None:
    network = open_network(source)
    with torch.no_grad():
        network.get_submodule("heatmap_head.transition.0").weight[3].zero_()
    found, _ = quantize_network(network, load_policy("default"), batches())
    amax = found.get_submodule("heatmap_head.transition.0.weight_quantizer").amax
    assert bool((amax > 0).all())


def test_the_exported_graph_is_symmetric_per_channel_and_free_of_quantizers_before_sampling(
    saved: Path, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(saved)
    path = tmp_path / "q.onnx"
    export_onnx(restore_network(checkpoint), checkpoint.card, path, size=SIZE)
    model = onnx.load(path)
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    makers = {output: node for node in model.graph.node for output in node.output}
    on_weights = 0
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        scale, zero = constants[node.input[1]], constants[node.input[2]]
        assert bool((scale > 0).all())
        assert not zero.any()
        assert zero.dtype == np.int8
        if node.input[0] in constants:
            on_weights += 1
            assert scale.shape == (constants[node.input[0]].shape[0],)
    assert on_weights > 40
    grid = next(node for node in model.graph.node if node.op_type == "GridSample").input[1]
    waiting, between = [grid], []
    while waiting:
        node = makers.get(waiting.pop())
        if node is None:
            continue
        between.append(node.op_type)
        if node.op_type != "Conv":
            waiting.extend(node.input)
    assert "Conv" in between
    assert "QuantizeLinear" not in between


def test_weights_that_died_beside_a_bias_that_lives_leave_room_for_it(source: Checkpoint) -> None:
    """Else an integer kernel, which adds the bias in steps of both scales, would clip it."""
    network = open_network(source)
    with torch.no_grad():
        norm = network.get_submodule("backbone.layer1.0.bn1")
        norm.weight[:3], norm.bias[:3] = 1e-12, 2.0  # type: ignore[index, operator]
    quantized, _ = quantize_network(network, load_policy("default"), batches())
    quantizers = dict(enabled_quantizers(quantized))
    ratios = []
    for name, quantizer in quantizers.items():
        module, _, kind = name.rpartition(".")
        bias = getattr(quantized.get_submodule(module), "bias", None)
        if kind == "weight_quantizer" and bias is not None:
            step = quantizer.amax.flatten() / 127 * quantizers[f"{module}.input_quantizer"].amax / 127
            ratios.append((bias.abs() / step).max())
    # An eighth of what int32 holds: unsigned activations have finer steps, and the sum itself needs some.
    assert max(ratios) == pytest.approx(2.0**28, rel=1e-3)


def test_fine_tuning_takes_a_range_that_was_widened_for_a_bias_for_no_share_of_the_weights(
    source: Checkpoint,
) -> None:
    network = open_network(source)
    with torch.no_grad():
        norm = network.get_submodule("backbone.layer1.0.bn1")
        norm.weight[0], norm.bias[0] = 1e-12, 2.0  # type: ignore[index, operator]
    quantized, _ = quantize_network(network, load_policy("default"), batches())
    hooks = FineTuning(quantized, LossSettings())
    weight = quantized.get_submodule("backbone.layer1.0.conv1").weight
    quantizer = quantized.get_submodule("backbone.layer1.0.conv1.weight_quantizer")
    assert float(quantizer.amax.flatten()[0]) > 2 * float(weight[0].detach().abs().max())  # type: ignore[index, operator]
    with torch.no_grad():
        weight[0] = 0.5  # type: ignore[index, operator]
    hooks.before_step(quantized, 0.0)
    assert float(quantizer.amax.flatten()[0]) == pytest.approx(0.5)
