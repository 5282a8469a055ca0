"""What the builder lists of an engine, asked by the node of the graph."""

from __future__ import annotations

import json
from pathlib import Path

from samkr_edge.build.builder_listing import listing_of_log
from samkr_edge.build.engine_bytes import SerializedEngine
from samkr_edge.build.engine_layers import Layer, operation_of, parse_layers
from samkr_edge.build.onnx_file import read_onnx

LAST = ("/heatmap_head/final/Conv", "/offset_head/final/Conv")


def layers_of(engine: SerializedEngine) -> list[Layer]:
    """The engine's layers, out of what its build logged."""
    assert engine.listing is not None
    return parse_layers(json.dumps(listing_of_log(engine.listing)))


def nodes_of(source: Path, *operations: str) -> set[str]:
    """Names of the graph's nodes of these operations."""
    return {node.name for node in read_onnx(source).nodes if node.op_type in operations}


def quantized_convolutions(source: Path) -> set[str]:
    """Names of the graph's convolutions whose image and weights are both dequantized."""
    nodes = read_onnx(source).nodes
    dequantized = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.outputs}
    return {node.name for node in nodes if node.op_type == "Conv" and set(node.inputs[:2]) <= dequantized}


def convolution_types(engine: SerializedEngine) -> dict[str, str]:
    """Node of a convolution -> the type of its weights in the engine."""
    return {
        node: layer.precision
        for layer in layers_of(engine)
        if layer.role == "conv"
        for node in layer.nodes
        if node.endswith("Conv")
    }


def check_full_precision(engine: SerializedEngine, source: Path) -> None:
    """What loses joints in fewer bits is FP32: the softmax, the grid that is sampled at, the last convolutions."""
    layers = layers_of(engine)
    found = {operation: 0 for operation in ("Softmax", "GridSample", "last")}
    for layer in layers:
        operations = {operation_of(node) for node in layer.nodes}
        inputs, outputs = ([tensor.dtype for tensor in some] for some in (layer.inputs, layer.outputs))
        if "Softmax" in operations:
            found["Softmax"] += 1
            assert {*inputs, *outputs} == {"fp32"}, layer
        if "GridSample" in operations:
            found["GridSample"] += 1
            # Its other input is the map that is sampled: (N, C, H, W).
            assert [tensor.dtype for tensor in layer.inputs if tensor.shape[-1] == 2] == ["fp32"], layer
        if layer.role == "conv" and any(node.endswith(LAST) for node in layer.nodes):
            found["last"] += 1
            assert {layer.precision, *inputs, *outputs} == {"fp32"}, layer
    wanted = {name: len(nodes_of(source, name)) for name in ("Softmax", "GridSample")}
    assert found == {**wanted, "last": 2}
