"""Rebuild a fake-quantized network from its checkpoint: structure from the policy, ranges from the weights."""

from __future__ import annotations

import torch
from pydantic import ValidationError

from calibration.policy import Policy, assign
from calibration.ptq import enabled_quantizers, insert_quantizers
from samkr_edge.errors import SamkrError, reason_of, words_of
from training.checkpoint import Checkpoint, refuse_broken_weights
from training.models.fold import fold_batch_norms
from training.models.pose_net import PoseNet
from training.models.zoo import build_model


def restore_network(checkpoint: Checkpoint) -> PoseNet:
    """The quantized network, bit for bit as it was saved.

    Nothing but tensors and plain values is read: no pickled class of ModelOpt is in the file.

    Raises:
        SamkrError: SE-A47 the weights do not fit the policy that the checkpoint names, or that is no policy.
    """
    try:
        policy = Policy.model_validate(checkpoint.quantization["policy"])
    except ValidationError as error:
        raise _misfit({"reason": words_of(error, 150)}) from error
    folded = fold_batch_norms(build_model(checkpoint.config))
    network = insert_quantizers(folded, policy, assign(policy, folded))
    quantizers = enabled_quantizers(network)
    # A quantizer without a saved range would not fail to load: it would silently take each tensor's own range.
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


def _misfit(facts: dict[str, object]) -> SamkrError:
    return SamkrError(
        "SE-A47",
        "the quantized weights do not fit the policy in their checkpoint",
        facts,
        fix="quantize again: samkr-edge quantize FP32.pt --data DIR -o OUT.pt",
    )
