"""An ONNX file read and edited as what it is, a protobuf message, without the onnx package.

A device has numpy and TensorRT; installing onnx there only to look at a graph and to move a handful of nodes would be
a burden. Fields that nobody asks about are kept as the bytes they were. Field numbers: onnx.proto, the same since
ONNX 1.0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from samkr_edge.errors import SamkrError, words_of
from samkr_edge.files.named import NO_FILE, missing_file
from samkr_edge.fixes import quoted
from samkr_edge.onnx_graph.protobuf import (
    block_field,
    fields,
    last_values,
    message_of,
    number_field,
    raw_fields,
    repeated_integers,
    signed,
    string,
    text_field,
)

FLOAT, UINT8, INT8, UINT16, INT16, INT32, INT64, FLOAT16, FP8 = 1, 2, 3, 4, 5, 6, 7, 10, 17
DTYPES: dict[int, Any] = {
    FLOAT: np.float32, UINT8: np.uint8, INT8: np.int8, INT32: np.int32, INT64: np.int64, FLOAT16: np.float16,
}  # fmt: skip
# TensorProto fields that hold values where raw_data does not.
_FLOATS, _INT32S, _INT64S = 4, 5, 7


@dataclass
class Node:
    """One operation; ``rest`` holds all fields but inputs and outputs as they were read."""

    op_type: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    rest: bytes
    domain: str = ""  # ONNX's own

    def encode(self) -> bytes:
        inputs = b"".join(text_field(1, name) for name in self.inputs)
        return inputs + b"".join(text_field(2, name) for name in self.outputs) + self.rest

    def copy(self, name: str, inputs: list[str], outputs: list[str], **changed: int | str) -> Node:
        """The same operation under another name, elsewhere in the graph; ``changed`` attributes are replaced."""
        kept = []
        for number, _, value, raw in raw_fields(memoryview(self.rest)):
            if number != 3 and not (number == 5 and _attribute(value)[0] in changed):
                kept.append(bytes(raw))
        rest = b"".join([*kept, text_field(3, name), *(_encode_attribute(*one) for one in changed.items())])
        return Node(self.op_type, name, inputs, outputs, {**self.attributes, **changed}, rest, self.domain)


@dataclass
class Value:
    """A graph input or output: element type and shape; None for a dimension that is not fixed."""

    name: str
    elem_type: int
    shape: tuple[int | None, ...]

    def encode(self) -> bytes:
        """Only for static shapes, and for dimensions whose name does not matter."""
        dims = b"".join(
            block_field(
                1, number_field(1, size) if size is not None else text_field(2, f"{self.name}_{axis}")
            )
            for axis, size in enumerate(self.shape)
        )
        tensor = number_field(1, self.elem_type) + block_field(2, dims)
        return text_field(1, self.name) + block_field(2, block_field(1, tensor))


@dataclass
class Tensor:
    """An initializer or the value of a Constant, decoded when asked for."""

    name: str
    data_type: int
    dims: tuple[int, ...]
    message: memoryview

    def array(self) -> np.ndarray | None:
        """The values, of any shape; None for a type that does not matter here, or values kept in another file."""
        dtype = DTYPES.get(self.data_type)
        if dtype is None:
            return None
        listed: list[Any] = []
        for number, kind, value in fields(self.message):
            if number == 9:  # raw_data, little-endian
                return np.frombuffer(value, dtype).reshape(self.dims)
            if number == _FLOATS:
                listed.append(np.frombuffer(value, np.float32))
            elif number in (_INT32S, _INT64S):
                listed.append(np.array([signed(v) for v in repeated_integers(kind, value)]))
        if not listed:
            return np.zeros(self.dims, dtype) if 0 in self.dims else None
        values = np.concatenate(listed)
        if self.data_type == FLOAT16:  # float16 bits are stored as integers
            return values.astype(np.uint16).view(np.float16).reshape(self.dims)
        return values.astype(dtype).reshape(self.dims)


@dataclass
class OnnxFile:
    """A model: nodes and graph inputs may be changed, then ``encode``."""

    nodes: list[Node]
    tensors: dict[str, Tensor]
    inputs: list[Value]
    outputs: list[Value]
    opset: int
    metadata: dict[str, str]
    # The other fields of the graph and of the model, as read.
    graph_rest: list[bytes] = field(default_factory=list)
    model_rest: list[bytes] = field(default_factory=list)
    # Of the file that it was read from, however it was changed since; empty where there is no file.
    sha256: str = ""

    def copy(self) -> OnnxFile:
        """A model to edit while this one stays; what nobody edits, weights above all, is shared."""
        nodes = [replace(node, inputs=[*node.inputs], outputs=[*node.outputs]) for node in self.nodes]
        return replace(
            self,
            nodes=nodes,
            tensors={**self.tensors},
            inputs=[replace(value) for value in self.inputs],
            outputs=[*self.outputs],
            metadata={**self.metadata},
            graph_rest=[*self.graph_rest],
            model_rest=[*self.model_rest],
        )

    def encode(self) -> bytes:
        """The model's bytes."""
        graph = b"".join(
            [
                *(block_field(1, node.encode()) for node in self.nodes),
                *self.graph_rest,
                *(block_field(11, value.encode()) for value in self.inputs),
            ]
        )
        return b"".join([*self.model_rest, block_field(7, graph)])

    def add_output(self, value: Value) -> None:
        """One more output; a tensor of that name is inside the graph."""
        self.outputs.append(value)
        self.graph_rest.append(block_field(12, value.encode()))

    def add_tensor(self, name: str, values: np.ndarray) -> None:
        """One more initializer, of any shape and a type in ``DTYPES``; nothing else of the graph has its name."""
        message = _encode_tensor(name, values)
        self.tensors[name] = _tensor(memoryview(message))
        self.graph_rest.append(block_field(5, message))

    def put(self, values: Mapping[str, np.ndarray]) -> None:
        """Give initializers other values, of any shape, and of a type in ``DTYPES``."""
        for index, raw in enumerate(self.graph_rest):
            ((number, _, message),) = fields(memoryview(raw))
            name = _tensor(message).name if number == 5 else None
            if name is not None and name in values:
                self.graph_rest[index] = block_field(5, _encode_tensor(name, values[name]))
                self.tensors[name] = _tensor(memoryview(_encode_tensor(name, values[name])))

    def set_opset(self, opset: int) -> None:
        """Say that the nodes are of another opset of the default domain, without changing them."""
        self.opset = opset
        self.model_rest = [
            block_field(8, number_field(2, opset)) if _is_default_domain(raw) else raw
            for raw in self.model_rest
        ]

    def drop_metadata(self, key: str) -> None:
        """Remove an entry of the metadata, so that ``with_metadata`` can write another: a key is there once."""
        if self.metadata.pop(key, None) is not None:
            self.model_rest = [raw for raw in self.model_rest if not _is_entry(raw, key)]


