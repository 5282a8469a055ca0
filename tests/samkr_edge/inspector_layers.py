"""What a good builder makes of a graph, as the engine inspector words it: convolutions with the sums behind them."""

from __future__ import annotations

import json
from typing import Any

from onnx import NodeProto, TensorProto, load_from_string, shape_inference

TYPES = {TensorProto.FLOAT: "Float", TensorProto.FLOAT16: "Half", TensorProto.INT8: "Int8"}


def layers_json(parsed: bytes) -> str:
    """Of a serialized graph as TensorRT parses it."""
    graph = shape_inference.infer_shapes(load_from_string(parsed)).graph
    values = {v.name: v.type.tensor_type for v in (*graph.value_info, *graph.input, *graph.output)}
    makers = {name: node for node in graph.node for name in node.output}

    def tensor(name: str) -> dict[str, Any]:
        maker = makers.get(name)
        if maker is not None and maker.op_type == "DequantizeLinear":
            kind = "Int8"
        else:
            kind = TYPES.get(values[name].elem_type, "Int32")
        sizes = [size.dim_value for size in values[name].shape.dim]
        return {"Name": name, "Dimensions": sizes, "Format/Datatype": kind}

    fused = {node.name: _sum_behind(node, list(graph.node)) for node in graph.node if node.op_type == "Conv"}
    layers = []
    for node in graph.node:
        if node.op_type in ("Constant", "QuantizeLinear", "DequantizeLinear") or node.name in fused.values():
            continue
        names = [node.name, *filter(None, [fused.get(node.name)])]
        inputs = [name for name in node.input if name in values]
        layers.append(
            {
                "Name": " + ".join(names),
                "LayerType": "CaskConvolution" if node.op_type == "Conv" else node.op_type,
                "Inputs": [tensor(name) for name in (inputs[:1] if node.op_type == "Conv" else inputs)],
                "Outputs": [tensor(name) for name in node.output],
                "ParameterType": "Convolution" if node.op_type == "Conv" else node.op_type,
                "Metadata": "\x1e".join(f"[ONNX Layer: {name}]" for name in names),
            }
        )
    return json.dumps({"Layers": layers})


def _sum_behind(convolution: NodeProto, nodes: list[NodeProto]) -> str | None:
    """The residual sum that a convolution is a term of."""
    return next(
        (
            node.name
            for node in nodes
            if node.op_type == "Add"
            and node.name.endswith("/add/Add")
            and convolution.output[0] in node.input
        ),
        None,
    )
