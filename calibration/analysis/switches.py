"""One calibrated network in which any set of modules can be INT8: calibrate once, measure many policies.

For every set, the network computes exactly what quantizing by a policy with that set would give: ranges are found
while nothing is quantized yet, so they do not depend on the set, and shared ranges are formed anew for each set. One
exception: if the policy equalises channels, every set has the factors of the policy's own set.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import numpy as np

from calibration.equalise import equalise_network
from calibration.policy import Policy, Rule, assign
from calibration.ptq import (
    enabled_quantizers,
    integer_convolutions,
    make_room_for_biases,
    quantize_network,
    share_ranges,
)
from calibration.scale_groups import scale_groups, trace_readers
from training.models.fold import quantizable
from training.models.pose_net import PoseNet


class Switches:
    """Calibrates on construction; ``use`` then selects what is INT8.

    Args:
        network: float.
        policy: its calibrators, granularities, bits and shared scales apply; its precisions are the set
            ``policy_modules``.
        batches: calibration images, uint8 (N, H, W, 3).
    """

    def __init__(
        self,
        network: PoseNet,
        policy: Policy,
        batches: Iterable[np.ndarray],
        *,
        advance: Callable[..., None] | None = None,
    ) -> None:
        everything = everything_int8(policy)
        folded = quantizable(network)
        if policy.equalise:
            batches = list(batches)
            equalise_network(folded, policy, batches)
        self._network, assignments = quantize_network(
            folded, everything, batches, advance=advance, room_for_biases=False
        )
        self._readers = trace_readers(folded, assignments) if policy.shared_scales else {}
        self._quantizers = dict(enabled_quantizers(self._network))
        self._ranges = {name: quantizer.amax.clone() for name, quantizer in self._quantizers.items()}

    def use(self, modules: Collection[str]) -> PoseNet:
        """The network with exactly these modules in INT8; the same object on every call."""
        for name, quantizer in self._quantizers.items():
            quantizer.amax = self._ranges[name]
            if name.rpartition(".")[0] in modules:
                quantizer.enable()
            else:
                quantizer.disable()
        share_ranges(self._network, scale_groups(self._readers, modules))
        make_room_for_biases(integer_convolutions(self._network))
        return self._network


def everything_int8(policy: Policy) -> Policy:
    """The policy with every module in INT8, each with the calibrator and granularity of its rule."""
    rules = [rule.model_copy(update={"precision": "int8", "optional": True}) for rule in policy.rules]
    rest = Rule(match="*", precision="int8", optional=True, why="to be switched on and off")
    changes = {"rules": (*rules, rest), "shared_scales": False, "equalise": False}
    return policy.model_copy(update=changes)


def int8_modules(network: PoseNet, policy: Policy) -> tuple[frozenset[str], list[str]]:
    """The modules that the policy puts in INT8, and all that could be."""
    assignments = assign(policy, quantizable(network))
    chosen = frozenset(a.module for a in assignments if a.quantized)
    return chosen, [a.module for a in assignments]
