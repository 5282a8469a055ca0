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

from samkr_edge.builder import enlarge
from samkr_edge.builder.cpu import deform, matrix_products, thin_convolutions
from samkr_edge.onnx_graph import bias_range
from samkr_edge.onnx_graph.graph import Graph


@dataclass
class RetargetReport:
    """What the passes did, for the passport and for people."""

    deform_convolutions: int = 0
    thin_convolutions: int = 0
    dropped_quantizers: int = 0
    merged_quantizers: int = 0
    enlarged_sums: int = 0
    unsigned_after_relu: int = 0
    unsigned_shifted: int = 0
    absorbed_relus: int = 0
    quantized_sums: int = 0
    hoisted_quantizers: int = 0
    byte_enlargements: int = 0
    image_bytes: int = 0
    folded_weights: int = 0
    widened_channels: int = 0
    float_products: int = 0
    steps: list[str] = field(default_factory=list)


def retarget(model: Any) -> tuple[Any, RetargetReport]:
    """All passes in order; returns the changed model and what was done. The model passes ``onnx.checker``.

    A float model only gets its sampling (:mod:`samkr_edge.builder.cpu.deform`) and its thin convolutions
    (:mod:`samkr_edge.builder.cpu.thin_convolutions`) changed; the passes over quantizers find nothing to do in it.
    """
    from onnx import version_converter

    report = RetargetReport()
    sampling = deform.runs_here()
    opset = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    if sampling and opset < deform.OPSET:
        try:
            model = version_converter.convert_version(model, deform.OPSET)
        except Exception:  # of C++: an operation of another tool has no rule
            sampling = False  # it stays as it is
    graph = Graph(model)
    drop_idle_quantizers(graph, report)
    merge_quantizers(graph, report)
    report.deform_convolutions = deform.use_deform_conv(graph) if sampling else 0
    report.thin_convolutions = thin_convolutions.transpose_thin_convolutions(graph)
    report.enlarged_sums = enlarge.enlarge_sums(graph)
    quantize_intermediate_sums(graph, report)
    hoist_quantizers(graph, report)
    make_unsigned(graph, report)
    absorb_relus(graph, report)
    take_image_bytes(graph, report)
    report.byte_enlargements = enlarge.enlarge_bytes(graph)
    report.widened_channels = bias_range.fit_biases(graph)  # once the scales of activations are the last
    fold_weights(graph, report)
    report.float_products = matrix_products.multiply_to_float(graph)
    changed = graph.write()
    graph.onnx.checker.check_model(changed)
    return changed, report


def is_activation_quantizer(graph: Graph, node: Any) -> bool:
    """A per-tensor QuantizeLinear on something that is computed, not on a weight."""
    return node.op_type == "QuantizeLinear" and node.input[0] not in graph.constants


def drop_idle_quantizers(graph: Graph, report: RetargetReport) -> None:
    """Drop the quantizers that no INT8 operation writes and none will read: conversions there and back for nothing.

    The inputs of a residual sum between float layers have them: the policy quantizes all such sums. Not exact: nothing
    is rounded there any more.
    """
    # Every round leaves fewer quantizers: what only DequantizeLinear nodes inside the graph read can always go.
    while idle := [
        node
        for node in graph.nodes
        if is_activation_quantizer(graph, node)
        and _is_inside(graph, node)
        and not _comes_from_int8(graph, node.input[0])
        and not _goes_to_int8(graph, node)
    ]:
        for node in idle:
            for dq in graph.consumers[node.output[0]]:
                graph.replace_input(dq.output[0], node.input[0], graph.consumers[dq.output[0]])
        report.dropped_quantizers += len(idle)
        graph.drop_dead()
    report.steps.append("drop_idle_quantizers")


def _is_inside(graph: Graph, quantizer: Any) -> bool:
    """Whether nothing but DequantizeLinear reads a quantizer, and no output of the graph is one of them."""
    readers = graph.consumers[quantizer.output[0]]
    return not graph.outputs & {quantizer.output[0], *(reader.output[0] for reader in readers)} and all(
        reader.op_type == "DequantizeLinear" for reader in readers
    )


def _is_int8_convolution(graph: Graph, node: Any) -> bool:
    return node.op_type == "Conv" and _is_dequantized(graph, node.input[1])


def _is_dequantized(graph: Graph, tensor: str) -> bool:
    node = graph.producer.get(tensor)
    return node is not None and node.op_type == "DequantizeLinear"


