"""Properties of quantizers that the passes need: QuantizeLinear (Q in the passes' docstrings) and DequantizeLinear
(DQ).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from samkr_edge.onnx_graph.graph import Graph

# Operations that only move, choose or average values: between a DQ and a Q, ONNX Runtime runs them in INT8.
MOVERS = ("Resize", "MaxPool", "Concat", "Reshape")


def is_activation_quantizer(graph: Graph, node: Any) -> bool:
    """A per-tensor QuantizeLinear on a computed tensor, not on a weight."""
    return node.op_type == "QuantizeLinear" and node.input[0] not in graph.constants


def axis_of(quantizer: Any) -> int:
    """The axis of a per-channel quantizer's scales; ONNX's default is 1."""
    return next((a.i for a in quantizer.attribute if a.name == "axis"), 1)


def along(scale: np.ndarray, dimensions: int, axis: int) -> np.ndarray:
    """A scale (C,), reshaped to broadcast along its axis: (1, C, 1, 1); a scalar () keeps one value."""
    shape = [1] * dimensions
    if scale.ndim:
        shape[axis] = -1
    return scale.reshape(shape)


def whole_steps(weight: np.ndarray, scale: np.ndarray, axis: int) -> np.ndarray:
    """A weight of any shape in whole steps -128..127, float; ONNX rounds halves to even, as NumPy does."""
    return np.clip(np.rint(weight / along(scale, weight.ndim, axis)), -128, 127)
