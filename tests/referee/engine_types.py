"""What the builder lists of an engine, asked by the node of the graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from samkr_edge.builder.inspect.builder_listing import listing_of_log
from samkr_edge.builder.inspect.engine_layers import Layer, layers_in, operation_of
from samkr_edge.builder.inspect.myelin import casts_first
from samkr_edge.builder.tensorrt.engine_bytes import SerializedEngine
from samkr_edge.builder.tensorrt.engine_promises import broken_promises, promises_of
from samkr_edge.onnx_graph.onnx_reading import decode_onnx, read_onnx

# The fixture `build`.
Build = Callable[..., SerializedEngine]
LAST = tuple(
    f"/{head}/Conv"
    for head in (
        "heatmap_head/final",
        "offset_head/final",
        "grouping_head/final_low",
        "grouping_head/final_high",
    )
)


def layers_of(engine: SerializedEngine) -> list[Layer]:
    """The engine's layers, out of what its build logged."""
    assert engine.listing is not None
    return layers_in(listing_of_log(engine.listing))


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


def check_types(engine: SerializedEngine, source: Path, precision: str) -> None:
    """The engine holds every convolution of the graph, those meant INT8 or FP8 as such, and FP32 what must be.

    Args:
        precision: of the trunk: ``fp32``, ``fp16``, ``int8`` or ``fp8``.
    """
    types = convolution_types(engine)
    assert types.keys() == nodes_of(source, "Conv")
    assert {kind for node, kind in types.items() if "/backbone/" in node} == {precision}
    if precision in ("int8", "fp8"):
        meant = quantized_convolutions(source)
        assert {node for node, kind in types.items() if kind == precision} == meant
    check_promises(engine, source)


def check_promises(engine: SerializedEngine, source: Path) -> None:
    """The engine holds as INT8, FP8 or FP32 what the graph that was parsed says, and FP32 what must be."""
    promises = promises_of(decode_onnx(engine.parsed))
    assert not broken_promises(layers_of(engine), promises)
    check_full_precision(engine, source)


def check_full_precision(engine: SerializedEngine, source: Path) -> None:
    """What loses joints in fewer bits is FP32: the softmax, the grid that is sampled at, the last convolutions."""
    found = set()
    for layer in layers_of(engine):
        operations = {operation_of(node) for node in layer.nodes}
        outputs = {tensor.dtype for tensor in layer.outputs}
        if "Softmax" in operations:
            found.add("Softmax")
            # Its weights are (N, branches, H * W) and sums of them; a map (N, C, H, W) is what they are applied to.
            read = {one.dtype for one in layer.inputs if len(one.shape) == 3}
            assert outputs == {"fp32"}, layer
            assert read <= {"fp32"} or casts_first(layer.name), layer
        if "GridSample" in operations:
            found.add("GridSample")
            # (N, H, W, 2); the map that is sampled is (N, C, H, W).
            assert {one.dtype for one in layer.inputs if one.shape[-1] == 2} == {"fp32"}, layer
        if layer.role == "conv" and (last := [node for node in layer.nodes if node.endswith(LAST)]):
            found.update(last)
            # Where the policy has it quantized it is INT8, and writes FP32 all the same.
            inputs = {tensor.dtype for tensor in layer.inputs}
            kinds = {"int8"} if set(last) <= quantized_convolutions(source) else {"fp32"}
            assert {layer.precision} | inputs == kinds, layer
            assert outputs == {"fp32"}, layer
    graph = {node.op_type for node in read_onnx(source).nodes}
    last = {node for node in nodes_of(source, "Conv") if node.endswith(LAST)}
    assert len(last) == 2
    assert found == last | ({"Softmax", "GridSample"} & graph)
