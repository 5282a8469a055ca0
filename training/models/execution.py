"""How the network is being executed: under a training loop's autocast, or traced for an export."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch
from torch import Tensor


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Autocast off on the tensor's device, for parts that must never run in half precision.

    The tensor has any shape. Nothing is switched off on the meta device, which has no autocast.
    """
    if x.device.type == "meta":
        return contextlib.nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def widened(x: Tensor) -> Tensor:
    """A tensor of any shape as float32, or as float64 for tests in double precision."""
    return x if x.dtype == torch.float64 else x.float()


def is_exported() -> bool:
    """True while ONNX export or tracing records the computation: no shortcuts then that pay only in torch."""
    return torch.onnx.is_in_onnx_export() or torch.jit.is_tracing()
