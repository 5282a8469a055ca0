"""FP16 baked into a graph, for strongly typed TensorRT: FP16 everywhere except where 16 bits lose joints.

TensorRT 11 has no precision flags, and from 10 on a strongly typed network runs in the types the graph says. Q/DQ pairs
stay, with FP16 scales, so that everything between INT8 islands is FP16. ``full_precision`` says what stays FP32, and
why. Inputs and outputs keep their types. FP16 scales need opset 19 (ONNX: QuantizeLinear-19).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from samkr_edge.builder.tensorrt.full_precision import full_precision_nodes
from samkr_edge.errors import SamkrError
from samkr_edge.onnx_graph.graph import Graph, opset_of
from samkr_edge.onnx_graph.onnx_file import Q_DQ
from samkr_edge.onnx_graph.onnx_package import load_checked

# The first opset whose QuantizeLinear takes FP16.
OPSET = 19
LARGEST = float(np.finfo(np.float16).max)
# Scales below this lose more than four of FP16's eleven bits; only dead or almost dead channels have them.
SMALLEST_SCALE = np.float16(2.0**-20)


def bake_fp16(graph: Graph, *, wide_sampling: bool = False) -> int:
    """Cast weights and activations of a float or Q/DQ graph to FP16; returns the operations that now compute in it.

        Conv(x, w) -> Softmax -> Conv    =>    Conv(fp16 x, fp16 w) -> Cast -> fp32 Softmax -> Cast -> fp16 Conv

    Faster: half the bytes, and the tensor cores' FP16. Not exact: eleven bits instead of 24.

    Args:
        wide_sampling: see ``samkr_edge.builder.tensorrt.full_precision.full_precision``.

    Raises:
        SamkrError: SE-B85 a weight or scale is too large for FP16, SE-B86 Q/DQ below opset 19.
    """
    opset = opset_of(graph.model)
    if opset < OPSET and any(node.op_type == "QuantizeLinear" for node in graph.nodes):
        raise SamkrError(
            "SE-B86",
            f"INT8 next to FP16 needs opset {OPSET}, and this model has {opset}, so nothing was written",
            {"reason": "QuantizeLinear takes FP16 scales from there on"},
            fix=f"samkr-edge export CHECKPOINT -o model.onnx --precision fp16 --opset {OPSET}",
        )
    wide = _full_precision_nodes(graph, wide_sampling)
    _dequantize_wide(graph, wide)
    floats = _float_tensors(graph)
    casts: dict[tuple[str, bool], str] = {}
    baked = 0
    for node in list(graph.nodes):
        half = id(node) not in wide
        baked += half
        for index, name in enumerate(node.input):
            if name in graph.constants:
                node.input[index] = _typed_constant(graph, node, index, name, half)
            elif name in floats and half == _is_wide(graph, name, wide):
                node.input[index] = _cast(graph, name, half, casts)
    graph.index()
    return baked


def raise_opset(model: Any, opset: int = OPSET) -> Any:
    """Raise a quantized ``ModelProto`` of an older opset to this one; any other is returned unchanged.

    The operators of samkr-edge's exports mean the same in opsets 17 and 19 (a test compares the results bit by bit).
    """
    quantized = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    if not quantized or opset_of(model) >= opset:
        return model
    from onnx import version_converter

    return version_converter.convert_version(model, opset)


def to_half(model: Any, *, wide_sampling: bool = False) -> Any:
    """A ``ModelProto`` after ``bake_fp16``, checked by onnx's checker."""
    graph = Graph(model)
    bake_fp16(graph, wide_sampling=wide_sampling)
    result = graph.write()
    graph.onnx.checker.check_model(result, full_check=True)
    return result


def bake(data: bytes, *, wide_sampling: bool = False) -> bytes:
    """A serialized model with FP16 baked in; one whose quantizers are of an older opset is raised first.

    Raises:
        SamkrError: those of ``samkr_edge.onnx_graph.onnx_package.load_checked`` and ``bake_fp16``.
    """
    return bytes(to_half(raise_opset(load_checked(data)), wide_sampling=wide_sampling).SerializeToString())


def _full_precision_nodes(graph: Graph, wide_sampling: bool) -> set[int]:
    """ids of the nodes that compute in FP32."""
    wide = {id(graph.nodes[index]) for index in full_precision_nodes(graph, wide_sampling=wide_sampling)}
    # A ReLU of FP16 values gives FP16: a cast after it instead of before it costs less and changes nothing.
    for node in graph.nodes:
        maker = graph.producer.get(node.input[0]) if node.op_type == "Relu" else None
        if maker is not None and id(maker) not in wide and node.output[0] not in graph.outputs:
            wide.discard(id(node))
    return wide


