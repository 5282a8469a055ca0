"""8-bit maps whose channels become neighbouring pixels, channels last."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from samkr_edge.builder.cpu.quantizer_nodes import is_activation_quantizer
from samkr_edge.onnx_graph.graph import Graph, attributes

# Of (N, 2, 2, C, h, w) to (N, C, h, 2, w, 2).
_INTERLEAVED = [0, 3, 4, 1, 5, 2]


class _Interleaving(NamedTuple):
    """Channels (N, 4C, h, w) that become pixels (N, C, 2h, 2w), by their quarters, and what is cut off afterwards.

    ``sizes`` are N, C, h, w.
    """

    source: str
    sizes: tuple[int, int, int, int]
    slices: list[Any]


def interleave_bytes(graph: Graph) -> int:
    """Quantize what a transposed convolution's ordinary form computes before its channels become pixels, and move the
    bytes channels last; returns how many.

        Relu -> Reshape -> Transpose -> Reshape -> Slice -> Q
        =>  Relu -> Q -> Transpose -> Reshape -> Transpose -> Reshape -> Slice -> Transpose    (between: channels last)

    Faster: the convolution writes INT8, and C bytes move together instead of one. ONNX Runtime keeps maps between
    INT8 convolutions channels last, and cancels the outer transposes. Exact: moving commutes with rounding.

    Activations must already be unsigned, and their ReLUs still be there.
    """
    found = 0
    for quantizer in [node for node in graph.nodes if is_activation_quantizer(graph, node)]:
        pattern = _interleaving(graph, quantizer)
        if pattern is None:
            continue
        batch, channels, rows, columns = pattern.sizes
        bytes_ = graph.append("QuantizeLinear", [pattern.source, *quantizer.input[1:]])
        tensor = graph.append("Transpose", [bytes_], perm=[0, 2, 3, 1])
        tensor = _reshaped(graph, tensor, (batch, rows, columns, 2, 2, channels))
        tensor = graph.append("Transpose", [tensor], perm=[0, 1, 3, 2, 4, 5])
        tensor = _reshaped(graph, tensor, (batch, 2 * rows, 2 * columns, channels))
        for cut in pattern.slices:
            starts, ends, axes, *steps = cut.input[1:]
            last = graph.constant(graph.constants[axes] - 1, "axes_channels_last")
            tensor = graph.append("Slice", [tensor, starts, ends, last, *steps])
        tensor = graph.append("Transpose", [tensor], perm=[0, 3, 1, 2])
        graph.replace_input(quantizer.output[0], tensor, graph.consumers[quantizer.output[0]])
        graph.drop_dead()
        found += 1
    return found


def _reshaped(graph: Graph, tensor: str, shape: tuple[int, ...]) -> str:
    return graph.append("Reshape", [tensor, graph.constant(np.array(shape, np.int64), "shape")])


def _interleaving(graph: Graph, quantizer: Any) -> _Interleaving | None:
    """What a quantizer's input is made by, if it is channels that became pixels."""
    slices: list[Any] = []
    node = _alone(graph, quantizer.input[0])
    while node is not None and node.op_type == "Slice" and _cuts_pixels(graph, node):
        slices.insert(0, node)
        node = _alone(graph, node.input[0])
    chain: list[Any] = [node]
    for _ in range(2):
        chain.append(None if chain[-1] is None else _alone(graph, chain[-1].input[0]))
    if [node and node.op_type for node in chain] != ["Reshape", "Transpose", "Reshape"]:
        return None
    joined, moved, parted = chain
    if attributes(moved).get("perm") != _INTERLEAVED or len(graph.consumers[parted.input[0]]) != 1:
        return None
    shapes = [graph.constants.get(reshape.input[1]) for reshape in (parted, joined)]
    before, after = ([] if shape is None else shape.tolist() for shape in shapes)
    if len(before) != 6:
        return None
    batch, first, second, channels, rows, columns = before
    if (first, second, after) != (2, 2, [batch, channels, 2 * rows, 2 * columns]) or min(before) < 1:
        return None
    return _Interleaving(parted.input[0], (batch, channels, rows, columns), slices)


def _alone(graph: Graph, tensor: str) -> Any | None:
    """The node that makes a tensor which one node reads; else None."""
    alone = len(graph.consumers[tensor]) == 1 and tensor not in graph.outputs
    return graph.producer.get(tensor) if alone else None


def _cuts_pixels(graph: Graph, node: Any) -> bool:
    """Whether a Slice of maps (N, C, H, W) cuts rows and columns only."""
    axes = graph.constants.get(node.input[3]) if len(node.input) > 3 else None
    return axes is not None and min(axes) >= 2
