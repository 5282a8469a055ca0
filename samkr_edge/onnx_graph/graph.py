"""An ONNX graph for passes: look-ups (what makes a tensor, what reads it, what is constant) and edits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np


def integers(node: Any) -> dict[str, int]:
    """The integer attributes of a node by name."""
    return {attribute.name: attribute.i for attribute in node.attribute}


def attributes(node: Any) -> dict[str, Any]:
    """All attributes of a node by name."""
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def opset_of(model: Any) -> int:
    """The version of ONNX's own operations that a ``ModelProto`` is of."""
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


class Graph:
    """Look-ups over an ONNX graph; call ``index`` after changing its nodes."""

    def __init__(self, model: Any) -> None:
        import onnx
        from onnx import numpy_helper

        self.onnx = onnx
        self.model = model
        self.graph = model.graph
        self.constants: dict[str, np.ndarray] = {
            i.name: numpy_helper.to_array(i) for i in self.graph.initializer
        }
        self.nodes: list[Any] = []
        for node in self.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            else:
                self.nodes.append(node)
        self.outputs = {output.name for output in self.graph.output}
        sizes = self.graph.input[0].type.tensor_type.shape.dim
        self.batch = sizes[0].dim_value if sizes else 0
        self.fresh = 0
        # They include names that this class gave in earlier edits.
        self.taken = {*self.constants, *(name for node in self.nodes for name in node.output)}
        self.noted: list[Any] = []
        self.index()

    def index(self) -> None:
        self.producer = {output: node for node in self.nodes for output in node.output}
        self.consumers: dict[str, list[Any]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self.consumers[name].append(node)

    def made_by(self, tensor: str, *operations: str) -> list[Any] | None:
        """Its maker, the maker of that one's first input, and so on, if they are these operations; else None."""
        nodes = []
        for operation in operations:
            node = self.producer.get(tensor)
            if node is None or node.op_type != operation:
                return None
            nodes.append(node)
            tensor = node.input[0]
        return nodes

    def makers(self, tensor: str, passing: Callable[[Any], bool]) -> Iterator[Any]:
        """The nodes that a tensor comes from, each once: its maker, and through ``passing`` nodes theirs."""
        seen, waiting = {tensor}, [tensor]
        while waiting:
            node = self.producer.get(waiting.pop())
            if node is not None:
                yield node
                if passing(node):
                    waiting += set(node.input) - seen
                    seen.update(node.input)

    def readers(self, tensors: Iterable[str], passing: Callable[[Any], bool]) -> Iterator[Any]:
        """The nodes that tensors go to: their readers, and through ``passing`` nodes theirs."""
        waiting = [*tensors]
        seen = set(waiting)
        while waiting:
            for node in self.consumers[waiting.pop()]:
                yield node
                if passing(node):
                    waiting += set(node.output) - seen
                    seen.update(node.output)

    def drop_dead(self) -> None:
        """Remove the nodes that no output depends on, so that passes do not find them as readers."""
        before = -1
        while before != len(self.nodes):
            before = len(self.nodes)
            self.index()
            self.nodes = [
                n for n in self.nodes if any(self.consumers[o] or o in self.outputs for o in n.output)
            ]
        self.index()

    def constant(self, value: np.ndarray, hint: str) -> str:
        """A new constant of any shape; returns its name, made of ``hint``."""
        name = self.name(hint)
        self.constants[name] = value
        return name

    def name(self, hint: str) -> str:
        """An unused tensor name."""
        self.fresh += 1
        while (name := f"{hint}_{self.fresh}") in self.taken:
            self.fresh += 1
        return name

    def replace_input(self, old: str, new: str, nodes: list[Any]) -> None:
        for node in nodes:
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new

    def append(self, op: str, inputs: list[str], outputs: list[str] | None = None, **attributes: Any) -> str:
        """Add a node, whose outputs get new names unless given; returns the name of the first."""
        outputs = outputs or [self.name(op)]
        self.nodes.append(self.onnx.helper.make_node(op, inputs, outputs, name=outputs[0], **attributes))
        return outputs[0]

    def add_pair(self, tensor: str, scale: np.ndarray, zero: np.ndarray) -> tuple[Any, Any]:
        """A new QuantizeLinear and DequantizeLinear on a tensor; consumers are not touched.

        ``scale`` and ``zero`` are () or, one for each channel, (C,).
        """
        helper = self.onnx.helper
        scale_name, zero_name = self.constant(scale, "scale"), self.constant(zero, "zero")
        quantized, restored = self.name(f"{tensor}_q"), self.name(f"{tensor}_dq")
        q = helper.make_node("QuantizeLinear", [tensor, scale_name, zero_name], [quantized], name=quantized)
        dq = helper.make_node(
            "DequantizeLinear", [quantized, scale_name, zero_name], [restored], name=restored
        )
        self.nodes += [q, dq]
        return q, dq

    def note_shape(self, tensor: str, shape: tuple[int, ...]) -> None:
        """Record the shape of a float tensor behind operations that are not ONNX's own, which shape inference lacks."""
        kind = self.onnx.TensorProto.FLOAT
        self.noted.append(self.onnx.helper.make_tensor_value_info(tensor, kind, shape))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Static shape by tensor name, of the model as read or last written; 0 is an unknown size."""
        inferred = self.onnx.shape_inference.infer_shapes(self.model).graph
        shapes = {
            value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
            for value in (*inferred.value_info, *inferred.input, *inferred.output)
        }
        return {**shapes, **{name: value.shape for name, value in self.constants.items()}}

    def map_sizes(self) -> dict[str, tuple[int, ...]]:
        """Rows and columns of the maps (N, C, H, W) whose sizes are known; writes the model."""
        self.write()
        return {
            name: shape[2:] for name, shape in self.shapes().items() if len(shape) == 4 and all(shape[2:])
        }

    def write(self) -> Any:
        """Sort, drop what nothing reads, and put nodes and constants back into the model."""
        self.index()
        needed: list[Any] = []
        seen: set[int] = set()
        # Depth first from the outputs: gives a topological order and leaves dead nodes out.
        stack: list[tuple[Any, bool]] = [
            (self.producer[name], False) for name in sorted(self.outputs, reverse=True)
        ]
        while stack:
            node, expanded = stack.pop()
            if expanded:
                needed.append(node)
                continue
            if id(node) in seen:
                continue
            seen.add(id(node))
            stack.append((node, True))
            stack += [(self.producer[name], False) for name in node.input if name in self.producer]
        used = {name for node in needed for name in node.input}
        del self.graph.node[:]
        self.graph.node.extend(needed)
        del self.graph.initializer[:]
        self.graph.initializer.extend(
            # Not ascontiguousarray: it turns scalars into vectors, and ONNX Runtime fuses only sums of scalar scales.
            self.onnx.numpy_helper.from_array(np.asarray(value, order="C"), name)
            for name, value in self.constants.items()
            if name in used
        )
        del self.graph.value_info[:]
        self.graph.value_info.extend(self.noted)
        return self.model
