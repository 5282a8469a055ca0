"""The image bytes as the first convolution's INT8 input."""

from __future__ import annotations

from typing import Any

import numpy as np

from samkr_edge.builder.cpu.quantizer_nodes import along, axis_of, is_activation_quantizer, whole_steps
from samkr_edge.onnx_graph.graph import Graph


def take_image_bytes(graph: Graph) -> int:
    """Let the first convolution read the image bytes and normalise them by its weights and bias; returns how many.

        image -> Cast -> Mul a -> Sub m -> Q -> DQ -> Conv(w, b)    =>    image -> DQ(max a, mean m/a) -> Conv(w', b')

    Faster: bytes are INT8 input already, which saves four kernels that each read and write the largest map of the
    network. Not exact: bytes have finer steps than the quantized normalised image, weights of channels with a
    smaller ``a`` are rounded again, and the padding is the grey of the zero point instead of each channel's mean.
    """
    found = 0
    for quantizer in list(graph.nodes):
        chain = _normalisation(graph, quantizer)
        if chain is None:
            continue
        transposed, factor, shift, convolution, weight_quantizer = chain
        weight, scale = (graph.constants[name] for name in weight_quantizer.input[:2])
        axis = axis_of(weight_quantizer)
        rounded = whole_steps(weight, scale, axis) * along(scale, weight.ndim, axis)
        # w (a x - m) = w a/step (step (x - zero)) + w (a zero - m). With the largest factor no weight grows, so none
        # clips.
        step = np.float32(factor.max())
        zero = np.uint8(np.rint((shift / factor).mean()))
        bias = (rounded * (factor * zero - shift)).sum(axis=(1, 2, 3))
        if len(convolution.input) > 2:
            bias = bias + graph.constants[convolution.input[2]]
        weight_quantizer.input[0] = graph.constant(
            (rounded * (factor / step)).astype(np.float32), "image_weight"
        )
        inputs = [
            transposed,
            graph.constant(np.asarray(step), "scale"),
            graph.constant(np.asarray(zero), "zero"),
        ]
        restored = graph.name("image_dq")
        graph.append("DequantizeLinear", inputs, [restored])
        weights = convolution.input[1]
        del convolution.input[:]
        convolution.input.extend([restored, weights, graph.constant(bias.astype(np.float32), "image_bias")])
        graph.index()
        found += 1
    return found


def _normalisation(graph: Graph, quantizer: Any) -> tuple[str, np.ndarray, np.ndarray, Any, Any] | None:
    """Transposed image, factor and shift (1, 3, 1, 1), convolution and its weight's quantizer, or None.

    The chain is what the exporter writes: Cast, Mul, Sub, QuantizeLinear, DequantizeLinear, Conv.
    """
    if not is_activation_quantizer(graph, quantizer):
        return None
    names = {}
    tensor = quantizer.input[0]
    for op in ("Sub", "Mul", "Cast"):
        node = graph.producer.get(tensor)
        if node is None or node.op_type != op or len(graph.consumers[node.output[0]]) != 1:
            return None
        names[op] = node
        tensor = node.input[0]
    factor, shift = (graph.constants.get(names[op].input[1]) for op in ("Mul", "Sub"))
    readers = [
        reader for dq in graph.consumers[quantizer.output[0]] for reader in graph.consumers[dq.output[0]]
    ]
    if factor is None or shift is None or len(readers) != 1 or readers[0].op_type != "Conv":
        return None
    if any(name not in graph.constants for name in readers[0].input[2:]):
        return None
    restored = graph.producer.get(readers[0].input[1])
    weight_quantizer = graph.producer.get(restored.input[0]) if restored is not None else None
    if weight_quantizer is None or weight_quantizer.input[0] not in graph.constants:
        return None
    return tensor, factor, shift, readers[0], weight_quantizer