def make_node(op_type: str, inputs: list[str], outputs: list[str], **attributes: int | str) -> Node:
    """A node of the default domain, called like its first output."""
    rest = [
        text_field(3, outputs[0]),
        text_field(4, op_type),
        *(_encode_attribute(*one) for one in attributes.items()),
    ]
    return Node(op_type, outputs[0], inputs, outputs, dict(attributes), b"".join(rest))


def with_metadata(data: bytes, key: str, value: str) -> bytes:
    """A serialized model with one more entry of metadata; after the others, as a repeated field may lie."""
    return data + block_field(14, block_field(1, key.encode()) + block_field(2, value.encode()))


class WeightsElsewhere(ValueError):
    """A tensor's values are in a file beside the model."""


def weights_elsewhere(path: str | Path, error: WeightsElsewhere) -> SamkrError:
    """SE-A26: a model in two files; no hash, copy, bundle or engine of the one holds what is in the other."""
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
    """The bytes of an ONNX file: read once, so that what is built and what is hashed are the same.

    Raises:
        SamkrError: SE-A23 there is no such file, SE-B87 it cannot be read.
    """
    try:
        return path.read_bytes()
    except NO_FILE as error:
        raise missing_file(path, "ONNX file") from error
    except OSError as error:
        raise _unusable(
            f"{path} cannot be read", {"reason": error.strerror or error}, f"ls -l {quoted(path)}"
        ) from error


