"""Turn a Q/DQ ONNX as ModelOpt exports it into the form that ONNX Runtime runs fast on x86-64.

As exported, INT8 is slower there than FP32: activations are signed (x86 kernels want unsigned), a tensor read by
several consumers is quantized several times over, ReLUs stand between a sum and its quantizer, and sums are computed
in float. Every pass below takes and changes an ``onnx.ModelProto``; each says whether it is exact.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class RetargetReport:
    """What the passes did, for the passport and for people."""

    merged_quantizers: int = 0
    unsigned_after_relu: int = 0
    unsigned_shifted: int = 0
    absorbed_relus: int = 0
    quantized_sums: int = 0
    folded_weights: int = 0
    steps: list[str] = field(default_factory=list)


class Graph:
    """Look-ups over an ONNX graph; call :meth:`index` after changing its nodes."""

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
        self.fresh = 0
        self.index()

    def index(self) -> None:
        self.producer = {output: node for node in self.nodes for output in node.output}
        self.consumers: dict[str, list[Any]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self.consumers[name].append(node)

    def constant(self, value: np.ndarray, hint: str) -> str:
        self.fresh += 1
        name = f"{hint}_{self.fresh}"
        self.constants[name] = value
        return name

    def name(self, hint: str) -> str:
        self.fresh += 1
        return f"{hint}_{self.fresh}"

    def replace_input(self, old: str, new: str, nodes: list[Any]) -> None:
        for node in nodes:
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new

    def add_pair(self, tensor: str, scale: np.ndarray, zero: np.ndarray) -> tuple[Any, Any]:
        """A new QuantizeLinear and DequantizeLinear on a tensor; consumers are not touched."""
        helper = self.onnx.helper
        scale_name, zero_name = self.constant(scale, "scale"), self.constant(zero, "zero")
        quantized, restored = self.name(f"{tensor}_q"), self.name(f"{tensor}_dq")
        q = helper.make_node("QuantizeLinear", [tensor, scale_name, zero_name], [quantized], name=quantized)
        dq = helper.make_node(
            "DequantizeLinear", [quantized, scale_name, zero_name], [restored], name=restored
        )
        self.nodes += [q, dq]
        return q, dq

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
            self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
            for name, value in self.constants.items()
            if name in used
        )
        del self.graph.value_info[:]
        return self.model


def retarget(model: Any, *, sums: bool = True) -> tuple[Any, RetargetReport]:
    """All passes in order; returns the changed model and what was done. The model passes ``onnx.checker``."""
    report = RetargetReport()
    graph = Graph(model)
    merge_quantizers(graph, report)
    if sums:
        quantize_intermediate_sums(graph, report)
    make_unsigned(graph, report)
    absorb_relus(graph, report)
    fold_weights(graph, report)
    changed = graph.write()
    graph.onnx.checker.check_model(changed)
    return changed, report


def is_activation_quantizer(graph: Graph, node: Any) -> bool:
    """A per-tensor QuantizeLinear on something that is computed, not on a weight."""
    return node.op_type == "QuantizeLinear" and node.input[0] not in graph.constants


def merge_quantizers(graph: Graph, report: RetargetReport) -> None:
    """One Q/DQ pair per tensor, read by every consumer, floats included. Exact for equal scales.

    A convolution and the skip of a residual sum quantize the same tensor with the same range; ONNX Runtime fuses
    only when both read one pair. A consumer that was to stay float reads the quantized value too: its producer then
    writes INT8 once, and nothing keeps a float copy. Where scales differ the largest is taken, so nothing clips.
    """
    by_tensor: dict[str, list[Any]] = defaultdict(list)
    for node in graph.nodes:
        if is_activation_quantizer(graph, node):
            by_tensor[node.input[0]].append(node)
    for tensor, quantizers in by_tensor.items():
        keep = max(quantizers, key=lambda q: float(graph.constants[q.input[1]]))
        (restored,) = (dq.output[0] for dq in graph.consumers[keep.output[0]][:1])
        for other in quantizers:
            if other is keep:
                continue
            for dq in graph.consumers[other.output[0]]:
                graph.replace_input(dq.output[0], restored, graph.consumers[dq.output[0]])
            report.merged_quantizers += 1
        readers = [n for n in graph.consumers[tensor] if n.op_type not in ("QuantizeLinear", "Shape")]
        if tensor not in graph.outputs and all(
            n.op_type in ("Add", "Relu", "Resize", "Concat") for n in readers
        ):
            graph.replace_input(tensor, restored, readers)
        graph.index()
    graph.nodes = [n for n in graph.nodes if not _is_dead(graph, n)]
    graph.index()
    report.steps.append("merge_quantizers")


def _is_dead(graph: Graph, node: Any) -> bool:
    return all(not graph.consumers[name] and name not in graph.outputs for name in node.output)


def quantize_intermediate_sums(graph: Graph, report: RetargetReport) -> None:
    """Give the partial sums of a three- or four-branch sum a quantizer, so that each addition runs in INT8.

    The range is bounded by the sum of the inputs' ranges: nothing clips, at the price of up to one bit of resolution
    in the partial sum. Not exact.
    """
    for node in list(graph.nodes):
        if node.op_type != "Add":
            continue
        ranges = [_range_of(graph, name) for name in node.input]
        readers = graph.consumers[node.output[0]]
        if None in ranges or len(readers) != 1 or readers[0].op_type != "Add":
            continue
        scale = np.float32(sum(r for r in ranges if r is not None) / 127)
        _, dq = graph.add_pair(node.output[0], scale, np.int8(0))
        graph.replace_input(node.output[0], dq.output[0], readers)
        graph.index()
        report.quantized_sums += 1
    report.steps.append("quantize_intermediate_sums")


def _range_of(graph: Graph, tensor: str) -> float | None:
    """amax of a dequantized tensor, None for a float one."""
    node = graph.producer.get(tensor)
    while node is not None and node.op_type == "Resize":
        node = graph.producer.get(node.input[0])
    if node is None or node.op_type != "DequantizeLinear" or node.input[1] not in graph.constants:
        return None
    scale = graph.constants[node.input[1]]
    return float(scale) * 127 if scale.ndim == 0 else None


def make_unsigned(graph: Graph, report: RetargetReport) -> None:
    """Signed activations become unsigned, as x86 INT8 kernels want them.

    Behind a ReLU: zero point 0 and 255 steps over the same range. Finer than before, not exact. Elsewhere: zero
    point 128 with the same scale, exact.
    """
    for node in list(graph.nodes):
        if not is_activation_quantizer(graph, node) or graph.constants[node.input[2]].dtype != np.int8:
            continue
        scale = graph.constants[node.input[1]]
        positive = _is_nonnegative(graph, node.input[0])
        if positive:
            new_scale, zero = (scale * np.float32(127 / 255)).astype(np.float32), np.uint8(0)
            report.unsigned_after_relu += 1
        else:
            new_scale, zero = scale, np.uint8(128)
            report.unsigned_shifted += 1
        names = graph.constant(np.asarray(new_scale), "scale"), graph.constant(np.asarray(zero), "zero")
        for user in (node, *graph.consumers[node.output[0]]):
            user.input[1], user.input[2] = names
    report.steps.append("make_unsigned")


def _is_nonnegative(graph: Graph, tensor: str) -> bool:
    node = graph.producer.get(tensor)
    if node is None:
        return False
    if node.op_type == "Resize" or node.op_type == "MaxPool":
        return _is_nonnegative(graph, node.input[0])
    if node.op_type == "Concat":
        return all(_is_nonnegative(graph, name) for name in node.input)
    if node.op_type == "DequantizeLinear":
        source = graph.producer.get(node.input[0])
        return (
            source is not None
            and source.op_type == "QuantizeLinear"
            and _is_nonnegative(graph, source.input[0])
        )
    return node.op_type == "Relu"


def absorb_relus(graph: Graph, report: RetargetReport) -> None:
    """Drop a ReLU that only a quantizer with zero point 0 reads: clipping to 0 is what that quantizer does. Exact."""
    for node in list(graph.nodes):
        if node.op_type != "Relu" or node.output[0] in graph.outputs:
            continue
        readers = graph.consumers[node.output[0]]
        if readers and all(
            r.op_type == "QuantizeLinear"
            and graph.constants[r.input[2]] == 0
            and graph.constants[r.input[2]].dtype == np.uint8
            for r in readers
        ):
            graph.replace_input(node.output[0], node.input[0], readers)
            graph.nodes.remove(node)
            graph.index()
            report.absorbed_relus += 1
    report.steps.append("absorb_relus")


def fold_weights(graph: Graph, report: RetargetReport) -> None:
    """Quantize constant weights now and store them as INT8: the same numbers in a quarter of the file. Exact."""
    for node in list(graph.nodes):
        if node.op_type != "QuantizeLinear" or node.input[0] not in graph.constants:
            continue
        weight, scale = graph.constants[node.input[0]], graph.constants[node.input[1]]
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        shape = [1] * weight.ndim
        if scale.ndim:
            shape[axis] = -1
        # ONNX rounds halves to even, as NumPy does.
        steps = np.clip(np.rint(weight / scale.reshape(shape)), -128, 127).astype(np.int8)
        graph.replace_input(
            node.output[0], graph.constant(steps, "weight_int8"), graph.consumers[node.output[0]]
        )
        graph.nodes.remove(node)
        report.folded_weights += 1
    graph.index()
    report.steps.append("fold_weights")
