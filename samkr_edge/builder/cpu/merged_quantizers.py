"""One quantizer for each tensor, whoever reads it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from samkr_edge.builder.cpu.quantizer_nodes import is_activation_quantizer
from samkr_edge.onnx_graph.graph import Graph


def merge_quantizers(graph: Graph) -> int:
    """Let all readers of a tensor read the same Q/DQ pair; returns how many pairs were dropped.

        t -> Q(s) -> DQ -> Conv, t -> Q(S) -> DQ -> Add, t -> Mul    =>    t -> Q(S) -> DQ -> Conv, Add, Mul    (S >= s)

    Faster: a convolution and the skip of a residual sum quantize the same tensor, and ONNX Runtime fuses only if both
    read the same pair. Float readers read the quantized value too, so that the tensor's kernel writes INT8 once,
    without a float copy. Exact if all readers were quantized with one scale. Not exact for readers that were float,
    or if scales differ: the largest is used, so that nothing clips.
    """
    merged = 0
    by_tensor: dict[str, list[Any]] = defaultdict(list)
    for node in graph.nodes:
        if is_activation_quantizer(graph, node):
            by_tensor[node.input[0]].append(node)
    for tensor, quantizers in by_tensor.items():
        keep = max(quantizers, key=lambda q: float(graph.constants[q.input[1]]))
        (restored,) = (dq.output[0] for dq in graph.consumers[keep.output[0]][:1])
        for other in quantizers:
            if other is keep:
                continue
            for dq in graph.consumers[other.output[0]]:
                graph.replace_input(dq.output[0], restored, graph.consumers[dq.output[0]])
            merged += 1
        # A Shape reads only sizes, which are the float tensor's.
        readers = [n for n in graph.consumers[tensor] if n.op_type not in ("QuantizeLinear", "Shape")]
        if tensor not in graph.outputs:
            graph.replace_input(tensor, restored, readers)
        graph.index()
    graph.drop_dead()
    return merged
