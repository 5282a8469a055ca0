"""Activations as unsigned bytes."""

from __future__ import annotations

import numpy as np

from samkr_edge.builder.cpu.quantizer_nodes import is_activation_quantizer
from samkr_edge.onnx_graph.graph import Graph


def make_unsigned(graph: Graph) -> int:
    """Turn signed activations into unsigned ones; returns how many quantizers.

        Relu -> Q(s, int8 0)        =>    Relu -> Q(s 127/255, uint8 0)
        anything -> Q(s, int8 0)    =>    anything -> Q(s, uint8 128)

    Faster: the INT8 instructions of x86 multiply unsigned activations by signed weights. After a ReLU it is not exact:
    the range gets 255 steps instead of 127. Elsewhere it is exact.
    """
    turned = 0
    for node in list(graph.nodes):
        if not is_activation_quantizer(graph, node) or graph.constants[node.input[2]].dtype != np.int8:
            continue
        scale = graph.constants[node.input[1]]
        if _is_nonnegative(graph, node.input[0]):
            new_scale, zero = (scale * np.float32(127 / 255)).astype(np.float32), np.uint8(0)
        else:
            new_scale, zero = scale, np.uint8(128)
        names = graph.constant(np.asarray(new_scale), "scale"), graph.constant(np.asarray(zero), "zero")
        for user in (node, *graph.consumers[node.output[0]]):
            user.input[1], user.input[2] = names
        turned += 1
    return turned


def _is_nonnegative(graph: Graph, tensor: str) -> bool:
    """Whether a tensor is a ReLU's output, or made from ReLU outputs by operations that keep signs."""
    seen, waiting = {tensor}, [tensor]
    while waiting:
        node = graph.producer.get(waiting.pop())
        if node is not None and node.op_type == "DequantizeLinear":
            node = graph.producer.get(node.input[0])
            if node is not None and node.op_type != "QuantizeLinear":
                return False
        if node is None:
            return False
        if node.op_type in ("Resize", "MaxPool", "Reshape", "Transpose", "Slice", "QuantizeLinear"):
            before = {node.input[0]}
        elif node.op_type == "Concat":
            before = {*node.input}
        elif node.op_type == "Relu":
            continue
        else:
            return False
        waiting += before - seen
        seen |= before
    return True
