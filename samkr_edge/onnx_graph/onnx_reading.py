"""Decode an ONNX file without the onnx package; the errors for one that cannot be read, is truncated, or keeps its
weights elsewhere.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from samkr_edge.errors import SamkrError, words_of
from samkr_edge.files.refused import not_opened, refusal
from samkr_edge.fixes import quoted
from samkr_edge.onnx_graph.onnx_file import DTYPES, Node, OnnxFile, Tensor, Value
from samkr_edge.onnx_graph.protobuf import (
    Buffer,
    fields,
    last_values,
    message_of,
    repeated_integers,
    signed,
    string,
)
from samkr_edge.ready_name import export_instead


class WeightsElsewhere(ValueError):
    """A tensor's values are in a file next to the model."""


def weights_elsewhere(path: str | Path, error: WeightsElsewhere) -> SamkrError:
    """SE-A26: a model in two files; a hash, copy, bundle or engine of one would lack the other."""
    path = Path(path)
    joined = path.with_name(f"{path.stem}.whole.onnx")
    return SamkrError(
        "SE-A26",
        f"{path} keeps weights in another file, so it was not used",
        {"first": error, "expected": "one file: what is copied and hashed is then the whole model"},
        fix='python -c "import sys, onnx; onnx.save(onnx.load(sys.argv[1]), sys.argv[2])" '
        f"{quoted(path)} {quoted(joined)}",
    )


def read_onnx(path: Path) -> OnnxFile:
    """Read an ONNX file.

    Raises:
        SamkrError: SE-A23 missing, SE-B87 not readable, cut off, or not ONNX, SE-A26 its weights lie in another file.
    """
    data = read_bytes(path)
    return replace(decoded(data, path), sha256=hashlib.sha256(data).hexdigest())


