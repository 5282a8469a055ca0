"""FP16 baked into a graph, for strongly typed TensorRT: FP16 everywhere but where sixteen bits lose joints.

TensorRT 11 has no precision flags, and from 10 on a strongly typed network runs in the types the graph says. Q/DQ pairs
stay, with FP16 scales, so that what is between INT8 islands is FP16. In FP32 stay

* the attention's softmax and what it is multiplied into: its mean weight on a 128x128 map is 2^-14, the smallest normal
  number of FP16, and most weights are smaller;
* sampling: the grid, whose steps near the border of a 128-pixel map would be 1/16 pixel, and the samples taken by it;
* the last convolution of each head: offsets reach tens of pixels, and peaks are found by comparing heatmap values;
* the normalisation of the image bytes.

Inputs and outputs keep their types. Scales in FP16 need opset 19 (facts of ONNX: QuantizeLinear-19).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from samkr_edge.build.graph import Graph
from samkr_edge.errors import SamkrError

# The first opset whose QuantizeLinear takes FP16.
OPSET = 19
LARGEST = float(np.finfo(np.float16).max)
# Scales below this lose more than four of FP16's eleven bits; only channels that are dead, or nearly, have them.
SMALLEST_SCALE = np.float16(2.0**-20)


def to_half(model: Any) -> Any:
    """Cast weights and activations of a float or Q/DQ model to FP16; returns the changed model.

    Raises:
        SamkrError: SE-B85 a weight is larger than FP16 can be, SE-B86 Q/DQ below opset 19.
    """
    graph = Graph(model)
    quantized = any(node.op_type == "QuantizeLinear" for node in graph.nodes)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if quantized and opset < OPSET:
        raise SamkrError(
            "SE-B86",
            f"INT8 with FP16 beside it needs opset {OPSET}, and this model has {opset}, so nothing was written",
            ["reason     QuantizeLinear takes FP16 scales from there on"],
            fix=f"samkr-edge export CHECKPOINT -o model.onnx --precision fp16 --opset {OPSET}",
        )
    wide = _full_precision_nodes(graph)
    floats = _float_tensors(graph)
    casts: dict[tuple[str, bool], str] = {}
    for node in list(graph.nodes):
        half = id(node) not in wide
        for index, name in enumerate(node.input):
            if name in graph.constants:
                node.input[index] = _typed_constant(graph, node, index, name, half)
            elif name in floats and half == _is_wide(graph, name, wide):
                node.input[index] = _cast(graph, name, half, casts)
    graph.index()
    result = graph.write()
    graph.onnx.checker.check_model(result, full_check=True)
    return result


def _full_precision_nodes(graph: Graph) -> set[int]:
    """ids of the nodes that compute in FP32."""
    wide: set[int] = set()
    # Behind and with each head's last convolution; before the first, the normalisation.
    for output in graph.outputs:
        wide |= _back_to(graph, output, ("Conv",))
    for node in graph.nodes:
        if node.op_type == "GridSample":
            wide.add(id(node))
            wide |= _back_to(graph, node.input[1], ("Conv",), including=False)
        if node.op_type == "Softmax":
            wide |= {id(node), *_back_to(graph, node.input[0], ("Conv",), including=False)}
            wide |= _on_to(graph, node.output[0])
    return wide | _on_to(graph, graph.graph.input[0].name)


def _back_to(graph: Graph, tensor: str, stop: tuple[str, ...], including: bool = True) -> set[int]:
    """ids of the nodes above a tensor, up to the first of ``stop`` on every path; quantizers stop a path too."""
    found: set[int] = set()
    waiting = [tensor]
    while waiting:
        node = graph.producer.get(waiting.pop())
        if node is None or id(node) in found or node.op_type == "DequantizeLinear":
            continue
        if node.op_type in stop:
            if including:
                found.add(id(node))
            continue
        found.add(id(node))
        waiting.extend(node.input)
    return found


def _on_to(graph: Graph, tensor: str) -> set[int]:
    """ids of the nodes below a tensor, up to but without the first convolution or quantizer on every path."""
    found: set[int] = set()
    waiting = [tensor]
    while waiting:
        for reader in graph.consumers[waiting.pop()]:
            if id(reader) not in found and reader.op_type not in ("Conv", "QuantizeLinear"):
                found.add(id(reader))
                waiting.extend(reader.output)
    return found


def _float_tensors(graph: Graph) -> set[str]:
    """Names of the inputs and computed tensors that are float."""
    onnx = graph.onnx
    inferred = onnx.shape_inference.infer_shapes(graph.model).graph
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
    """The constant in the precision of the node that reads it; integers, and Resize's scales, stay as they are."""
    value = graph.constants[name]
    if value.dtype != np.float32 or not half or node.op_type == "Resize":
        return name
    typed = f"{name}_fp16"
    if typed not in graph.constants:
        scales = node.op_type in ("QuantizeLinear", "DequantizeLinear") and index == 1
        graph.constants[typed] = half_scale(value) if scales else _half(name, value)
    return typed


def _half(name: str, value: np.ndarray) -> np.ndarray:
    largest = float(np.abs(value).max(initial=0))
    if not largest <= LARGEST:
        raise SamkrError(
            "SE-B85",
            "a weight is larger than FP16 can be, so nothing was written",
            [f"weight     {name}", f"largest    {largest:.3g}, FP16 ends at {LARGEST:.0f}"],
            fix="samkr-edge export CHECKPOINT -o model.onnx   # FP32",
        )
    return value.astype(np.float16)


def half_scale(scale: np.ndarray) -> np.ndarray:
    """A quantization scale as FP16, never smaller than it was, so that nothing clips that did not."""
    rounded = scale.astype(np.float16)
    up = np.where(rounded.astype(np.float32) < scale, np.nextafter(rounded, np.float16(np.inf)), rounded)
    return np.maximum(up, SMALLEST_SCALE).astype(np.float16)


def _cast(graph: Graph, tensor: str, half: bool, casts: dict[tuple[str, bool], str]) -> str:
    """Name of the tensor in the other precision; readers share one Cast."""
    if (tensor, half) not in casts:
        to = graph.onnx.TensorProto.FLOAT16 if half else graph.onnx.TensorProto.FLOAT
        name = f"{tensor}_{'fp16' if half else 'fp32'}"
        graph.nodes.append(graph.onnx.helper.make_node("Cast", [tensor], [name], name=name, to=to))
        casts[tensor, half] = name
    return casts[tensor, half]