def _comes_from_int8(graph: Graph, tensor: str) -> bool:
    def writes_int8(node: Any) -> bool:
        if node.op_type == "Add":
            return all(_is_dequantized(graph, name) for name in node.input)
        return node.op_type == "DequantizeLinear" or _is_int8_convolution(graph, node)

    return any(map(writes_int8, graph.makers(tensor, lambda node: node.op_type in ("Relu", *_MOVERS))))


def _goes_to_int8(graph: Graph, node: Any) -> bool:
    passing = ("QuantizeLinear", "DequantizeLinear", "Add", "Relu", *_MOVERS)
    readers = graph.readers(node.output, lambda reader: reader.op_type in passing)
    return any(_is_int8_convolution(graph, reader) for reader in readers)


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
        if tensor not in graph.outputs:
            graph.replace_input(tensor, restored, readers)
        graph.index()
    graph.drop_dead()
    report.steps.append("merge_quantizers")


def quantize_intermediate_sums(graph: Graph, report: RetargetReport) -> None:
    """Give the partial sums of a three- or four-branch sum a quantizer, so that each addition runs in INT8.

    The range is bounded by the sum of the inputs' ranges: nothing clips, at the price of up to one bit of resolution
    in the partial sum. A partial sum that is enlarged before it is added is quantized on both sides of that. Not exact.
    """
    for node in list(graph.nodes):
        if node.op_type not in ("Add", "Resize"):
            continue
        inputs = node.input if node.op_type == "Add" else node.input[:1]
        ranges = [_range_of(graph, name) for name in inputs]
        readers = graph.consumers[node.output[0]]
        partial = len(readers) == 1 and readers[0].op_type in ("Add", "Resize")
        if None in ranges or not partial:
            continue
        scale = np.float32(sum(r for r in ranges if r is not None) / 127)
        _, dq = graph.add_pair(node.output[0], scale, np.int8(0))
        graph.replace_input(node.output[0], dq.output[0], readers)
        graph.index()
        report.quantized_sums += node.op_type == "Add"
    report.steps.append("quantize_intermediate_sums")


def _range_of(graph: Graph, tensor: str) -> float | None:
    """amax of a dequantized tensor, None for a float one."""
    node = graph.producer.get(tensor)
    if node is None or node.op_type != "DequantizeLinear" or node.input[1] not in graph.constants:
        return None
    scale = graph.constants[node.input[1]]
    return float(scale) * 127 if scale.ndim == 0 else None


# Operations that only move or choose values, or average them: quantizing their inputs makes them run in INT8.
_MOVERS = ("Resize", "MaxPool", "Concat", "Reshape")


def hoist_quantizers(graph: Graph, report: RetargetReport) -> None:
    """Quantize what goes into a resize, a pooling or a concat whose output is quantized, with the output's range.

    The convolution before it then writes INT8, and the operation itself moves a quarter of the bytes. Exact for
    nearest resizing, max pooling and concatenation, which commute with rounding; a bilinear resize averages rounded
    values, half a step off at most.
    """
    waiting = [node for node in graph.nodes if is_activation_quantizer(graph, node)]
    while waiting:
        quantizer = waiting.pop()
        mover = graph.producer.get(quantizer.input[0])
        if mover is None or mover.op_type not in _MOVERS or len(graph.consumers[mover.output[0]]) != 1:
            continue
        for name in mover.input if mover.op_type == "Concat" else mover.input[:1]:
            source = graph.producer.get(name)
            alone = len(graph.consumers[name]) == 1 and name not in graph.outputs
            if source is None or source.op_type == "DequantizeLinear" or not alone:
                continue
            scale, zero = (graph.constants[constant] for constant in quantizer.input[1:3])
            q, dq = graph.add_pair(name, scale, zero)
            graph.replace_input(name, dq.output[0], [mover])
            graph.index()
            waiting.append(q)
            report.hoisted_quantizers += 1
    report.steps.append("hoist_quantizers")


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
    seen, waiting = {tensor}, [tensor]
    while waiting:
        node = graph.producer.get(waiting.pop())
        if node is not None and node.op_type == "DequantizeLinear":
            node = graph.producer.get(node.input[0])
            if node is not None and node.op_type != "QuantizeLinear":
                return False
        if node is None:
            return False
        if node.op_type in ("Resize", "MaxPool", "QuantizeLinear"):
            before = {node.input[0]}
        elif node.op_type == "Concat":
            before = {*node.input}
        elif node.op_type == "Relu":
            continue
        else:
            return False
        waiting += before - seen
        seen |= before
    return True


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


