"""One quantizer for each tensor, whoever reads it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from samkr_edge.builder.cpu.quantizer_nodes import is_activation_quantizer
from samkr_edge.onnx_graph.graph import Graph


def merge_quantizers(graph: Graph) -> int:
    """Let every reader of a tensor read one Q/DQ pair; returns how many pairs went.

        t -> Q(s) -> DQ -> Conv, t -> Q(S) -> DQ -> Add, t -> Mul    =>    t -> Q(S) -> DQ -> Conv, Add, Mul    (S >= s)

    Faster: a convolution and the skip of a residual sum quantize the same tensor, and ONNX Runtime fuses only where
    both read one pair. A reader that was to stay float reads the quantized value too: the tensor's kernel then writes
    INT8 once, and nothing keeps a float copy. Exact where all readers were quantized with one scale; not where scales
    differ, of which the largest is taken so that nothing clips, nor for readers that were float.
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
        # A Shape reads sizes, which are those of the float tensor too.
        readers = [n for n in graph.consumers[tensor] if n.op_type not in ("QuantizeLinear", "Shape")]
        if tensor not in graph.outputs:
            graph.replace_input(tensor, restored, readers)
        graph.index()
    graph.drop_dead()
    return merged
