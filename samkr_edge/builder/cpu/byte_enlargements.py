"""8-bit maps enlarged by look-up."""

from __future__ import annotations

from typing import Any

import numpy as np

from samkr_edge.builder.enlarge import factor_of, is_nearest
from samkr_edge.onnx_graph.graph import Graph


def enlarge_bytes(graph: Graph) -> int:
    """Enlarge 8-bit maps by look-up of rows and columns, channels last; returns how many.

        DQ -> Resize(nearest) -> Q    =>    Transpose -> Gather(columns) -> Gather(rows) -> Transpose

    Faster: ONNX Runtime keeps maps between INT8 convolutions channels last, and cancels the transposes; its Resize is
    slower in that layout than two look-ups. Exact.
    """
    resizes = [node for node in graph.nodes if node.op_type == "Resize"]
    sizes = graph.map_sizes() if resizes else {}
    found = 0
    for resize in resizes:
        restored, readers = graph.producer.get(resize.input[0]), graph.consumers[resize.output[0]]
        if restored is None or restored.op_type != "DequantizeLinear" or len(readers) != 1:
            continue
        (quantizer,) = readers
        known = sizes.get(resize.input[0])
        if known is None or not is_nearest(graph, resize) or not _same_steps(graph, restored, quantizer):
            continue
        rows, columns = known
        factor = factor_of(graph, resize)
        tensor = graph.append("Transpose", [restored.input[0]], perm=[0, 2, 3, 1])
        for axis, size in ((2, columns), (1, rows)):
            index = graph.constant(np.repeat(np.arange(size), factor), "nearest")
            tensor = graph.append("Gather", [tensor, index], axis=axis)
        tensor = graph.append("Transpose", [tensor], perm=[0, 3, 1, 2])
        graph.replace_input(quantizer.output[0], tensor, graph.consumers[quantizer.output[0]])
        graph.drop_dead()
        found += 1
    return found


def _same_steps(graph: Graph, restored: Any, quantizer: Any) -> bool:
    """Whether a QuantizeLinear restores exactly the numbers that a DequantizeLinear read."""
    if quantizer.op_type != "QuantizeLinear":
        return False
    pairs = zip(restored.input[1:], quantizer.input[1:], strict=True)
    values = [(graph.constants[a], graph.constants[b]) for a, b in pairs]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in values)
