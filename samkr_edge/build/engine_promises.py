"""What a graph promises of its engine, and whether the engine's layers keep it.

A builder is free in what it computes in, within what the graph says: it may run a convolution that is quantized in
FP16, and one that should be FP32 in FP16 with casts around. The list of layers tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from samkr_edge.build import myelin
from samkr_edge.build.engine_layers import Layer
from samkr_edge.build.full_precision import full_precision_nodes
from samkr_edge.build.graph import Graph
from samkr_edge.build.lint import int8_nodes


@dataclass(frozen=True)
class Promises:
    """Names of ONNX nodes.

    Attributes:
        int8, fp8: convolutions that are quantized to it.
        fp32: convolutions whose results are offsets and heatmaps, unless the policy has these quantized too.
        softmaxes, samplings: ``Softmax`` and ``GridSample``, FP32 in what they read and compute.
    """

    int8: tuple[str, ...]
    fp8: tuple[str, ...]
    fp32: tuple[str, ...]
    softmaxes: tuple[str, ...]
    samplings: tuple[str, ...]


@dataclass(frozen=True)
class BrokenPromise:
    """One node that the engine computes otherwise than the graph promises.

    Attributes:
        node: its name in the graph.
        promised: ``INT8``, ``FP8`` or ``FP32``.
        found: what the engine does instead; empty where none of its layers names the node.
    """

    node: str
    promised: str
    found: str

    def __str__(self) -> str:
        return f"{self.node} should be {self.promised}: {self.found or 'no layer names it'}"


def promises_of(graph: Graph) -> Promises:
    """Of the graph that the builder gets (``samkr-edge build --prepared``), whose nodes the engine's layers name.

    What stays FP32 is :func:`samkr_edge.build.full_precision.full_precision`'s to say.
    """
    wide = full_precision_nodes(graph)
    quantized = int8_nodes(graph)
    types = [
        (_quantized_type(graph, node), node.name)
        for node in graph.nodes
        if node.op_type == "Conv" and id(node) in quantized
    ]

    def names(kind: str) -> tuple[str, ...]:
        return tuple(
            node.name for index, node in enumerate(graph.nodes) if node.op_type == kind and index in wide
        )

    return Promises(
        int8=tuple(name for dtype, name in types if dtype == "int8"),
        fp8=tuple(name for dtype, name in types if dtype == "fp8"),
        fp32=names("Conv"),
        softmaxes=names("Softmax"),
        samplings=names("GridSample"),
    )


def _quantized_type(graph: Graph, convolution: Any) -> str:
    """Of a quantized convolution: the type of its weights' zero point."""
    dequantize = graph.producer[convolution.input[1]]
    zero = graph.constants.get(dequantize.input[2]) if len(dequantize.input) > 2 else None
    return "int8" if zero is None or zero.dtype == np.int8 else "fp8"


def broken_promises(layers: Sequence[Layer], promises: Promises) -> list[BrokenPromise]:
    """What the engine does not keep, in the graph's order; a node that no layer names is not kept either."""
    layers_of: dict[str, list[Layer]] = {}
    for layer in layers:
        for node in layer.nodes:
            layers_of.setdefault(node, []).append(layer)
    found = []
    for promised, nodes in (("INT8", promises.int8), ("FP8", promises.fp8), ("FP32", promises.fp32)):
        for node in nodes:
            convolutions = [layer for layer in layers_of.get(node, ()) if layer.role == "conv"]
            wrong = [layer for layer in convolutions if layer.precision != promised.lower()]
            if wrong or not convolutions:
                found.append(BrokenPromise(node, promised, _computed(wrong)))
    for nodes, operation in ((promises.softmaxes, "Exp"), (promises.samplings, "Grid")):
        for node in nodes:
            kernels = _kernels(layers_of.get(node, ()), operation)
            wrong = [layer for layer in kernels if not _in_fp32(layer, layers)]
            if wrong or not kernels:
                found.append(BrokenPromise(node, "FP32", _computed(wrong)))
    return found


def _computed(wrong: Sequence[Layer]) -> str:
    if not wrong:
        return ""
    reads = " and ".join(dict.fromkeys(tensor.dtype.upper() for tensor in wrong[0].inputs))
    return f"{wrong[0].name} reads {reads}"


def _kernels(layers: Iterable[Layer], operation: str) -> list[Layer]:
    """The layers that compute a node, among those that name it: some only begin what others go on with.

    A kernel of the graph compiler's tells its operations, but for the last of a long name.
    """
    found = [layer for layer in layers if layer.role not in ("none", "conv", "conversion")]
    return [layer for layer in found if operation in myelin.operations(layer.name)] or found


def _in_fp32(layer: Layer, layers: Sequence[Layer]) -> bool:
    """Whether a softmax or a sampling reads FP32, or makes it FP32 before it computes; and its coordinates alike."""
    if not (all(tensor.dtype == "fp32" for tensor in layer.inputs) or myelin.casts_first(layer.name)):
        return False
    coordinates = [tensor for tensor in layer.inputs if tensor.shape[-1:] == (2,)]
    if "Grid" not in myelin.operations(layer.name) or not coordinates:
        return True
    makers = [one for one in layers if any(tensor in coordinates for tensor in one.outputs)]
    return all(tensor.dtype == "fp32" for tensor in coordinates) and all(
        _in_fp32(one, layers) for one in makers
    )
