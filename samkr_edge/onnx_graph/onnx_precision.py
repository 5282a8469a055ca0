"""The precision of an ONNX graph, as all commands name it."""

from __future__ import annotations

from samkr_edge.onnx_graph.onnx_file import FLOAT, FLOAT16, FP8, INT16, Q_DQ, UINT16, OnnxFile

# ONNX Runtime's own product of INT8 matrices with a float result, which a build for the CPU writes.
PRODUCT = "MatMulIntegerToFloat"
# Integer operations, as other quantizers write them; they need no Q/DQ around them.
INTEGER_OPERATIONS = frozenset(
    {"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"}
)


def precision_of(model: OnnxFile) -> str:
    """``fp8`` or ``int8`` if something is quantized, by any tool; else ``fp16`` or ``fp32`` by its weights.

    Quantizers of sixteen bits do not count: they only round, and floats are computed between them.
    """
    quantized = [node for node in model.nodes if node.op_type in Q_DQ]
    zeros = [model.tensors.get(node.inputs[2]) for node in quantized if len(node.inputs) > 2]
    if any(zero is not None and zero.data_type == FP8 for zero in zeros):
        return "fp8"
    if wide_quantizers(model):
        return float_type(model)
    if quantized or any(node.op_type in INTEGER_OPERATIONS for node in model.nodes):
        return "int8"
    return float_type(model)


def wide_quantizers(model: OnnxFile) -> list[str]:
    """Names of the 16-bit quantizers, which other tools write."""
    return [
        node.name
        for node in model.nodes
        if node.op_type == "QuantizeLinear"
        and len(node.inputs) > 2
        and (zero := model.tensors.get(node.inputs[2])) is not None
        and zero.data_type in (INT16, UINT16)
    ]


def float_type(model: OnnxFile) -> str:
    """``fp16`` or ``fp32``: the type of most kernels."""
    heavy = [
        tensor
        for tensor in model.tensors.values()
        if tensor.data_type in (FLOAT, FLOAT16) and len(tensor.dims) == 4
    ]
    return "fp16" if sum(tensor.data_type == FLOAT16 for tensor in heavy) * 2 > len(heavy) else "fp32"
