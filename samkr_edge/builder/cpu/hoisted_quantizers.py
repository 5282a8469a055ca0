"""Resizes, poolings and concatenations in INT8."""

from __future__ import annotations

from samkr_edge.builder.cpu.quantizer_nodes import MOVERS, is_activation_quantizer
from samkr_edge.onnx_graph.graph import Graph


def hoist_quantizers(graph: Graph) -> int:
    """Quantize the inputs of a resize, pooling or concat whose output is quantized; returns how many quantizers.

        Conv -> Resize -> Q -> DQ    =>    Conv -> Q -> DQ -> Resize -> Q -> DQ    (all with the same scale)

    Faster: the convolution writes INT8, and the operation after it moves a quarter of the bytes. Exact for nearest
    resizing, max pooling and concatenation, which commute with rounding; not for a bilinear resize, which averages
    rounded values and rounds again: off by a whole step at most.
    """
    hoisted = 0
    waiting = [node for node in graph.nodes if is_activation_quantizer(graph, node)]
    while waiting:
        quantizer = waiting.pop()
        mover = graph.producer.get(quantizer.input[0])
        if mover is None or mover.op_type not in MOVERS or len(graph.consumers[mover.output[0]]) != 1:
            continue
        for name in mover.input if mover.op_type == "Concat" else mover.input[:1]:
            source = graph.producer.get(name)
            alone = len(graph.consumers[name]) == 1 and name not in graph.outputs
            if source is None or source.op_type == "DequantizeLinear" or not alone:
                continue
            scale, zero = (graph.constants[constant] for constant in quantizer.input[1:3])
            q, dq = graph.add_pair(name, scale, zero)
            graph.replace_input(name, dq.output[0], [mover])
            graph.index()
            waiting.append(q)  # another such operation may precede it
            hoisted += 1
    return hoisted
