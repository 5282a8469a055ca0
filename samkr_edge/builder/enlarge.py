"""Fewer and cheaper enlargements: sums over resolutions are added from the smallest map up.

A pass of both builders: for the CPU, and for TensorRT for RTX.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from samkr_edge.onnx_graph.graph import Graph


def enlarge_sums(graph: Graph) -> int:
    """Rewrite all sums over two or more smaller resolutions, as HRNet's fuse layers have them; returns how many.

        a + up2(b) + up4(c)    =>    a + up2(b + up2(c))

    Faster on a CPU: ONNX Runtime enlarges 8-bit maps more slowly than it adds them, and here most additions are on
    smaller maps. Faster with TensorRT for RTX: fewer bytes of the largest map are written and read back.

    Exact but for the order of additions: nearest up-sampling commutes with sums, with itself and with rounding, so that
    the quantizers of addends move before it. Sums that are enlarged afterwards are float here.
    """
    found = 0
    for root in [node for node in graph.nodes if node.op_type == "Add"]:
        readers = graph.consumers[root.output[0]]
        if len(readers) == 1 and readers[0].op_type == "Add":
            continue  # a partial sum: met from its last addition
        addends = _addends(graph, root)
        resizes = {name: resize for name in addends if (resize := _enlarging(graph, name)) is not None}
        plain = [name for name in addends if name not in resizes]
        by_factor = sorted(resizes, key=lambda name: -factor_of(graph, resizes[name]))
        factors = [factor_of(graph, resizes[name]) for name in by_factor] + [1]
        if not plain or len(set(factors)) < 3 or any(large % small for large, small in pairwise(factors)):
            continue
        total = ""
        for name, (large, small) in zip(by_factor, pairwise(factors), strict=True):
            addend = _before(graph, resizes[name], name)
            total = graph.append("Add", [total, addend]) if total else addend
            if large > small:
                total = _enlarge(graph, resizes[name], total, large // small)
        for name in plain[:-1]:
            total = graph.append("Add", [total, name])
        graph.nodes = [node for node in graph.nodes if node is not root]
        graph.append("Add", [total, plain[-1]], [root.output[0]])
        graph.drop_dead()
        found += 1
    return found


def _addends(graph: Graph, node: Any) -> list[str]:
    """The addends of a tree of additions; a partial sum with other readers is one addend."""
    addends: list[str] = []
    for name in node.input:
        source = graph.producer.get(name)
        partial = source is not None and source.op_type == "Add" and len(graph.consumers[name]) == 1
        addends += _addends(graph, source) if partial and name not in graph.outputs else [name]
    return addends


def _enlarging(graph: Graph, tensor: str) -> Any | None:
    """The nearest up-sampling that an addend comes from, quantized or not; None for other addends."""
    node = graph.producer.get(tensor)
    for op in ("DequantizeLinear", "QuantizeLinear"):
        if node is not None and node.op_type == op and len(graph.consumers[node.output[0]]) == 1:
            node = graph.producer.get(node.input[0])
    if node is None or node.op_type != "Resize" or len(graph.consumers[node.output[0]]) != 1:
        return None
    return node if is_nearest(graph, node) else None


def is_nearest(graph: Graph, resize: Any) -> bool:
    """Whether a Resize repeats every pixel a whole number of times, the same number in rows and columns."""
    modes = {a.name: a.s for a in resize.attribute}
    nearest = (modes.get("mode"), modes.get("coordinate_transformation_mode"), modes.get("nearest_mode"))
    scales = graph.constants.get(resize.input[2]) if len(resize.input) == 3 else None
    if nearest != (b"nearest", b"asymmetric", b"floor") or scales is None or len(scales) != 4:
        return False
    same = scales[0] == scales[1] == 1 and scales[2] == scales[3]
    return bool(same and scales[2] > 1 and scales[2] == int(scales[2]))


def factor_of(graph: Graph, resize: Any) -> int:
    return int(graph.constants[resize.input[2]][2])


def _before(graph: Graph, resize: Any, addend: str) -> str:
    """The addend before its enlarging, quantized as it is after it."""
    restored = graph.producer[addend]
    if restored.op_type != "DequantizeLinear":
        return str(resize.input[0])
    scale, zero = (graph.constants[name] for name in restored.input[1:3])
    _, dq = graph.add_pair(resize.input[0], scale, zero)
    return str(dq.output[0])


def _enlarge(graph: Graph, like: Any, tensor: str, factor: int) -> str:
    """``tensor`` enlarged by a factor, with the attributes of another up-sampling."""
    node = graph.onnx.NodeProto()
    node.CopyFrom(like)
    node.name = graph.name("enlarged")
    scales = graph.constant(np.array([1, 1, factor, factor], np.float32), "enlarging")
    del node.input[:], node.output[:]
    node.input.extend([tensor, "", scales])
    node.output.append(node.name)
    graph.nodes.append(node)
    return str(node.name)
