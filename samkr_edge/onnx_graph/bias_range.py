"""Weight scales beside which biases fit: integer convolutions start their sum from the bias as int32.

Its step is the product of the input's and the weight's scale. Where a channel's weights are all but zero and its bias,
into which a batch norm was folded, is not, that step is so fine that 2**31 of them do not reach the bias, and ONNX
Runtime clips it without a word. ``quantize`` leaves room (calibration/ranges.py); a file that came otherwise, or whose
activations were given finer steps since, gets it here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from samkr_edge.onnx_graph.graph import Graph
from samkr_edge.onnx_graph.onnx_file import Node, OnnxFile

# Of the 2**31 steps of int32: half is left to the sum, which needs a tenth of them.
LARGEST = 2.0**30


def fit_biases(graph: Graph) -> int:
    """Widen the scales of those channels' weights whose biases would be clipped; returns the number of channels.

    ::

        Q/DQ(w, s) -> Conv(x, w, b)    =>    Q/DQ(w, max(s, |b| / (2**30 x_scale))) -> Conv(x, w, b)

    Not faster, but right: ONNX Runtime's integer convolutions clip such a bias silently. Not exact: such weights are
    rounded again, in steps that are less than a thousandth of the bias all together.
    """
    widened = 0
    for node in graph.nodes:
        scales = _scales(graph, node)
        if scales is None:
            continue
        bias, input_scale, weights = scales
        scale = graph.constants[weights.input[1]].astype(np.float64)
        needed = np.abs(bias.astype(np.float64)) / (LARGEST * input_scale)
        needed = needed if scale.size > 1 else needed.max()
        if (needed > scale).any():
            widened += int((needed > scale).sum())
            _widen(graph, weights, np.maximum(scale, needed).astype(np.float32))
    graph.index()
    return widened


def _scales(graph: Graph, node: Any) -> tuple[np.ndarray, float, Any] | None:
    """Bias, input scale and the DequantizeLinear of the weights of an INT8 convolution with a bias; else None."""
    if node.op_type != "Conv" or len(node.input) < 3 or node.input[2] not in graph.constants:
        return None
    inputs, weights = (graph.producer.get(name) for name in node.input[:2])
    if inputs is None or weights is None or {inputs.op_type, weights.op_type} != {"DequantizeLinear"}:
        return None
    zero = graph.constants.get(weights.input[2]) if len(weights.input) > 2 else None
    step, scale = (graph.constants.get(dq.input[1]) for dq in (inputs, weights))
    if step is None or scale is None or step.size != 1 or (zero is not None and zero.dtype != np.int8):
        return None  # with a zero point of its own it is not our weight, and FP8 has no int32
    return graph.constants[node.input[2]], float(step.reshape(())), weights


def _widen(graph: Graph, weights: Any, scale: np.ndarray) -> None:
    """Let a weight's DequantizeLinear have another scale, and its values, floats or INT8, fewer steps.

    What it reads may have other readers: it gets values of its own.
    """
    name = graph.constant(scale, "weight_scale")
    quantizer = graph.producer.get(weights.input[0])
    if quantizer is not None:
        own = graph.onnx.NodeProto()
        own.CopyFrom(quantizer)
        own.input[1] = name
        own.name = own.output[0] = weights.input[0] = graph.name("widened_weight")
        graph.nodes.append(own)
    else:
        steps = graph.constants[weights.input[0]]
        before = graph.constants[weights.input[1]]
        ratio = (before / scale).reshape(-1, *[1] * (steps.ndim - 1))
        weights.input[0] = graph.constant(np.rint(steps * ratio).astype(np.int8), "weight_int8")
    weights.input[1] = name


def clips_biases(model: OnnxFile) -> bool:
    """Whether int32 does not hold some bias of an INT8 convolution: files older than :func:`fit_biases` have such."""
    makers = {output: node for node in model.nodes for output in node.outputs}
    return any(
        node.op_type == "Conv" and len(node.inputs) > 2 and _largest_bias(model, makers, node) > 1.5 * LARGEST
        for node in model.nodes
    )


def _largest_bias(model: OnnxFile, makers: dict[str, Node], convolution: Node) -> float:
    """In steps of input scale times weight scale; 0 where the convolution is not INT8."""
    quantized = [makers.get(name) for name in convolution.inputs[:2]]
    if any(node is None or node.op_type != "DequantizeLinear" for node in quantized):
        return 0.0
    names = [convolution.inputs[2], *(node.inputs[1] for node in quantized if node is not None)]
    found = [tensor.array() if (tensor := model.tensors.get(name)) else None for name in names]
    bias, step, scale = (None if values is None else values.astype(np.float64) for values in found)
    if bias is None or step is None or scale is None or step.size != 1:
        return 0.0
    return float((np.abs(bias) / (step.reshape(()) * scale)).max(initial=0.0))