def take_image_bytes(graph: Graph, report: RetargetReport) -> None:
    """Let the first convolution read the image's bytes: its weights and bias do the normalisation ``a x - m``.

    A byte is already an 8-bit number, with finer steps than the quantized normalised image has; what is saved are
    passes over the largest map of the network. Not exact: weights of channels with a smaller ``a`` are rounded again,
    and beyond the border lies the grey of the zero point in place of each channel's own mean.
    """
    for quantizer in list(graph.nodes):
        chain = _normalisation(graph, quantizer)
        if chain is None:
            continue
        transposed, factor, shift, convolution, weight_quantizer = chain
        weight, scale = (graph.constants[name] for name in weight_quantizer.input[:2])
        rounded = _steps(weight, scale, _axis(weight_quantizer)) * _along(
            scale, weight.ndim, _axis(weight_quantizer)
        )
        # The largest factor: no weight grows, so none clips.
        step = np.float32(factor.max())
        zero = np.uint8(np.rint((shift / factor).mean()))
        bias = (rounded * (factor * zero - shift)).sum(axis=(1, 2, 3))
        if len(convolution.input) > 2:
            bias = bias + graph.constants[convolution.input[2]]
        weight_quantizer.input[0] = graph.constant(
            (rounded * (factor / step)).astype(np.float32), "image_weight"
        )
        inputs = [
            transposed,
            graph.constant(np.asarray(step), "scale"),
            graph.constant(np.asarray(zero), "zero"),
        ]
        restored = graph.name("image_dq")
        graph.append("DequantizeLinear", inputs, [restored])
        weights = convolution.input[1]
        del convolution.input[:]
        convolution.input.extend([restored, weights, graph.constant(bias.astype(np.float32), "image_bias")])
        graph.index()
        report.image_bytes += 1
    report.steps.append("take_image_bytes")


def _normalisation(graph: Graph, quantizer: Any) -> tuple[str, np.ndarray, np.ndarray, Any, Any] | None:
    """Transposed image, factor and shift (1, 3, 1, 1), convolution and the quantizer of its weight, or None.

    The chain is what the exporter writes: Cast, Mul, Sub, QuantizeLinear, DequantizeLinear, Conv.
    """
    if not is_activation_quantizer(graph, quantizer):
        return None
    names = {}
    tensor = quantizer.input[0]
    for op in ("Sub", "Mul", "Cast"):
        node = graph.producer.get(tensor)
        if node is None or node.op_type != op or len(graph.consumers[node.output[0]]) != 1:
            return None
        names[op] = node
        tensor = node.input[0]
    factor, shift = (graph.constants.get(names[op].input[1]) for op in ("Mul", "Sub"))
    readers = [
        reader for dq in graph.consumers[quantizer.output[0]] for reader in graph.consumers[dq.output[0]]
    ]
    if factor is None or shift is None or len(readers) != 1 or readers[0].op_type != "Conv":
        return None
    if any(name not in graph.constants for name in readers[0].input[2:]):
        return None
    restored = graph.producer.get(readers[0].input[1])
    weight_quantizer = graph.producer.get(restored.input[0]) if restored is not None else None
    if weight_quantizer is None or weight_quantizer.input[0] not in graph.constants:
        return None
    return tensor, factor, shift, readers[0], weight_quantizer


def _axis(quantizer: Any) -> int:
    return next((a.i for a in quantizer.attribute if a.name == "axis"), 1)


def _along(scale: np.ndarray, dimensions: int, axis: int) -> np.ndarray:
    """A per-channel scale, shaped so that it multiplies along its axis."""
    shape = [1] * dimensions
    if scale.ndim:
        shape[axis] = -1
    return scale.reshape(shape)


def _steps(weight: np.ndarray, scale: np.ndarray, axis: int) -> np.ndarray:
    """A weight in whole steps, float; ONNX rounds halves to even, as NumPy does."""
    return np.clip(np.rint(weight / _along(scale, weight.ndim, axis)), -128, 127)


def fold_weights(graph: Graph, report: RetargetReport) -> None:
    """Quantize constant weights now and store them as INT8: the same numbers in a quarter of the file. Exact."""
    for node in list(graph.nodes):
        if node.op_type != "QuantizeLinear" or node.input[0] not in graph.constants:
            continue
        if graph.constants[node.input[2]].any():  # not ours: we export symmetric weights only
            continue
        weight, scale = graph.constants[node.input[0]], graph.constants[node.input[1]]
        steps = _steps(weight, scale, _axis(node)).astype(np.int8)
        graph.replace_input(
            node.output[0], graph.constant(steps, "weight_int8"), graph.consumers[node.output[0]]
        )
        graph.nodes.remove(node)
        report.folded_weights += 1
    graph.index()
    report.steps.append("fold_weights")
