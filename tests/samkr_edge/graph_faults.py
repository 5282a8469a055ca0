"""Faults that runtimes have been seen to have, made in a graph: ONNX Runtime then computes what such a one would."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from samkr_edge.onnx_graph.onnx_file import FLOAT, FLOAT16, OnnxFile, make_node
from samkr_edge.onnx_graph.onnx_reading import decode_onnx


def nearest(model: OnnxFile) -> None:
    for index, node in enumerate(model.nodes):
        if node.op_type == "GridSample":
            model.nodes[index] = node.copy(node.name, node.inputs, node.outputs, mode="nearest")


def half_grid(model: OnnxFile) -> None:
    for node in [node for node in model.nodes if node.op_type == "GridSample"]:
        grid = node.inputs[1]
        node.inputs[1] = f"{grid}_back"
        _in_half(model, grid, f"{grid}_back", before=model.nodes.index(node))


def half_offsets(model: OnnxFile) -> None:
    """The last convolution of the offsets gives FP16."""
    (last,) = (node for node in model.nodes if node.op_type == "Conv" and "offset_head/final" in node.name)
    wide, last.outputs = last.outputs[0], [f"{last.outputs[0]}_wide"]
    _in_half(model, last.outputs[0], wide, before=model.nodes.index(last) + 1)


def no_mean(model: OnnxFile) -> None:
    """The mean is not subtracted from the image."""
    subtract = next(node for node in model.nodes if node.op_type == "Sub")
    for node in model.nodes:
        node.inputs = [subtract.inputs[0] if name in subtract.outputs else name for name in node.inputs]


def broken(graph: bytes, fault: Callable[[OnnxFile], None]) -> OnnxFile:
    model = decode_onnx(graph)
    fault(model)
    return model


def swapped(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images[..., ::-1])


def _in_half(model: OnnxFile, source: str, to: str, before: int) -> None:
    model.nodes[before:before] = [
        make_node("Cast", [source], [f"{to}_half"], to=FLOAT16),
        make_node("Cast", [f"{to}_half"], [to], to=FLOAT),
    ]
