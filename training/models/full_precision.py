"""Parts of the network that must not run in half precision, whatever the training loop asks for."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch
from torch import Tensor


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Autocast off on the device of ``x``, of any shape; the meta device has no autocast to switch off."""
    if x.device.type == "meta":
        return contextlib.nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def widened(x: Tensor) -> Tensor:
    """A tensor of any shape as float32, or as float64 for tests in double precision."""
    return x if x.dtype == torch.float64 else x.float()
