"""Parts of the network that must not run in half precision, whatever the training loop asks for."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch
from torch import Tensor


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Autocast off on the tensor's device; nothing to switch off on the meta device, which has no autocast."""
    if x.device.type == "meta":
        return contextlib.nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def widened(x: Tensor) -> Tensor:
    """float32, or float64 for tests in double precision."""
    return x if x.dtype == torch.float64 else x.float()