def decoded(data: bytes, path: Path) -> OnnxFile:
    """The model in the bytes of ``path``; raises SamkrError SE-B87 cut off or not ONNX, SE-A26 in two files."""
    try:
        return decode_onnx(data)
    except WeightsElsewhere as error:
        raise weights_elsewhere(path, error) from error
    except ValueError as error:
        raise not_whole(path, data, error) from error


def not_whole(path: Path, data: bytes, error: Exception) -> SamkrError:
    """SE-B87: the bytes of ``path`` are no ONNX model, or a part of one."""
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
        ValueError: they are no whole ONNX model; ``WeightsElsewhere`` where only its values are missing.
    """
    try:
        return _decode(data)
    except (IndexError, KeyError, TypeError, OverflowError) as error:  # what random bytes lead to
        raise ValueError(f"it is damaged ({type(error).__name__})") from error


def _decode(data: bytes) -> OnnxFile:
    graph: memoryview | None = None
    opset, metadata, rest = 0, {}, []
    for number, kind, value, raw in raw_fields(memoryview(data)):
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
    for number, kind, value, raw in raw_fields(graph):
        if number == 1:
            model.nodes.append(_node(message_of(kind, value)))
        elif number == 11:
            model.inputs.append(_value(value))
        elif number != 13:  # value_info: types of inner tensors, stale after an edit
            model.graph_rest.append(bytes(raw))
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


def _node(message: memoryview) -> Node:
    node = Node("", "", [], [], {}, b"")
    rest = []
    for number, kind, value, raw in raw_fields(message):
        if number == 1:
            node.inputs.append(string(value))
        elif number == 2:
            node.outputs.append(string(value))
        else:
            rest.append(bytes(raw))
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


def _attribute(message: memoryview) -> tuple[str, Any]:
    """Name and value of an attribute: integer, text, tensor or integers; None for what is never asked about."""
    name = ""
    found: Any = None
    integers: list[int] = []
    for number, kind, value in fields(message):
        if number == 1:
            name = string(value)
        elif number == 3:
            found = signed(value)
        elif number == 4:
            found = bytes(value).decode("utf-8", "replace")
        elif number == 5:
            found = _tensor(value)
        elif number == 8:
            integers += [signed(v) for v in repeated_integers(kind, value)]
    return name, integers or found


def _encode_attribute(name: str, value: int | str) -> bytes:
    # AttributeProto: name, integer or text, and which of them it is.
    held = (
        number_field(3, value) + number_field(20, 2)
        if isinstance(value, int)
        else text_field(4, value) + number_field(20, 3)
    )
    return block_field(5, text_field(1, name) + held)


def _tensor(message: memoryview) -> Tensor:
    tensor = Tensor("", 0, (), message)
    dims: list[int] = []
    held: int | None = None
    for number, kind, value in fields(message):
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


def _encode_tensor(name: str, values: np.ndarray) -> bytes:
    data_type = next(number for number, dtype in DTYPES.items() if values.dtype == dtype)
    dims = b"".join(number_field(1, size) for size in values.shape)
    little_endian = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return dims + number_field(2, data_type) + text_field(8, name) + block_field(9, little_endian.tobytes())


def _is_default_domain(raw: bytes) -> bool:
    """Whether a field of the model is the opset of ONNX's own operators."""
    ((number, _, value),) = fields(memoryview(raw))
    return number == 8 and not string(last_values(value).get(1))


def _is_entry(raw: bytes, key: str) -> bool:
    """Whether a field of the model is the entry of metadata with this key."""
    ((number, _, value),) = fields(memoryview(raw))
    return number == 14 and string(last_values(value).get(1)) == key


def _value(message: memoryview) -> Value:
    entry = last_values(message)
    tensor = last_values(last_values(entry[2])[1])
    shape: list[int | None] = []
    for number, _, dimension in fields(tensor.get(2, memoryview(b""))):
        if number == 1:
            size = last_values(dimension).get(1)
            shape.append(None if size is None else int(size))
    return Value(string(entry[1]), int(tensor[1]), tuple(shape))
