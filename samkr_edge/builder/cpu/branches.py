"""Run the grouped part of a network branch by branch: the same numbers, from the cache instead of from memory.

The offset head is one chain per keypoint, exported as grouped operations. Run group by group, the output of one step of
a chain is still in the cache for the next step; run layer by layer, every map of all chains goes to memory and back,
and ONNX Runtime's grouped convolutions are slower than the same number of plain ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from samkr_edge.onnx_graph.graph import Graph, integers

# Elementwise, or on every channel by itself.
_BY_CHANNEL = ("Relu", "Add", "Mul", "Sub", "MaxPool")
# Makes one branch of a node: (index, number of branches, names of its inputs' branches) -> inputs, new attributes.
_Part = Callable[[int, int, list[str]], tuple[list[str], dict[str, int]]]


def take_apart(graph: Graph, start: str, branches: int, grouped: tuple[str, ...] = ()) -> int:
    """Split everything computed from the map ``start`` (N, C, H, W) into branches of C / B channels.

        x -> Conv(group B) -> Relu    =>    Split x -> B times (Conv(group 1) -> Relu) -> Concat

    Faster: the output of a branch's layer is still in the cache when its next layer reads it, and plain convolutions
    are faster than grouped ones. Exact. Operations that mix the branches, or are not known to keep them separate,
    read them concatenated again.

    Args:
        grouped: more operations that, like Conv, have constants with the output channels first and a ``group``.

    Returns:
        How many operations were split.
    """
    apart = {start: _split(graph, start, branches)}
    cut = 0
    for node in list(graph.nodes):
        if not any(name in apart for name in node.input):
            continue
        part = _rule(graph, node, apart, branches, grouped)
        if part is None:
            continue
        pieces = []
        for index in range(branches):
            inputs = [apart[name][index] if name in apart else name for name in node.input]
            inputs, changed = part(index, branches, inputs)
            piece = graph.onnx.NodeProto()
            piece.CopyFrom(node)
            del piece.input[:], piece.output[:]
            piece.input.extend(inputs)
            piece.output.append(graph.name(f"{node.output[0]}_branch"))
            piece.name = piece.output[0]
            for attribute in piece.attribute:
                if attribute.name in changed:
                    attribute.i = changed[attribute.name]
            pieces.append(piece)
        graph.nodes.remove(node)
        graph.nodes += pieces
        apart[node.output[0]] = [piece.output[0] for piece in pieces]
        cut += 1
    for whole, parts in apart.items():
        if whole != start:
            graph.append("Concat", parts, [whole], axis=1)
    graph.drop_dead()  # the splits and joins that nothing reads
    return cut


def _split(graph: Graph, tensor: str, parts: int) -> list[str]:
    names = [graph.name(f"{tensor}_branch") for _ in range(parts)]
    graph.append("Split", [tensor], names, axis=1, num_outputs=parts)
    return names


def _rule(
    graph: Graph, node: Any, apart: dict[str, list[str]], branches: int, grouped: tuple[str, ...]
) -> _Part | None:
    """How to make one branch of a node; None if it does not keep the branches separate."""
    constants = {name: graph.constants.get(name) for name in node.input if name and name not in apart}
    if any(value is None for value in constants.values()) or len(node.output) != 1:
        return None
    attributes = integers(node)
    if node.op_type in _BY_CHANNEL:
        same = all(value is not None and value.size == 1 for value in constants.values())
        return _unchanged if same else None
    if node.op_type == "Softmax":
        return _unchanged if attributes.get("axis", -1) >= 2 else None
    if node.op_type == "Unsqueeze":
        return (
            _unchanged if all((axes >= 2).all() for axes in constants.values() if axes is not None) else None
        )
    if node.op_type == "Reshape":
        shape = constants.get(node.input[1])
        batch = graph.batch
        if (
            shape is None
            or len(shape) < 2
            or shape[0] not in (0, batch)
            or shape[1] <= 0
            or shape[1] % branches
        ):
            return None
        own = shape.copy()
        own[1] //= branches
        name = graph.constant(own, "branch_shape")
        return lambda index, count, inputs: ([inputs[0], name], {})
    if node.op_type in ("Conv", *grouped) and attributes.get("group", 1) % branches == 0:
        return lambda index, count, inputs: (
            [
                graph.constant(np.split(graph.constants[name], count)[index], "branch_weight")
                if name in constants
                else name
                for name in inputs
            ],
            {"group": attributes["group"] // count},
        )
    return None


def _unchanged(index: int, count: int, inputs: list[str]) -> tuple[list[str], dict[str, int]]:
    return inputs, {}
