"""INT8 convolutions with float output, as matrix products: ONNX Runtime has no such convolution.

A convolution runs in INT8 only if its output is quantized too. Otherwise its input is dequantized and it runs in float,
which takes three times as long. A 1x1 convolution is a matrix product over the channels, and ONNX Runtime has an INT8
product with a float result.
"""

from __future__ import annotations

from typing import Any

from samkr_edge.onnx_graph.graph import Graph, attributes
from samkr_edge.onnx_graph.onnx_precision import PRODUCT

# Of ONNX Runtime's own operations.
DOMAIN = "com.microsoft"


def multiply_to_float(graph: Graph) -> int:
    """Rewrite every 1x1 INT8 convolution whose output stays float; returns how many.

        DQ x, DQ w -> Conv 1x1 -> float    =>    Transpose x -> MatMulIntegerToFloat(x, w) -> Transpose -> float

    Faster: the convolution would run in float on dequantized inputs; the product runs in INT8. Exact but for the order
    of sums.

    Activations must already be unsigned, and weights stored as INT8.
    """
    candidates = [(node, *factors) for node in graph.nodes if (factors := _factors(graph, node)) is not None]
    sizes = graph.map_sizes() if candidates else {}
    found = [candidate for candidate in candidates if candidate[0].output[0] in sizes]
    for node, image, weight in found:
        rows, columns = sizes[node.output[0]]
        kernel = graph.constants[weight.input[0]]
        matrix = graph.constant(kernel[:, :, 0, 0].T, "product_weight")
        # Channels last, the layout that ONNX Runtime uses between INT8 convolutions: it cancels this transpose.
        pixels = graph.append("Transpose", [image.input[0]], perm=[0, 2, 3, 1])
        inputs = [pixels, matrix, image.input[1], weight.input[1], image.input[2], ""]
        product = graph.append(PRODUCT, [*inputs, *node.input[2:]], domain=DOMAIN)
        graph.note_shape(product, (graph.batch, rows, columns, len(kernel)))
        graph.nodes.remove(node)
        graph.append("Transpose", [product], list(node.output), perm=[0, 3, 1, 2])
    if found:
        graph.model.opset_import.append(graph.onnx.helper.make_opsetid(DOMAIN, 1))
    graph.index()
    return len(found)


def _factors(graph: Graph, node: Any) -> tuple[Any, Any] | None:
    """The DequantizeLinear nodes of map and weight of a convolution to rewrite; None for any other."""
    if node.op_type != "Conv":
        return None
    readers = graph.consumers[node.output[0]]
    if not readers or any(reader.op_type == "QuantizeLinear" for reader in readers):
        return None
    image, weight = (graph.producer.get(name) for name in node.input[:2])
    if image is None or weight is None or {image.op_type, weight.op_type} != {"DequantizeLinear"}:
        return None
    kernel, zero = (graph.constants.get(weight.input[index]) for index in (0, 2))
    if kernel is None or zero is None or kernel.shape[2:] != (1, 1) or zero.any():
        return None
    given = attributes(node)
    moves = {*given.get("strides", ()), *(1 + pad for pad in given.get("pads", ()))} - {1}
    return None if moves or given.get("group", 1) != 1 else (image, weight)