def _dequantize_wide(graph: Graph, wide: set[int]) -> None:
    """Dequantize to FP32 for convolutions in FP32: a cast in between would keep them from being INT8.

    A dequantized output of the graph is FP32 too: outputs keep their types. A tensor with other readers gets a second
    DequantizeLinear, and a weight is also quantized in FP32. Values quantized in FP16 are dequantized with the same
    FP16-rounded scale.
    """
    for dequantize in [node for node in graph.nodes if node.op_type == "DequantizeLinear"]:
        readers = graph.consumers[dequantize.output[0]]
        wanting = [node for node in readers if node.op_type == "Conv" and id(node) in wide]
        if dequantize.output[0] in graph.outputs:
            if halves := [node for node in readers if id(node) not in wide]:
                _once_more(graph, dequantize, halves)
        elif not wanting:
            continue
        elif len(wanting) < len(readers):
            dequantize = _once_more(graph, dequantize, wanting)
        wide.add(id(dequantize))
        quantize = graph.producer.get(dequantize.input[0])
        if quantize is None:
            continue
        if quantize.input[0] in graph.constants and len(graph.consumers[quantize.output[0]]) == 1:
            wide.add(id(quantize))
        elif (scale := graph.constants.get(dequantize.input[1])) is not None and scale.dtype == np.float32:
            _refuse_large(dequantize.input[1], scale)
            rounded = half_scale(scale).astype(np.float32)
            dequantize.input[1] = graph.constant(rounded, f"{dequantize.input[1]}_rounded")
    graph.index()


def _once_more(graph: Graph, dequantize: Any, readers: list[Any]) -> Any:
    """A second DequantizeLinear of the same tensor, for these readers."""
    again = graph.onnx.NodeProto()
    again.CopyFrom(dequantize)
    again.name = again.output[0] = graph.name(f"{dequantize.output[0]}_again")
    graph.replace_input(dequantize.output[0], again.output[0], readers)
    graph.nodes.append(again)
    return again


def _float_tensors(graph: Graph) -> set[str]:
    """Names of the inputs and computed tensors that are float."""
    onnx = graph.onnx
    inferred = onnx.shape_inference.infer_shapes(graph.write()).graph  # with the new nodes
    return {
        value.name
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }


def _is_wide(graph: Graph, tensor: str, wide: set[int]) -> bool:
    """Whether a float tensor is FP32."""
    maker = graph.producer.get(tensor)
    return maker is None or id(maker) in wide


def _typed_constant(graph: Graph, node: Any, index: int, name: str, half: bool) -> str:
    """The constant in the precision of the node that reads it; integers and Resize's scales are not changed."""
    value = graph.constants[name]
    if value.dtype != np.float32 or not half or node.op_type == "Resize":
        return name
    typed = f"{name}_fp16"
    if typed not in graph.constants:
        scales = node.op_type in Q_DQ and index == 1
        _refuse_large(name, value)
        graph.constants[typed] = half_scale(value) if scales else value.astype(np.float16)
    return typed


def _refuse_large(name: str, value: np.ndarray) -> None:
    largest = float(np.abs(value).max(initial=0))
    if not largest <= LARGEST:
        raise SamkrError(
            "SE-B85",
            "a weight or scale is larger than FP16 can hold, so nothing was written",
            {"constant": name, "largest": f"{largest:.3g}, FP16 ends at {LARGEST:.0f}"},
            fix="samkr-edge export CHECKPOINT -o model.onnx   # FP32",
        )


def half_scale(scale: np.ndarray) -> np.ndarray:
    """A quantization scale, of any shape, as FP16, rounded up so that nothing clips that did not before."""
    rounded = scale.astype(np.float16)
    up = np.where(rounded.astype(np.float32) < scale, np.nextafter(rounded, np.float16(np.inf)), rounded)
    return np.maximum(up, SMALLEST_SCALE).astype(np.float16)


def _cast(graph: Graph, tensor: str, half: bool, casts: dict[tuple[str, bool], str]) -> str:
    """Name of the tensor in the other precision; all readers share one Cast."""
    if (tensor, half) not in casts:
        to = graph.onnx.TensorProto.FLOAT16 if half else graph.onnx.TensorProto.FLOAT
        name = f"{tensor}_{'fp16' if half else 'fp32'}"
        graph.append("Cast", [tensor], [name], to=to)
        casts[tensor, half] = name
    return casts[tensor, half]
