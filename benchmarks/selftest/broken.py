"""Broken variants of the carried networks and engines, which a build or runtime must refuse; without package onnx."""

from __future__ import annotations

import hashlib
from pathlib import Path

from samkr_edge.onnx_graph.onnx_file import make_node
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from samkr_edge.passport import passport_path, read_passport, write_passport


def at_opset_20(source: Path, out: Path) -> Path:
    """The network as an exporter of opset 20 writes it: TensorRT then samples at the nearest pixel, silently."""
    model = read_onnx(source)
    model.set_opset(20)
    model.nodes = [
        node.copy(node.name, node.inputs, node.outputs, mode="linear")
        if node.op_type == "GridSample"
        else node
        for node in model.nodes
    ]
    out.write_bytes(model.encode())
    return out


def with_unknown_operator(source: Path, out: Path) -> Path:
    """The network with an unknown operator instead of its first ReLU."""
    model = read_onnx(source)
    place, relu = next((place, node) for place, node in enumerate(model.nodes) if node.op_type == "Relu")
    model.nodes[place] = make_node("Frobnicate", relu.inputs, relu.outputs)
    out.write_bytes(model.encode())
    return out


def cut_engine(engine: Path, out: Path) -> Path:
    """Half of an engine, with the passport of the whole."""
    data = engine.read_bytes()
    out.write_bytes(data[: len(data) // 2])
    passport_path(out).write_bytes(passport_path(engine).read_bytes())
    return out


def cut_engine_that_is_vouched_for(engine: Path, out: Path) -> Path:
    """Half of an engine with a matching passport: only TensorRT can notice."""
    cut_engine(engine, out)
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    write_passport(out, read_passport(out).model_copy(update={"sha256": digest}))
    return out
