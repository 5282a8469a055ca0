"""Weight scales with which biases fit into int32, from which integer convolutions start their sum.

The bias's step is the product of the input's and the weight's scale. If a channel's weights are almost zero and its
bias (with a folded batch norm) is not, the step is so fine that 2**31 of them do not reach the bias, and ONNX Runtime
clips it silently. ``quantize`` leaves room (calibration/ranges.py); other files, and those whose activations got finer
steps since, get it here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from samkr_edge.onnx_graph.graph import Graph
from samkr_edge.onnx_graph.onnx_file import OnnxFile

# Of int32's 2**31 steps half is left for the sum, which needs a tenth of them.
LARGEST = 2.0**30


def fit_biases(graph: Graph) -> int:
    """Widen the scales of those channels' weights whose biases would be clipped; returns the number of channels.

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

    def maker(name: str) -> tuple[str, Sequence[str]] | None:
        found = graph.producer.get(name)
        return None if found is None else (found.op_type, found.input)

    operands = _operands(node.op_type, node.input, maker, graph.constants.get)
    if operands is None:
        return None
    weights = graph.producer[node.input[1]]
    zero = graph.constants.get(weights.input[2]) if len(weights.input) > 2 else None
    if zero is not None and zero.dtype != np.int8:
        return None  # with a zero point it is not a weight of ours, and FP8 has no int32
    bias, step, _ = operands
    return bias, float(step.reshape(())), weights


def _operands(
    op_type: str,
    inputs: Sequence[str],
    maker: Callable[[str], tuple[str, Sequence[str]] | None],
    value: Callable[[str], np.ndarray | None],
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Bias, the one scale of the input and the scales of the weights of a quantized convolution with a bias; else None.

    Args:
        op_type, inputs: of the node.
        maker: name of a tensor -> operation and inputs of what makes it.
        value: name of a tensor -> its values, where it is constant.
    """
    if op_type != "Conv" or len(inputs) < 3:
        return None
    makers = [maker(name) for name in inputs[:2]]
    scales = [one[1][1] for one in makers if one is not None and one[0] == "DequantizeLinear"]
    if len(scales) != 2:
        return None
    bias, step, scale = (value(name) for name in (inputs[2], *scales))
    if bias is None or step is None or scale is None or step.size != 1:
        return None
    return bias, step, scale


def _widen(graph: Graph, weights: Any, scale: np.ndarray) -> None:
    """Give a weight's DequantizeLinear a larger scale, and requantize its values, floats or INT8.

    Its input may have other readers, so it gets its own copy.
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
    """Whether some bias of an INT8 convolution overflows int32, as in files older than ``fit_biases``."""
    makers = {output: (node.op_type, node.inputs) for node in model.nodes for output in node.outputs}

    def value(name: str) -> np.ndarray | None:
        tensor = model.tensors.get(name)
        return None if tensor is None else tensor.array()

    for node in model.nodes:
        operands = _operands(node.op_type, node.inputs, makers.get, value)
        if operands is None:
            continue
        bias, step, scale = (values.astype(np.float64) for values in operands)
        if (np.abs(bias) / (step.reshape(()) * scale)).max(initial=0.0) > 1.5 * LARGEST:
            return True
    return False
