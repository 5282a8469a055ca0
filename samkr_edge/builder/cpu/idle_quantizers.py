"""Drop the quantizers between float layers."""

from __future__ import annotations

from typing import Any

from samkr_edge.builder.cpu.quantizer_nodes import MOVERS, is_activation_quantizer
from samkr_edge.onnx_graph.graph import Graph
from samkr_edge.onnx_graph.onnx_file import Q_DQ


def drop_idle_quantizers(graph: Graph) -> int:
    """Drop quantizers that have no INT8 operation before or after them; returns how many.

        float Conv -> Q -> DQ -> Add of floats    =>    float Conv -> Add of floats

    Faster: such a pair converts back and forth for nothing. They are found at residual sums between float layers, since
    the policy quantizes all such sums. Not exact: the rounding is dropped too.
    """
    dropped = 0
    # Every round leaves fewer quantizers: one that only DequantizeLinear nodes inside the graph read can always be
    # dropped.
    while idle := [
        node
        for node in graph.nodes
        if is_activation_quantizer(graph, node)
        and _is_inside(graph, node)
        and not _comes_from_int8(graph, node.input[0])
        and not _goes_to_int8(graph, node)
    ]:
        for node in idle:
            for dq in graph.consumers[node.output[0]]:
                graph.replace_input(dq.output[0], node.input[0], graph.consumers[dq.output[0]])
        dropped += len(idle)
        graph.drop_dead()
    return dropped


def _is_inside(graph: Graph, quantizer: Any) -> bool:
    """Whether only DequantizeLinear nodes read a quantizer, none of them an output of the graph."""
    readers = graph.consumers[quantizer.output[0]]
    return not graph.outputs & {quantizer.output[0], *(reader.output[0] for reader in readers)} and all(
        reader.op_type == "DequantizeLinear" for reader in readers
    )


def _comes_from_int8(graph: Graph, tensor: str) -> bool:
    """Whether the kernel that writes a tensor computes in INT8, so that a quantizer after it costs nothing."""

    def writes_int8(node: Any) -> bool:
        if node.op_type == "Add":
            return all(_is_dequantized(graph, name) for name in node.input)
        return node.op_type == "DequantizeLinear" or _is_int8_convolution(graph, node)

    return any(map(writes_int8, graph.makers(tensor, lambda node: node.op_type in ("Relu", *MOVERS))))


def _goes_to_int8(graph: Graph, node: Any) -> bool:
    """Whether an INT8 convolution reads a quantizer's output, directly or after sums and moves, also INT8."""
    passing = (*Q_DQ, "Add", "Relu", *MOVERS)
    readers = graph.readers(node.output, lambda reader: reader.op_type in passing)
    return any(_is_int8_convolution(graph, reader) for reader in readers)


def _is_int8_convolution(graph: Graph, node: Any) -> bool:
    return node.op_type == "Conv" and _is_dequantized(graph, node.input[1])


def _is_dequantized(graph: Graph, tensor: str) -> bool:
    node = graph.producer.get(tensor)
    return node is not None and node.op_type == "DequantizeLinear"
