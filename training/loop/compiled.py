"""`torch.compile` for the training step, and one clear error where the machine cannot do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from samkr_edge.errors import SamkrError, reason_of


def compiled(module: nn.Module) -> Callable[..., Any]:
    """``module`` as a function that its first call compiles, backward pass included; that takes minutes.

    Raises:
        SamkrError: SE-U34: ``module`` is fake-quantized. SE-V59, from the first call: no C++ compiler (CPU), no
            Triton (GPU), or the compiler failed.
    """
    from torch._dynamo.exc import TorchDynamoException

    if any(hasattr(part, "disable_quant") for part in module.modules()):
        raise SamkrError(
            "SE-U34",
            "torch.compile cannot compile a fake-quantized network as a whole, so nothing was trained",
            {"reason": "ModelOpt's quantizers branch on values; it would be compiled in dozens of pieces"},
            fix="--set compile=false",
        )
    ready = torch.compile(module)

    def forward(*inputs: Any) -> Any:
        try:
            return ready(*inputs)
        except TorchDynamoException as error:
            raise SamkrError(
                "SE-V59",
                "torch.compile could not compile the training step on this machine",
                {
                    "reason": reason_of(error),
                    "needs": "a C++ compiler (g++, or what CXX names) on a CPU, Triton on a GPU",
                },
                fix="--set compile=false",
            ) from error

    return forward