def read_bytes(path: Path) -> bytes:
    """The bytes of an ONNX file, read once, so that the built and the hashed bytes are the same.

    Raises:
        SamkrError: SE-A23 there is no such file, SE-D04 the system refuses it.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise not_opened(error, path, "ONNX file", export_instead(path)) or refusal(error) from error


def decoded(data: bytes, path: Path) -> OnnxFile:
    """The model in the bytes of ``path``; raises SamkrError SE-B87 cut off or not ONNX, SE-A26 in two files."""
    try:
        return decode_onnx(data)
    except WeightsElsewhere as error:
        raise weights_elsewhere(path, error) from error
    except ValueError as error:
        raise not_whole(path, data, error) from error


def not_whole(path: Path, data: bytes, error: Exception) -> SamkrError:
    """SE-B87: the bytes of ``path`` are not an ONNX model, or only part of one."""
    size = f"{len(data)} bytes"
    if path.suffix in (".pt", ".pth"):
        return _unusable(
            f"{path} is a checkpoint by its name, but an ONNX model was expected",
            {"size": size},
            f"samkr-edge export {quoted(path)} -o {quoted(f'{path.stem}.onnx')}",
        )
    return _unusable(
        f"{path} is not a complete ONNX model",
        {"reason": words_of(error), "size": size},
        "export it again: samkr-edge export CHECKPOINT -o model.onnx",
    )


def _unusable(what: str, facts: dict[str, object], fix: str) -> SamkrError:
    return SamkrError("SE-B87", f"{what}, so nothing was done", facts, fix=fix)


def decode_onnx(data: bytes) -> OnnxFile:
    """Bytes -> model.

    Raises:
        ValueError: not a complete ONNX model; ``WeightsElsewhere`` if only its values are missing.
    """
    try:
        return _decode(data)
    except (IndexError, KeyError, TypeError, OverflowError) as error:  # what random bytes can raise
        raise ValueError(f"it is damaged ({type(error).__name__})") from error


def _decode(data: bytes) -> OnnxFile:
    graph: Buffer | None = None
    opset, metadata, rest = 0, {}, []
    whole, start = memoryview(data), 0
    for number, kind, value, end in fields(whole):
        raw, start = whole[start:end], end
        if number == 7:
            graph = message_of(kind, value)
            continue
        rest.append(bytes(raw))
        if number == 8:
            entry = last_values(value)
            if not string(entry.get(1)):  # the default domain
                opset = int(entry[2])
        elif number == 14:
            entry = last_values(value)
            metadata[string(entry.get(1))] = string(entry.get(2))
    if graph is None or not opset:
        raise ValueError("it holds no graph" if graph is None else "it names no opset")
    model = OnnxFile([], {}, [], [], opset, metadata, [], rest)
    start = 0
    for number, kind, value, end in fields(graph):
        field, start = graph[start:end], end
        if number == 1:
            model.nodes.append(_node(bytes(message_of(kind, value))))
        elif number == 11:
            model.inputs.append(_value(value))
        elif number != 13:  # value_info: types of inner tensors, stale after an edit
            model.graph_rest.append(bytes(field))
            if number == 5:
                tensor = _tensor(value)
                model.tensors[tensor.name] = tensor
            elif number == 12:
                model.outputs.append(_value(value))
    if not model.nodes or not model.outputs:
        raise ValueError("its graph is empty")
    for node in model.nodes:
        if node.op_type == "Constant" and isinstance(node.attributes.get("value"), Tensor):
            model.tensors[node.outputs[0]] = node.attributes["value"]
    # Old exporters list the weights among the inputs.
    model.inputs = [value for value in model.inputs if value.name not in model.tensors]
    return model


def _node(message: bytes) -> Node:
    node = Node("", "", [], [], {}, b"")
    rest, start = [], 0
    for number, kind, value, end in fields(message):
        raw, start = message[start:end], end
        if number == 1:
            node.inputs.append(string(value))
        elif number == 2:
            node.outputs.append(string(value))
        else:
            rest.append(raw)
            if number == 3:
                node.name = string(value)
            elif number == 4:
                node.op_type = string(value)
            elif number == 5:
                name, found = _attribute(message_of(kind, value))
                node.attributes[name] = found
            elif number == 7 and (domain := string(value)) != "ai.onnx":  # the default's long name
                node.domain = domain
    node.rest = b"".join(rest)
    return node


def _attribute(message: Buffer) -> tuple[str, Any]:
    """Name and value of an attribute: integer, text, tensor or integers; None for other types."""
    name = ""
    found: Any = None
    integers: list[int] = []
    for number, kind, value, _ in fields(message):
        if number == 1:
            name = string(value)
        elif number == 3:
            found = signed(value)
        elif number == 4:
            found = str(value, "utf-8", "replace")
        elif number == 5:
            found = _tensor(value)
        elif number == 8:
            integers += [signed(v) for v in repeated_integers(kind, value)]
    return name, integers or found


def _tensor(message: Buffer) -> Tensor:
    tensor = Tensor("", 0, (), memoryview(message))
    dims: list[int] = []
    held: int | None = None
    for number, kind, value, _ in fields(message):
        if number == 1:
            dims += repeated_integers(kind, value)
        elif number == 2:
            tensor.data_type = value
        elif number == 8:
            tensor.name = string(value)
        elif number == 9:
            held = len(value)
        elif number == 14 and value == 1:
            raise WeightsElsewhere(tensor.name or "a constant")
    tensor.dims = tuple(dims)
    dtype = DTYPES.get(tensor.data_type)
    if dtype is not None and held not in (None, prod(dims) * np.dtype(dtype).itemsize):
        raise ValueError(f"{tensor.name or 'a constant'} holds {held} bytes, and its shape is {tensor.dims}")
    return tensor


def _value(message: Buffer) -> Value:
    entry = last_values(message)
    tensor = last_values(last_values(entry[2])[1])
    shape: list[int | None] = []
    for number, _, dimension, _ in fields(tensor.get(2, memoryview(b""))):
        if number == 1:
            size = last_values(dimension).get(1)
            shape.append(None if size is None else int(size))
    return Value(string(entry[1]), int(tensor[1]), tuple(shape))
