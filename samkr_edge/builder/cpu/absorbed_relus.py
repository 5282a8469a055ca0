"""ReLUs that their quantizers make redundant."""

from __future__ import annotations

import numpy as np

from samkr_edge.onnx_graph.graph import Graph


def absorb_relus(graph: Graph) -> int:
    """Drop the ReLUs that only quantizers with zero point 0 read; returns how many.

        Conv -> Relu -> Q(uint8 0)    =>    Conv -> Q(uint8 0)

    Faster: between a convolution or a sum and its quantizer ONNX Runtime fuses nothing else into its INT8 kernels.
    Exact: such a quantizer clips to 0 what the ReLU sets to 0.
    """
    absorbed = 0
    for node in list(graph.nodes):
        if node.op_type != "Relu" or node.output[0] in graph.outputs:
            continue
        readers = graph.consumers[node.output[0]]
        if readers and all(
            r.op_type == "QuantizeLinear"
            and graph.constants[r.input[2]] == 0
            and graph.constants[r.input[2]].dtype == np.uint8
            for r in readers
        ):
            graph.replace_input(node.output[0], node.input[0], readers)
            graph.nodes.remove(node)
            graph.index()
            absorbed += 1
    return absorbed
