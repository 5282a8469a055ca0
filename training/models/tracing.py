"""Whether the network runs, or a graph is being made of it."""

from __future__ import annotations

import torch


def is_exported() -> bool:
    """True while ONNX export or tracing records what is computed: ways that only run fast here must not be taken."""
    return torch.onnx.is_in_onnx_export() or torch.jit.is_tracing()
