"""How much of a network's arithmetic is INT8: counted in its ONNX graph, no inference needed.

Arithmetic is the multiply-accumulates of convolutions and matrix products, whichever operations compute them: builds
and other tools use special ones. `bench`, its report and `inspect` all show the counts of this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from samkr_edge.builder.inspect.module_names import module_of
from samkr_edge.onnx_graph.graph import Graph, attributes
from samkr_edge.onnx_graph.onnx_precision import INTEGER_OPERATIONS, PRODUCT

# Operations that only move or choose values run in the precision of their neighbours.
_MOVERS = {
    "Relu",
    "Reshape",
    "Transpose",
    "MaxPool",
    "Concat",
    "Split",
    "Slice",
    "Squeeze",
    "Unsqueeze",
    "Identity",
}
# Including those of other tools and of built models (thin_convolutions, matrix_products).
_CONVOLUTIONS = ("Conv", "DeformConv", "ConvInteger", "QLinearConv")
_PRODUCTS = ("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", PRODUCT)


@dataclass(frozen=True)
class Product:
    """One convolution or matrix product.

    Attributes:
        module: of the network.
        macs: multiply-accumulates of the whole batch; 0 where the shapes are unknown.
        int8: whether it runs in INT8, or in the FP8 that takes its place.
    """

    module: str
    macs: int
    int8: bool


def int8_share(path: Path) -> float | None:
    """``quantized_share`` of an ONNX file, 0..1; 0 for one in FP8.

    None also if the file is not ONNX or the package ``onnx`` is missing.
    """
    try:
        import onnx

        graph = Graph(onnx.load(path, format="protobuf"))
        share = quantized_share(products(graph, int8_nodes(graph)))
    except Exception:
        # protobuf, checker and shape inference raise their own classes; a missing figure must not fail a run.
        return None
    return 0.0 if share is not None and format_of(graph) == "fp8" else share


def quantized_share(counted: Sequence[Product]) -> float | None:
    """Share of the multiply-accumulates that run in INT8 or FP8, 0..1; None without any, or with unknown ones."""
    if not counted or not all(one.macs for one in counted):
        return None
    return sum(one.macs for one in counted if one.int8) / sum(one.macs for one in counted)


def products(graph: Graph, int8: set[int]) -> tuple[Product, ...]:
    """The convolutions and matrix products of a graph, in order.

    Args:
        int8: as ``int8_nodes`` gives it.
    """
    shapes = graph.shapes()
    counted = [(node, macs_of(node, shapes)) for node in graph.nodes]
    return tuple(
        Product(module_of(node.name), macs or 0, id(node) in int8) for node, macs in counted if macs != 0
    )


def format_of(graph: Graph) -> str:
    """What quantized operations run in: ``fp8``, else ``int8``."""
    return "fp8" if any(is_fp8(zero) for zero in graph.constants.values()) else "int8"


def macs_of(node: Any, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Multiply-accumulates of one node; 0 if it is neither convolution nor matrix product, None if shapes are unknown.

    Args:
        shapes: as ``samkr_edge.onnx_graph.graph.Graph.shapes`` gives them.
    """
    out = shapes.get(node.output[0], ())
    if node.op_type in _CONVOLUTIONS:
        # (out channels, in channels of a group, rows, columns)
        weight = shapes.get(node.input[3 if node.op_type == "QLinearConv" else 1], ())
        reads = weight[1:]
    elif node.op_type == "ConvTranspose":
        # Every input value is multiplied by its channel's weights, (out channels of a group, rows, columns).
        out = shapes.get(node.input[0], ())
        reads = shapes.get(node.input[1], ())[1:]
    elif node.op_type in _PRODUCTS:
        left = shapes.get(node.input[0], ())
        reads = left[:1] if attributes(node).get("transA") else left[-1:]
    else:
        return 0
    # Output positions and channels, times the inputs that one output reads.
    return prod(out) * prod(reads) or None if out and reads else None


def int8_nodes(graph: Graph) -> set[int]:
    """ids of the nodes that a runtime runs in INT8, movers between them included."""
    found: set[int] = set()

    def is_int8(tensor: str) -> bool:
        node = graph.producer.get(tensor)
        return node is not None and (dequantizes_bytes(graph, node) or id(node) in found)

    def from_dq(tensor: str) -> bool:
        """Whether a tensor is dequantized, or dequantized and then only moved."""
        node = graph.producer.get(tensor)
        while node is not None and id(node) in found and moves(node):
            node = graph.producer.get(node.input[0])
        return node is not None and dequantizes_bytes(graph, node)

    def fuses(tensor: str) -> bool:
        node = graph.producer.get(tensor)
        alone = len(graph.consumers[tensor]) == 1
        return node is not None and alone and id(node) in found and node.op_type in ("Conv", "Add")

    for node in graph.nodes:
        data = [name for name in node.input if name and name not in graph.constants]
        if node.op_type in ("Conv", "MatMul", "Gemm"):
            runs = from_dq(node.input[0]) and from_dq(node.input[1])
        elif is_sum(graph, node):
            # One addend may be the output of an INT8 convolution or of a previous sum, if nothing else reads it.
            loose = [name for name in data if not from_dq(name)]
            runs = len(loose) < len(data) and all(fuses(name) for name in loose)
        elif node.op_type == PRODUCT or node.op_type in INTEGER_OPERATIONS:
            runs = True
        else:
            runs = moves(node) and bool(data) and all(is_int8(name) for name in data)
        if runs:
            found.add(id(node))
    return found


def moves(node: Any) -> bool:
    if node.op_type == "Resize":
        return _text(node, "mode", "nearest") == "nearest"
    return node.op_type in _MOVERS


def _text(node: Any, name: str, default: str) -> str:
    return next((a.s.decode() for a in node.attribute if a.name == name), default)


def is_sum(graph: Graph, node: Any) -> bool:
    """An addition of two computed maps; not a bias or a constant."""
    return node.op_type == "Add" and not any(name in graph.constants for name in node.input)


def zero_of(graph: Graph, node: Any) -> np.ndarray | None:
    """The zero point of a quantizer, () or one per channel (C,); None if it has none or a computed one."""
    return graph.constants.get(node.input[2]) if len(node.input) > 2 else None


def dequantizes_bytes(graph: Graph, node: Any) -> bool:
    """False for the 16-bit quantization of other tools, which runs in float."""
    zero = zero_of(graph, node) if node.op_type == "DequantizeLinear" else None
    return node.op_type == "DequantizeLinear" and (zero is None or zero.dtype.itemsize == 1)


def is_fp8(zero: np.ndarray) -> bool:
    """Whether a zero point, () or (C,), is FP8. By name, since numpy has no such type."""
    return zero.dtype.name == "float8_e4m3fn"
