"""One scale a weight collapses where channels differ; rescaled channels bring it back, and the function stays."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor

from calibration.analysis.switches import Switches, int8_modules
from calibration.channel_ties import FIXED, trace_ties
from calibration.equalise import LARGEST_ACTIVATION, LARGEST_FACTOR, Equalised, equalise_network, rescale
from calibration.inputs import calibration_images
from calibration.policy import Policy, assign, load_policy
from calibration.ptq import enabled_quantizers, quantize_network, restore_network
from calibration.qat import FineTuning
from samkr_edge.errors import SamkrError
from training.checkpoint import Checkpoint, load_checkpoint, network_of, save_checkpoint
from training.export import export_onnx
from training.loop.losses import LossSettings
from training.models.deploy import normalise
from training.models.fold import quantizable
from training.models.pose_net import PoseNet


@pytest.fixture(scope="module")
def batches(source: Checkpoint, people: Path) -> list[np.ndarray]:
    return list(calibration_images(source.card, data=people, count=16, seed=0).batches)


@pytest.fixture(scope="module")
def image(batches: list[np.ndarray]) -> Tensor:
    return normalise(torch.from_numpy(batches[0]))


@pytest.fixture(scope="module")
def tensor_wise() -> Policy:
    """One range a weight, for every module there is, as it is."""
    rtx = load_policy("rtx")
    rules = [
        rule.model_copy(update={"granularity": "tensor", "below_channels": None})
        if rule.op == "conv" and rule.precision == "int8"
        else rule
        for rule in rtx.rules
        if rule.below_channels != 16  # this network is narrow
    ]
    return rtx.model_copy(update={"rules": tuple(rules), "equalise": False})


@pytest.fixture(scope="module")
def equalised(
    source: Checkpoint, tensor_wise: Policy, batches: list[np.ndarray]
) -> tuple[PoseNet, Equalised]:
    """The trained network, quantized with its channels equalised."""
    told: list[Equalised] = []
    policy = tensor_wise.model_copy(update={"equalise": True})
    quantized, _ = quantize_network(network_of(source), policy, batches, equalised=told.append)
    return quantized, told[0]


@pytest.fixture(scope="module")
def plain(source: Checkpoint, tensor_wise: Policy, batches: list[np.ndarray]) -> PoseNet:
    """The trained network, quantized as it is."""
    return quantize_network(network_of(source), tensor_wise, batches)[0]


@pytest.fixture(scope="module")
def spread(source: Checkpoint) -> PoseNet:
    """The trained network with channels of very different size; its outputs are the same."""
    network = quantizable(network_of(source))
    ties = trace_ties(network)
    powers = (2.0 * torch.randn(ties.factors + 1, generator=torch.Generator().manual_seed(0))).round()
    powers[FIXED] = 0.0
    rescale(network, ties, powers.exp2())
    return network


@torch.no_grad()
def maps(network: PoseNet, image: Tensor) -> tuple[Tensor, ...]:
    return network.eval()(image)


def error(network: PoseNet, expected: tuple[Tensor, ...], image: Tensor) -> float:
    """Relative, of both maps together."""
    found = maps(network, image)
    squares = [float((f - e).square().sum() / e.square().sum()) for f, e in zip(found, expected, strict=True)]
    return float(np.sqrt(sum(squares)))


def with_equalising(policy: Policy) -> Policy:
    return policy.model_copy(update={"equalise": True})


def test_per_tensor_quantization_collapses_on_spread_channels_and_equalising_restores_it(
    spread: PoseNet, plain: PoseNet, tensor_wise: Policy, batches: list[np.ndarray], image: Tensor
) -> None:
    expected = maps(spread, image)
    as_trained = error(plain, expected, image)
    collapsed = error(quantize_network(spread, tensor_wise, batches)[0], expected, image)
    restored = error(quantize_network(spread, with_equalising(tensor_wise), batches)[0], expected, image)
    assert as_trained < 0.1
    assert collapsed > 0.7
    assert restored < 0.15 * collapsed


def test_the_float_network_stays_what_it_was(
    spread: PoseNet, tensor_wise: Policy, batches: list[np.ndarray], image: Tensor
) -> None:
    changed = copy.deepcopy(spread)
    done = equalise_network(changed, tensor_wise, batches)
    assert done.factors > 300
    assert not torch.equal(changed.backbone.conv2.weight, spread.backbone.conv2.weight)
    assert error(changed, maps(spread, image), image) < 1e-4
    for before, after in zip(spread.parameters(), changed.parameters(), strict=True):
        assert after.requires_grad == before.requires_grad
        assert after.grad is None


def test_the_expected_error_is_the_one_that_is_then_measured(
    source: Checkpoint, plain: PoseNet, equalised: tuple[PoseNet, Equalised], image: Tensor
) -> None:
    expected = maps(network_of(source), image)
    quantized, done = equalised
    assert done.error_after < 0.9 * done.error_before
    for network, told in ((plain, done.error_before), (quantized, done.error_after)):
        measured = error(network, expected, image)
        assert measured / 4 < told < measured * 4  # few weights decide in so small a network


def test_dead_channels_do_no_harm(
    source: Checkpoint, tensor_wise: Policy, batches: list[np.ndarray], image: Tensor
) -> None:
    network = quantizable(network_of(source))
    with torch.no_grad():
        block = network.get_submodule("backbone.stage2.0.branches.0.0")
        block.conv1.weight[0], block.conv1.bias[0] = 0.0, 0.0  # type: ignore[union-attr, index, operator]
        block.conv1.weight[1], block.conv1.bias[1] = 0.0, -1.0  # type: ignore[union-attr, index, operator]
        block.conv1.weight[2], block.conv1.bias[2] = 0.0, 0.5  # type: ignore[union-attr, index, operator]
        block.conv2.weight[:, 3] = 0.0  # type: ignore[union-attr, index, operator]
    expected = maps(network, image)
    changed = copy.deepcopy(network)
    equalise_network(changed, tensor_wise, batches)
    assert all(bool(torch.isfinite(p).all()) for p in changed.parameters())
    assert error(changed, expected, image) < 1e-4
    unequalised, _ = quantize_network(network, tensor_wise, batches)
    quantized, _ = quantize_network(changed, tensor_wise, batches)
    assert error(quantized, expected, image) < 1.1 * error(unequalised, expected, image)


def test_factors_and_activations_stay_inside_fp16(
    source: Checkpoint, tensor_wise: Policy, batches: list[np.ndarray], image: Tensor
) -> None:
    network = quantizable(network_of(source))
    ties = trace_ties(network)
    name = "backbone.stage2.0.branches.0.0.conv1"
    sizes = torch.ones(ties.factors + 1)
    sizes[ties.convolutions[name].writes[0]] = 2.0**-30
    sizes[ties.convolutions[name].writes[1]] = 2.0**30
    rescale(network, ties, sizes)
    before = network.get_submodule(name).bias.clone()  # type: ignore[union-attr, operator]
    equalise_network(network, tensor_wise, batches)
    grown = network.get_submodule(name).bias / before  # type: ignore[operator]
    assert float(grown[0]) == pytest.approx(LARGEST_FACTOR, rel=1e-5)
    assert float(grown[1]) == pytest.approx(1 / LARGEST_FACTOR, rel=1e-5)
    assert bool((grown <= LARGEST_FACTOR * 1.001).all())

    network = quantizable(network_of(source))
    with torch.no_grad():
        network.get_submodule(name).bias[2] = 3000.0  # type: ignore[union-attr, index, operator]
    equalise_network(network, tensor_wise, batches)
    largest = []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_pre_hook(lambda m, given: largest.append(float(given[0].abs().max())))
    maps(network, image)
    assert 0 < max(largest) <= 2 * LARGEST_ACTIVATION  # rare images have no say


def test_a_policy_without_int8_changes_no_weight(source: Checkpoint, batches: list[np.ndarray]) -> None:
    nothing = Policy.model_validate(
        {"name": "t", "about": "t", "equalise": True, "rules": [{"precision": "float", "why": "all"}]}
    )
    network = quantizable(network_of(source))
    before = copy.deepcopy(network.state_dict())
    assert equalise_network(network, nothing, batches).factors == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("count", [0, 4])
def test_too_few_images_are_refused_as_without(
    source: Checkpoint, batches: list[np.ndarray], count: int
) -> None:
    images = [batch[:1] for batch in batches][:count]
    with pytest.raises(SamkrError) as caught:
        quantize_network(network_of(source), load_policy("rtx"), iter(images))
    assert caught.value.code == "SE-D43"


def test_a_broken_network_is_the_same_named_error(source: Checkpoint, batches: list[np.ndarray]) -> None:
    network = network_of(source)
    with torch.no_grad():
        network.get_submodule("backbone.conv2").weight.fill_(float("inf"))  # type: ignore[union-attr, operator]
    with pytest.raises(SamkrError) as caught:
        quantize_network(network, load_policy("rtx"), batches)
    assert caught.value.code == "SE-A44"


@pytest.fixture(scope="module")
def saved(
    source: Checkpoint, batches: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, PoseNet]:
    policy = load_policy("rtx")
    quantized, _ = quantize_network(network_of(source), policy, batches)
    quantized.eval()
    path = tmp_path_factory.mktemp("rtx") / "rtx.pt"
    card = replace(source.card, precision="int8", stage="ptq")
    quantization = {"policy": policy.model_dump(mode="json")}
    save_checkpoint(
        path, Checkpoint(card, source.config, quantized.state_dict(), "quantized", {}, quantization)
    )
    return path, quantized


def test_the_checkpoint_holds_the_rescaled_weights_and_comes_back_bit_for_bit(
    saved: tuple[Path, PoseNet], image: Tensor
) -> None:
    path, quantized = saved
    again = restore_network(load_checkpoint(path))
    for left, right in zip(maps(quantized, image), maps(again, image), strict=True):
        assert torch.equal(left, right)


def test_every_int8_weight_has_one_scale_and_keeps_it_while_it_trains(
    saved: tuple[Path, PoseNet],
) -> None:
    network = restore_network(load_checkpoint(saved[0]))
    weights = [(n, q) for n, q in enabled_quantizers(network) if n.endswith("weight_quantizer")]
    assert weights
    tuning = FineTuning(network, LossSettings())
    with torch.no_grad():
        for name, _ in weights:
            network.get_submodule(name.rpartition(".")[0]).weight *= 2.0  # type: ignore[union-attr, operator, assignment]
    before = {name: quantizer.amax.clone() for name, quantizer in weights}
    tuning.before_step(network, 0.0)
    for name, quantizer in weights:
        assert quantizer.amax.numel() == 1
        assert quantizer.amax.item() == pytest.approx(2 * before[name].item(), rel=1e-5)


def test_the_exported_graph_has_one_scale_a_weight(saved: tuple[Path, PoseNet], tmp_path: Path) -> None:
    checkpoint = load_checkpoint(saved[0])
    path = tmp_path / "rtx.onnx"
    export_onnx(restore_network(checkpoint), checkpoint.card, path)
    model = onnx.load(path)
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    constants |= {
        n.output[0]: numpy_helper.to_array(n.attribute[0].t)
        for n in model.graph.node
        if n.op_type == "Constant"
    }
    scales = [
        constants[node.input[1]]
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] in constants
    ]
    assert scales
    assert all(scale.size == 1 for scale in scales)


def test_switched_and_quantized_from_the_start_are_the_same_bits(
    source: Checkpoint,
    equalised: tuple[PoseNet, Equalised],
    tensor_wise: Policy,
    batches: list[np.ndarray],
    image: Tensor,
) -> None:
    policy = with_equalising(tensor_wise)
    chosen, _ = int8_modules(network_of(source), policy)
    expected, _ = equalised
    found = Switches(network_of(source), policy, batches).use(chosen)
    for left, right in zip(maps(expected, image), maps(found, image), strict=True):
        assert torch.equal(left, right)


def test_the_shipped_policy_decides_as_the_default_one_but_for_granularity_and_taps(
    source: Checkpoint,
) -> None:
    network = network_of(source)
    default, rtx = load_policy("default"), load_policy("rtx")
    assert rtx.equalise
    assert rtx.shared_scales
    for left, right in zip(assign(default, network), assign(rtx, network), strict=True):
        taps = right.module.endswith(".adapt_conv")
        assert right.precision == ("int8" if taps else left.precision)
        assert right.granularity == "tensor" or right.precision == "float" or right.op != "conv"
