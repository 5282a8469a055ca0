"""Post-training quantization with ModelOpt: the policy decides, calibration images give the ranges.

Weights are symmetric per output channel (or tensor, where a rule says so), activations symmetric per tensor, zero
points zero: what TensorRT accepts.
Batch norms are folded first, so that torch, ONNX Runtime and TensorRT quantize the same weights; then channels are
rescaled if the policy says so, of which later steps need to know nothing.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from calibration.equalise import Equalised, equalise_network
from calibration.fp8 import E4M3, check_fp8
from calibration.policy import Assignment, Policy, assign
from calibration.quantized_modules import register_sums
from calibration.ranges import ActivationRange, range_for_bias, weight_range
from calibration.scale_groups import scale_groups, trace_readers
from samkr_edge.dataset.usable import FEWEST_CALIBRATION_IMAGES, too_few_images
from samkr_edge.errors import SamkrError, reason_of, words_of
from samkr_edge.printable import counted
from training.checkpoint import Checkpoint, refuse_broken_weights
from training.models.deploy import normalise
from training.models.fold import quantizable
from training.models.pose_net import PoseNet
from training.models.zoo import build_model


def quantize_network(
    network: PoseNet,
    policy: Policy,
    batches: Iterable[np.ndarray],
    *,
    advance: Callable[..., None] | None = None,
    equalised: Callable[[Equalised], None] | None = None,
    room_for_biases: bool = True,
) -> tuple[PoseNet, list[Assignment]]:
    """A calibrated, fake-quantized copy of a float network.

    Args:
        network: float, with its batch norms.
        policy: rules, calibrator and bits.
        batches: uint8 (N, H, W, 3) RGB, preprocessed as for inference. Calibrates on the network's device.
        advance: called with the number of images after each batch.
        equalised: called with the result if the policy equalises channels.
        room_for_biases: False does not widen weights' ranges for biases, for a caller that changes ranges afterwards
            and then makes room itself.

    Raises:
        SamkrError: SE-U42 a rule matches nothing, SE-U46 not for FP8, SE-D43 too few images, SE-A44 a range is NaN or
            zero, SE-A45 a quantizer saw no data, SE-A46 ModelOpt did not quantize what the policy says.
    """
    check_fp8(policy)
    folded = quantizable(network)
    if policy.equalise:
        batches = list(batches)
        done = equalise_network(folded, policy, batches)
        if equalised:
            equalised(done)
    assignments = assign(policy, folded)
    readers = trace_readers(folded, assignments) if policy.shared_scales else {}
    quantized = insert_quantizers(folded, policy, assignments)
    seen = _calibrate(quantized, policy, assignments, batches, advance)
    if seen < FEWEST_CALIBRATION_IMAGES:
        raise too_few_images(seen)
    _check_ranges(quantized, policy, assignments)
    share_ranges(quantized, scale_groups(readers, {a.module for a in assignments if a.quantized}))
    if room_for_biases:
        make_room_for_biases(integer_convolutions(quantized))
    return quantized, assignments


def restore_network(checkpoint: Checkpoint) -> PoseNet:
    """The quantized network, bit for bit as saved.

    Only tensors and plain values are read: the file has no pickled classes of ModelOpt.

    Raises:
        SamkrError: SE-A47 the weights do not fit the policy that the checkpoint names, or that is no policy.
    """
    try:
        policy = Policy.model_validate(checkpoint.quantization["policy"])
    except ValidationError as error:
        raise _misfit({"reason": words_of(error, 150)}) from error
    folded = quantizable(build_model(checkpoint.config))
    network = insert_quantizers(folded, policy, assign(policy, folded))
    quantizers = enabled_quantizers(network)
    # A quantizer without a saved range would load, and silently use each tensor's own range.
    rangeless = [name for name, _ in quantizers if f"{name}._amax" not in checkpoint.state]
    if rangeless:
        raise _misfit({"no range": rangeless[:3]})
    for name, quantizer in quantizers:
        quantizer.amax = torch.ones_like(checkpoint.state[f"{name}._amax"])
    try:
        network.load_state_dict(checkpoint.state)
    except RuntimeError as error:
        raise _misfit(
            {"reason": [line.strip()[:150] for line in str(error).splitlines()[1:4]] or reason_of(error)}
        ) from error
    refuse_broken_weights(network)
    return network


def insert_quantizers(folded: PoseNet, policy: Policy, assignments: list[Assignment]) -> PoseNet:
    """Replace the policy's quantized modules by ModelOpt's quantized ones, uncalibrated; raises SE-A46."""
    import modelopt.torch.quantization as mtq

    register_sums()
    everything_off: dict[str, Any] = {
        "quant_cfg": [{"quantizer_name": "*", "enable": False}],
        "algorithm": None,
    }
    # ModelOpt prints a table per call and warns about packages it could use for language models.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        quantized: PoseNet = mtq.quantize(folded, everything_off, forward_loop=None)
        for assignment in assignments:
            if assignment.quantized:
                module = quantized.get_submodule(assignment.module)
                mtq.set_quantizer_by_cfg(module, modelopt_rules(policy, assignment))
    wanted = {a.module for a in assignments if a.quantized}
    found = {name.rpartition(".")[0] for name, _ in enabled_quantizers(quantized)}
    if wanted != found:
        raise SamkrError(
            "SE-A46",
            "ModelOpt did not quantize what the policy says, so nothing was written",
            {"missing": sorted(wanted - found)[:4], "extra": sorted(found - wanted)[:4]},
            fix='pip install "samkr-edge[quantize]"   # a version known to work; if it is installed, report this',
        )
    return quantized


def modelopt_rules(policy: Policy, assignment: Assignment) -> list[dict[str, Any]]:
    """ModelOpt's rules for the quantizers in one quantized module.

    Given to that module alone, they override ModelOpt's built-in exclusions, which go by name. In a list for the whole
    network every rule would be matched with every module.
    """
    fp8 = policy.format == "fp8"
    activation = {"num_bits": E4M3 if fp8 else policy.activation_bits, "axis": None}
    rules: list[dict[str, Any]] = [{"quantizer_name": "*input_quantizer", "cfg": activation, "enable": True}]
    if assignment.op == "conv":
        axis = 0 if assignment.granularity == "channel" else None
        weight = {"num_bits": E4M3 if fp8 else policy.bits, "axis": axis}
        rules.append({"quantizer_name": "weight_quantizer", "cfg": weight, "enable": True})
    return rules


def enabled_quantizers(network: nn.Module) -> list[tuple[str, Any]]:
    """(name, quantizer) of every enabled quantizer."""
    from modelopt.torch.quantization.nn import TensorQuantizer

    return [(n, m) for n, m in network.named_modules() if isinstance(m, TensorQuantizer) and m.is_enabled]


def _calibrate(
    network: PoseNet,
    policy: Policy,
    assignments: list[Assignment],
    batches: Iterable[np.ndarray],
    advance: Callable[..., None] | None,
) -> int:
    """Show the images to the quantizers and set the ranges; returns the number of images."""
    decided = {assignment.module: assignment for assignment in assignments}
    watching: dict[str, tuple[Any, ActivationRange]] = {}
    for name, quantizer in enabled_quantizers(network):
        module, _, kind = name.rpartition(".")
        rule = decided[module]
        if kind == "weight_quantizer":
            weight: Any = network.get_submodule(module).weight
            quantizer.amax = weight_range(weight, rule.calibrator, policy.bits, rule.granularity)
        else:
            seen_by = ActivationRange(rule.calibrator, policy.activation_bits)
            watching[name] = quantizer, seen_by
            quantizer._calibrator = seen_by
            quantizer.enable_calib()
        quantizer.disable_quant()
    seen = 0
    device = next(network.parameters()).device
    with torch.no_grad():
        for batch in batches:
            network(normalise(torch.from_numpy(batch).to(device)))
            seen += len(batch)
            if advance:
                advance(len(batch))
    for name, (quantizer, seen_by) in watching.items():
        amax = seen_by.compute_amax()
        if amax is None and seen:
            raise _no_data(name)
        if amax is not None:
            quantizer.amax = amax.to(device)
        seen_by.reset()
        quantizer.disable_calib()
    for _, quantizer in enabled_quantizers(network):
        quantizer.enable_quant()
    return seen


def share_ranges(network: nn.Module, groups: Iterable[Sequence[str]]) -> None:
    """Give all quantizers of a group (of names) the largest of their ranges."""
    for group in groups:
        quantizers: list[Any] = [network.get_submodule(name) for name in group]
        largest = torch.stack([quantizer.amax for quantizer in quantizers]).max()
        for quantizer in quantizers:
            quantizer.amax = largest


def integer_convolutions(network: nn.Module) -> list[tuple[Any, Any, Tensor]]:
    """Weight and input quantizers and the bias (C,) of the integer-quantized convolutions that have a bias."""
    quantizers = dict(enabled_quantizers(network))
    found: list[tuple[Any, Any, Tensor]] = []
    for name, quantizer in quantizers.items():
        module, _, kind = name.rpartition(".")
        bias: Any = getattr(network.get_submodule(module), "bias", None)
        inputs = quantizers.get(f"{module}.input_quantizer")
        if (
            kind == "weight_quantizer"
            and inputs is not None
            and bias is not None
            and quantizer.num_bits != E4M3
        ):
            found.append((quantizer, inputs, bias))
    return found


@torch.no_grad()
def make_room_for_biases(convolutions: Iterable[tuple[Any, Any, Tensor]]) -> None:
    """Widen ranges of weights until no bias (C,) is clipped (``range_for_bias``). The weights lose less than a
    thousandth of the bias by it."""
    for quantizer, inputs, bias in convolutions:
        needed = range_for_bias(bias, inputs.amax, quantizer.num_bits, inputs.num_bits)
        needed = needed.reshape(quantizer.amax.shape) if quantizer.amax.ndim else needed.max()
        quantizer.amax = torch.maximum(quantizer.amax, needed)


def _misfit(facts: dict[str, object]) -> SamkrError:
    return SamkrError(
        "SE-A47",
        "the quantized weights do not fit the policy in their checkpoint",
        facts,
        fix="quantize again: samkr-edge quantize FP32.pt --data DIR -o OUT.pt",
    )


def _no_data(name: str) -> SamkrError:
    return SamkrError(
        "SE-A45",
        "a quantizer saw no data while calibrating, so nothing was written",
        {"quantizer": name},
        fix="leave that module float by a rule of the policy",
    )


def _check_ranges(network: PoseNet, policy: Policy, assignments: Iterable[Assignment]) -> None:
    ranges = {name: quantizer.amax for name, quantizer in enabled_quantizers(network)}
    silent = [name for name, amax in ranges.items() if amax is not None and bool((amax == 0).any())]
    bad = [name for name, amax in ranges.items() if amax is None or not bool(torch.isfinite(amax).all())]
    if bad:
        raise SamkrError(
            "SE-A44",
            f"the range of {counted(len(bad), 'quantizer')} is NaN, infinite or missing, so nothing was written",
            {"quantizer": bad[:3]},
            fix="look at the calibration images and at the FP32 AP first: samkr-edge eval CHECKPOINT --data DIR",
        )
    if silent:
        decided = {a.module: a.rule for a in assignments}
        modules = list(dict.fromkeys(name.rpartition(".")[0] for name in silent))
        lines = (
            f'\n  - {{match: "{module}", precision: float, why: nothing reaches it}}' for module in modules
        )
        raise SamkrError(
            "SE-A44",
            f"only zeros reach {counted(len(modules), 'module')}, so there is no range and nothing was written",
            {
                "module": [
                    f"{module}, by rule {decided[module] + 1} of {policy.name}" for module in modules[:4]
                ]
            },
            fix=f"put these rules before those of the policy, and give it as --policy FILE:{''.join(lines)}",
        )
