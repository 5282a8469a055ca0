"""How much of a network's arithmetic is INT8: counted in the ONNX graph, no inference needed."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

# Between a DequantizeLinear and the operator that reads it, these move or choose numbers and compute nothing, so
# runtimes keep them in INT8.
_MOVES = {
    "Relu",
    "Resize",
    "MaxPool",
    "Reshape",
    "Transpose",
    "Slice",
    "Split",
    "Squeeze",
    "Unsqueeze",
    "Identity",
}
_ALWAYS_INT8 = {"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat"}


def int8_share(path: Path) -> float | None:
    """Share of multiply-accumulates (convolutions and matrix products) whose both inputs are INT8, 0..1.

    Of a bundle, the model that this device runs. None for what is not an ONNX file, where the package ``onnx`` is
    missing, and where shapes are unknown.
    """
    if path.suffix == ".samkr":
        from samkr_edge.deploy.bundle_cache import ready_model

        path = ready_model(path)
    if path.suffix != ".onnx":
        return None
    try:
        import onnx
    except ModuleNotFoundError:
        return None
    try:
        model = onnx.shape_inference.infer_shapes(onnx.load(path))
    except (
        Exception
    ):  # protobuf's, the checker's and the inference's own classes: a missing figure, not a failed run
        return None
    if any(constant.data_type == onnx.TensorProto.FLOAT8E4M3FN for constant in model.graph.initializer):
        return 0.0  # its quantizers are FP8
    sixteen = (onnx.TensorProto.INT16, onnx.TensorProto.UINT16)
    if any(constant.data_type in sixteen for constant in model.graph.initializer):
        return 0.0  # of another tool: what it quantizes so is computed in floats
    shapes = _shapes(model)
    producer = {output: node for node in model.graph.node for output in node.output}
    total = int8 = 0
    for node in model.graph.node:
        macs = _macs(node, shapes)
        if macs is None:
            return None
        total += macs
        if macs and _is_int8(node, producer):
            int8 += macs
    return int8 / total if total else None


def _shapes(model: Any) -> dict[str, list[int]]:
    """Tensor name -> shape, for every tensor whose shape is fully known."""
    shapes = {constant.name: list(constant.dims) for constant in model.graph.initializer}
    for value in [*model.graph.input, *model.graph.value_info, *model.graph.output]:
        sizes = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        if all(size > 0 for size in sizes):
            shapes[value.name] = sizes
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            shapes[node.output[0]] = list(node.attribute[0].t.dims)
    return shapes


def _macs(node: Any, shapes: Mapping[str, list[int]]) -> int | None:
    """Multiply-accumulates of one node, 0 for operators that are not counted, None where a shape is missing."""
    if node.op_type in ("Conv", "DeformConv", "ConvInteger", "QLinearConv"):
        weight = shapes.get(node.input[3 if node.op_type == "QLinearConv" else 1])
        out = shapes.get(node.output[0])
        # (out channels, in channels / group, kernel height, kernel width)
        return None if weight is None or out is None else prod(out) * prod(weight[1:])
    if node.op_type == "ConvTranspose":
        # (in channels, out channels, kernel height, kernel width): ours have no groups
        weight, out = shapes.get(node.input[1]), shapes.get(node.output[0])
        return None if weight is None or out is None else prod(out) * weight[0] * prod(weight[2:])
    if node.op_type in ("MatMul", "Gemm", "MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul"):
        left, out = shapes.get(node.input[0]), shapes.get(node.output[0])
        if left is None or out is None:
            return None
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return prod(out) * (left[0] if transposed else left[-1])
    return 0


def _is_int8(node: Any, producer: Mapping[str, Any]) -> bool:
    if node.op_type in _ALWAYS_INT8:
        return True
    # ONNX Runtime and TensorRT sample in float: a DeformConv never runs in INT8.
    return node.op_type != "DeformConv" and all(_dequantized(name, producer) for name in node.input[:2])


def _dequantized(name: str, producer: Mapping[str, Any]) -> bool:
    node = producer.get(name)
    while node is not None and node.op_type in _MOVES:
        node = producer.get(node.input[0])
    return node is not None and node.op_type == "DequantizeLinear"
