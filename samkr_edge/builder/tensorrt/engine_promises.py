"""What a graph promises about its engine, and whether the engine's layers keep it.

A builder may choose another precision than the graph suggests: it may run a quantized convolution in FP16, and one that
should be FP32 in FP16 between casts. The list of layers shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from samkr_edge.builder.inspect import myelin
from samkr_edge.builder.inspect.engine_layers import Layer
from samkr_edge.builder.tensorrt.full_precision import Operation, full_precision
from samkr_edge.onnx_graph.onnx_file import INT8, Node, OnnxFile
from samkr_edge.onnx_graph.quantizers import quantized_convolutions

# FP32, types of indices and sizes, which are not network values, and unknown types.
_NO_FEWER_BITS = ("fp32", "int32", "int64", "bool", "?")
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "MatMul", "Gemm")


@dataclass(frozen=True)
class Promises:
    """Names of ONNX nodes.

    Attributes:
        int8, fp8: convolutions that are quantized to it.
        fp32: convolutions that output offsets and heatmaps, unless the policy quantizes these too.
        softmaxes, samplings: ``Softmax`` and ``GridSample``, whose inputs and arithmetic are FP32.
        grids: the arithmetic of sampling coordinates, FP32.
    """

    int8: tuple[str, ...]
    fp8: tuple[str, ...]
    fp32: tuple[str, ...]
    softmaxes: tuple[str, ...]
    samplings: tuple[str, ...]
    grids: tuple[str, ...] = ()


@dataclass(frozen=True)
class BrokenPromise:
    """One node that the engine computes differently than promised, or that none of its layers names.

    Attributes:
        node: its name in the graph.
        promised: ``INT8``, ``FP8`` or ``FP32``.
        found: what the engine does instead; empty if none of its layers names the node.
    """

    node: str
    promised: str
    found: str

    def __str__(self) -> str:
        return f"{self.node} should be {self.promised}: {self.found or 'no layer names it'}"


def promises_of(model: OnnxFile) -> Promises:
    """Promises of the graph that the builder gets (``samkr-edge build --prepared``), whose nodes the engine's layers
    name.

    ``samkr_edge.builder.tensorrt.full_precision.full_precision`` decides what stays FP32.
    """
    operations = [Operation(node.op_type, node.inputs, node.outputs) for node in model.nodes]
    inputs = [value.name for value in model.inputs]
    wide = full_precision(operations, inputs, [value.name for value in model.outputs])
    types = {node.name: _stored_type(model, dequantize) for node, dequantize in quantized_convolutions(model)}

    def names(kind: str) -> tuple[str, ...]:
        return tuple(
            node.name
            for index, node in enumerate(model.nodes)
            if node.op_type == kind and index in wide and node.name not in types
        )

    return Promises(
        int8=tuple(name for name, dtype in types.items() if dtype == "int8"),
        fp8=tuple(name for name, dtype in types.items() if dtype == "fp8"),
        fp32=names("Conv"),
        softmaxes=names("Softmax"),
        samplings=names("GridSample"),
        grids=_grids(model),
    )


def _stored_type(model: OnnxFile, dequantize: Node) -> str:
    """Type of quantized weights, which is that of their zero point."""
    zero = model.tensors.get(dequantize.inputs[2]) if len(dequantize.inputs) > 2 else None
    return "int8" if zero is None or zero.data_type == INT8 else "fp8"


def _grids(model: OnnxFile) -> tuple[str, ...]:
    """The arithmetic between a convolution and the coordinates of a sampling; operations that only move values are left
    out.
    """
    makers = {output: node for node in model.nodes for output in node.outputs}
    found: dict[str, None] = {}
    waiting = [node.inputs[1] for node in model.nodes if node.op_type == "GridSample"]
    seen: set[str] = set()
    while waiting:
        tensor = waiting.pop()
        node = makers.get(tensor)
        if node is None or tensor in seen or node.op_type in ("Conv", "DequantizeLinear"):
            continue
        seen.add(tensor)
        waiting += node.inputs
        if node.op_type in _ARITHMETIC:
            found[node.name] = None
    return tuple(sorted(found))


def broken_promises(layers: Sequence[Layer], promises: Promises) -> list[BrokenPromise]:
    """Broken promises, in the graph's order; a node that no layer names counts as broken.

    Two kinds of layers count as naming no node, since the type they read is not the one they compute in: a block of
    TensorRT's graph compiler listed as one layer, and a kernel of the compiler that shows neither operations nor
    weights. Coordinates that no layer names are skipped, since constants among them are folded.
    """
    layers_of: dict[str, list[Layer]] = {}
    for layer in layers:
        if not (myelin.is_block(layer.name, layer.kind) or _is_mute(layer)):
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
            if operation == "Exp":
                wrong += [layer for layer in kernels if layer not in wrong and _rounds(layer)]
            if wrong or not kernels:
                found.append(BrokenPromise(node, "FP32", _computed(wrong)))
    for node in promises.grids:
        # They read a convolution's result, which may be FP16.
        if wrong := [layer for layer in _kernels(layers_of.get(node, ()), "") if _rounds(layer)]:
            found.append(BrokenPromise(node, "FP32", _computed(wrong)))
    return found


def _is_mute(layer: Layer) -> bool:
    if layer.role == "conv":
        return myelin.is_convolution(layer.name, layer.kind) and not layer.constants
    return myelin.is_mute(layer.name, layer.kind)


def _computed(wrong: Sequence[Layer]) -> str:
    if not wrong:
        return ""
    layer = wrong[0]
    reads = " and ".join(dict.fromkeys(tensor.dtype.upper() for tensor in layer.inputs))
    return f"{layer.name} reads {reads}, writes {layer.writes.upper()}"


def _kernels(layers: Iterable[Layer], operation: str) -> list[Layer]:
    """The layers that compute a node, among those that name it: some only start what others continue.

    A compiled kernel's name lists its operations; a long name lacks the last ones.
    """
    found = [layer for layer in layers if layer.role not in ("none", "conv", "conversion")]
    return [layer for layer in found if operation in myelin.operations(layer.name)] or found


def _rounds(layer: Layer) -> bool:
    """Whether a layer writes a float of fewer bits and its name does not show that the cast is its last operation."""
    return layer.writes in ("fp16", "bf16") and not myelin.operations(layer.name)


def _in_fp32(layer: Layer, layers: Sequence[Layer]) -> bool:
    """Whether a softmax or a sampling reads FP32, or casts to FP32 before it computes; the same for its coordinates."""
    reads = all(tensor.dtype in _NO_FEWER_BITS for tensor in layer.inputs)
    if not (reads or myelin.casts_first(layer.name)):
        return False
    coordinates = [tensor for tensor in layer.inputs if tensor.shape[-1:] == (2,)]
    if "Grid" not in myelin.operations(layer.name) or not coordinates:
        return True
    makers = [
        one for one in layers if any(tensor in coordinates for tensor in one.outputs) and not _is_mute(one)
    ]
    return all(tensor.dtype == "fp32" for tensor in coordinates) and all(
        _in_fp32(one, layers) for one in makers
    )
