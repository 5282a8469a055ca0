"""Partial sums in INT8."""

from __future__ import annotations

import numpy as np

from samkr_edge.onnx_graph.graph import Graph

# Operations between a partial sum and what reads the whole one.
_ON_THE_WAY = ("Add", "Resize", "Relu", "QuantizeLinear", "DequantizeLinear")


def quantize_intermediate_sums(graph: Graph) -> int:
    """Quantize the partial sums of a sum of three or four maps; returns how many.

        Add(DQ a, DQ b) -> Add(., DQ c) -> Q    =>    Add(DQ a, DQ b) -> Q -> DQ -> Add(., DQ c) -> Q

    Faster: ONNX Runtime adds in INT8 only if both inputs and the output are quantized. A partial sum that is enlarged
    before it is added is quantized before and after the enlarging. Not exact: its range is the sum of its inputs'
    ranges, so that nothing clips, which costs the partial sum up to one bit of resolution. Where a float convolution
    reads the sum, it is there for precision, as with tags: its partial sums stay as they are.
    """
    quantized = 0
    for node in list(graph.nodes):
        if node.op_type not in ("Add", "Resize"):
            continue
        inputs = node.input if node.op_type == "Add" else node.input[:1]
        ranges = [_range_of(graph, name) for name in inputs]
        readers = graph.consumers[node.output[0]]
        partial = len(readers) == 1 and readers[0].op_type in ("Add", "Resize")
        if None in ranges or not partial or _read_in_float(graph, node.output[0]):
            continue
        scale = np.float32(sum(r for r in ranges if r is not None) / 127)
        _, dq = graph.add_pair(node.output[0], scale, np.int8(0))
        graph.replace_input(node.output[0], dq.output[0], readers)
        graph.index()  # the next sum must find this one quantized
        quantized += node.op_type == "Add"
    return quantized


def _read_in_float(graph: Graph, tensor: str) -> bool:
    """Whether a convolution with float weights reads what a sum comes to."""
    waiting, seen = [tensor], {tensor}
    while waiting:
        for reader in graph.consumers[waiting.pop()]:
            if reader.op_type == "Conv":
                weight = graph.producer.get(reader.input[1])
                if weight is None or weight.op_type != "DequantizeLinear":
                    return True
            elif reader.op_type in _ON_THE_WAY:
                waiting += [name for name in reader.output if name not in seen]
                seen.update(reader.output)
    return False


def _range_of(graph: Graph, tensor: str) -> float | None:
    """amax of a dequantized tensor; None for a float one."""
    node = graph.producer.get(tensor)
    if node is None or node.op_type != "DequantizeLinear" or node.input[1] not in graph.constants:
        return None
    scale = graph.constants[node.input[1]]
    return float(scale) * 127 if scale.ndim == 0 else None
