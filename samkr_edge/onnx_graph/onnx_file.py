"""An ONNX file edited and written as a protobuf message, without the onnx package; `onnx_reading` reads it.

A device has NumPy and TensorRT; it should not need onnx just to read a graph and move a few nodes. Other fields are
kept as their original bytes. Field numbers: onnx.proto, the same since ONNX 1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from samkr_edge.onnx_graph.protobuf import (
    block_field,
    fields,
    last_values,
    number_field,
    repeated_integers,
    signed,
    string,
    text_field,
)

FLOAT, UINT8, INT8, UINT16, INT16, INT32, INT64, FLOAT16, FP8 = 1, 2, 3, 4, 5, 6, 7, 10, 17
DTYPES: dict[int, Any] = {
    FLOAT: np.float32, UINT8: np.uint8, INT8: np.int8, INT32: np.int32, INT64: np.int64, FLOAT16: np.float16,
}  # fmt: skip
# The operations around what is quantized.
Q_DQ = ("QuantizeLinear", "DequantizeLinear")
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
        kept, start = [], 0
        for number, _, value, end in fields(self.rest):
            if number != 3 and not (number == 5 and string(last_values(value).get(1)) in changed):
                kept.append(self.rest[start:end])
            start = end
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
        for number, kind, value, _ in fields(self.message):
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
    # Of the file that it was read from, whatever was changed since; empty without a file.
    sha256: str = ""

    def copy(self) -> OnnxFile:
        """A copy to edit; what is not edited, above all weights, is shared."""
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
        self.tensors[name] = _encoded_tensor(name, values)
        self.graph_rest.append(block_field(5, bytes(self.tensors[name].message)))

    def put(self, values: Mapping[str, np.ndarray]) -> None:
        """Give initializers other values, of any shape, and of a type in ``DTYPES``."""
        for index, raw in enumerate(self.graph_rest):
            ((number, _, message, _),) = fields(memoryview(raw))
            name = string(last_values(message).get(8)) if number == 5 else None
            if name is not None and name in values:
                self.tensors[name] = _encoded_tensor(name, values[name])
                self.graph_rest[index] = block_field(5, bytes(self.tensors[name].message))

    def set_opset(self, opset: int) -> None:
        """Declare another opset of the default domain, without changing the nodes."""
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
    """A node of the default domain, named after its first output."""
    rest = [
        text_field(3, outputs[0]),
        text_field(4, op_type),
        *(_encode_attribute(*one) for one in attributes.items()),
    ]
    return Node(op_type, outputs[0], inputs, outputs, dict(attributes), b"".join(rest))


def with_metadata(data: bytes, key: str, value: str) -> bytes:
    """A serialized model with one more entry of metadata, appended, which protobuf allows for repeated fields."""
    return data + block_field(14, block_field(1, key.encode()) + block_field(2, value.encode()))


def _encode_attribute(name: str, value: int | str) -> bytes:
    # AttributeProto: name, integer or text, and which of them it is.
    held = (
        number_field(3, value) + number_field(20, 2)
        if isinstance(value, int)
        else text_field(4, value) + number_field(20, 3)
    )
    return block_field(5, text_field(1, name) + held)


def _encoded_tensor(name: str, values: np.ndarray) -> Tensor:
    data_type = next(number for number, dtype in DTYPES.items() if values.dtype == dtype)
    dims = b"".join(number_field(1, size) for size in values.shape)
    little_endian = values.astype(values.dtype.newbyteorder("<"), copy=False)
    message = (
        dims + number_field(2, data_type) + text_field(8, name) + block_field(9, little_endian.tobytes())
    )
    return Tensor(name, data_type, values.shape, memoryview(message))


def _is_default_domain(raw: bytes) -> bool:
    """Whether a field of the model is the opset of ONNX's own operators."""
    ((number, _, value, _),) = fields(memoryview(raw))
    return number == 8 and not string(last_values(value).get(1))


def _is_entry(raw: bytes, key: str) -> bool:
    """Whether a field of the model is the entry of metadata with this key."""
    ((number, _, value, _),) = fields(memoryview(raw))
    return number == 14 and string(last_values(value).get(1)) == key
