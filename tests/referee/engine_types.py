"""What the builder lists of an engine, asked by the node of the graph."""

from __future__ import annotations

import json
from pathlib import Path

from samkr_edge.build.builder_listing import listing_of_log
from samkr_edge.build.engine_bytes import SerializedEngine
from samkr_edge.build.engine_layers import Layer, parse_layers
from samkr_edge.build.onnx_file import read_onnx


def layers_of(engine: SerializedEngine) -> list[Layer]:
    """The engine's layers, out of what its build logged."""
    assert engine.listing is not None
    return parse_layers(json.dumps(listing_of_log(engine.listing)))


def nodes_of(source: Path, *operations: str) -> set[str]:
    """Names of the graph's nodes of these operations."""
    return {node.name for node in read_onnx(source).nodes if node.op_type in operations}


def convolution_types(engine: SerializedEngine) -> dict[str, str]:
    """Node of a convolution -> the type of its weights in the engine."""
    return {
        node: layer.precision
        for layer in layers_of(engine)
        if layer.role == "conv"
        for node in layer.nodes
        if node.endswith("Conv")
    }
