"""Convolutions with few outputs as transposed ones: the same numbers, without computing unused outputs.

ONNX Runtime computes a float convolution's outputs 16 at a time (AVX-512), on maps that it reorders for that: for six
affine parameters, ten more outputs are computed and thrown away. A transposed convolution multiplies the map in its own
layout by the kernel, in one matrix product with a row for every output and tap, and sums the products at their pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from samkr_edge.onnx_graph.graph import Graph, attributes

# Half of the 16. With more outputs, little is thrown away, and a chain of convolutions stays in the reordered layout.
MOST_OUTPUTS = 8


def transpose_thin_convolutions(graph: Graph) -> int:
    """Rewrite every float convolution from many channels to few; returns how many.

        Conv(w: M of C channels, M <= 8, pads p)    =>    ConvTranspose(w turned around, pads (k - 1) d - p)

    Faster: the convolution kernel always computes 16 outputs, the matrix product only as many as there are. Exact but
    for the order of sums.

    Those with strides or groups stay; once an offset head's branches are split, its thin convolutions have neither.
    """
    found = 0
    for index, node in enumerate(graph.nodes):
        kernel = graph.constants.get(node.input[1]) if node.op_type == "Conv" else None
        if kernel is None or len(kernel) > min(MOST_OUTPUTS, kernel.shape[1] // 2):
            continue
        given = attributes(node)
        pads = _pads(given, kernel.shape[2:])
        if pads is None:
            continue
        # What output p gathers from input p + g, a transposed convolution scatters from input p to output p - g.
        turned = np.flip(kernel.swapaxes(0, 1), tuple(range(2, kernel.ndim)))
        graph.nodes[index] = graph.onnx.helper.make_node(
            "ConvTranspose",
            [node.input[0], graph.constant(turned, "turned_kernel"), *node.input[2:]],
            list(node.output),
            name=node.name,
            kernel_shape=kernel.shape[2:],
            dilations=given.get("dilations"),
            pads=pads,
        )
        found += 1
    graph.index()
    return found


def _pads(given: dict[str, Any], sizes: tuple[int, ...]) -> list[int] | None:
    """The pads that keep the map's size in the transposed convolution; None if it cannot be one."""
    strided = any(stride != 1 for stride in given.get("strides", ()))
    if strided or given.get("group", 1) != 1 or given.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    ones = [1] * len(sizes)
    spans = [(n - 1) * d for n, d in zip(sizes, given.get("dilations", ones), strict=True)]
    pads = [span - pad for span, pad in zip(spans * 2, given.get("pads", [0] * 2 * len(sizes)), strict=True)]
    return pads if min(pads) >= 0 else None
