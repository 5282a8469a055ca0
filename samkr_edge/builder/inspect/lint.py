"""Read a Q/DQ graph as a runtime does: what runs in INT8, what prevents it, and the policy line that fixes it.

TensorRT and ONNX Runtime fuse by looking at a node's neighbours: a convolution is INT8 when its input and its weight
come from a DequantizeLinear, a sum when both addends do (TensorRT also takes a convolution on one side). One float
operation between two INT8 ones costs two conversions of a whole map, which is how INT8 ends up slower than FP16.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from samkr_edge.builder.inspect.arithmetic import (
    Product,
    format_of,
    int8_nodes,
    is_fp8,
    is_sum,
    moves,
    products,
    quantized_share,
    zero_of,
)
from samkr_edge.builder.inspect.finding import Finding
from samkr_edge.builder.inspect.module_names import module_of
from samkr_edge.onnx_graph.graph import Graph, opset_of
from samkr_edge.onnx_graph.onnx_file import Q_DQ
from samkr_edge.onnx_graph.onnx_precision import PRODUCT
from samkr_edge.printable import counted

# The input with the coordinates of a sampling operation.
_COORDINATES = {"GridSample": 1, "DeformConv": 2}
# What coordinates are computed from: in a build that samples at centres alone also products, and the centres' places.
_GRIDS_BEGIN = ("Conv", "MatMul", "TopK", *_COORDINATES)
# Steps of a channel's largest weight, of 127 possible: three bits are left.
FEWEST_STEPS = 8
# From opset 20 on, GridSample's modes have other names, and TensorRT treats unknown ones as `nearest`.
LAST_SAFE_GRID_OPSET = 19


@dataclass(frozen=True)
class Lint:
    """What ``lint`` found.

    Attributes:
        convolutions: number of convolutions and matrix products.
        channel_scales: INT8 convolutions whose weights have a scale per output channel. TensorRT and ONNX Runtime fuse
            these; TensorRT for RTX writes their results in FP32.
        format: ``fp8`` if it is used instead of INT8.
        for_rtx: every INT8 weight has one scale, the form that TensorRT for RTX fuses; islands and sums are then not
            reported.
    """

    convolutions: tuple[Product, ...]
    sums: int
    int8_sums: int
    channel_scales: int
    findings: tuple[Finding, ...]
    format: str = "int8"
    for_rtx: bool = False

    @property
    def macs(self) -> int:
        return sum(one.macs for one in self.convolutions)

    @property
    def int8_macs(self) -> int:
        return sum(one.macs for one in self.convolutions if one.int8)

    @property
    def int8_share(self) -> float | None:
        """``samkr_edge.builder.inspect.arithmetic.quantized_share``."""
        return quantized_share(self.convolutions)

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "for_rtx": self.for_rtx,
            "macs": self.macs,
            "int8_macs": self.int8_macs,
            "int8_share": self.int8_share,
            "convolutions": [asdict(one) for one in self.convolutions],
            "sums": self.sums,
            "int8_sums": self.int8_sums,
            "channel_scales": self.channel_scales,
            "findings": [asdict(one) for one in self.findings],
        }


def lint(graph: Graph, *, built: bool = False) -> Lint:
    """Check a graph whose nodes are in topological order.

    Borders between INT8 and float are not reported in a graph for TensorRT for RTX: its build keeps INT8 only where an
    existing kernel writes the bytes (``samkr_edge.builder.tensorrt.fused_int8``).

    Args:
        built: the model was built for a target, which may need zero points; they are then not reported.
    """
    int8 = int8_nodes(graph)
    on_grid = _on_the_way_to_a_grid(graph)
    sums = [node for node in graph.nodes if is_sum(graph, node) and id(node) not in on_grid]
    quantized = any(node.op_type == "QuantizeLinear" for node in graph.nodes)
    form = format_of(graph)
    convolutions = products(graph, int8)
    scales = _weight_scales(graph, int8)
    channel_scales = sum(count > 1 for count in scales)
    for_rtx = bool(scales) and not channel_scales and form == "int8" and not built
    findings = [*_nearest_grids(graph), *_quantizers(graph, built), *_quantized_grids(graph, int8, form)]
    if quantized and not for_rtx:
        findings += [*_float_sums(graph, sums, int8), *_islands(graph, int8, form)]
    return Lint(
        convolutions=convolutions,
        sums=len(sums),
        int8_sums=sum(id(node) in int8 for node in sums),
        channel_scales=channel_scales,
        findings=tuple(findings),
        format=form,
        for_rtx=for_rtx,
    )


def _above(graph: Graph, tensor: str, stop: Iterable[str]) -> Iterator[Any]:
    """Nodes that a tensor is made by, up to and including those of the kinds in ``stop``."""
    stops, seen, waiting = set(stop), set(), [tensor]
    while waiting:
        node = graph.producer.get(waiting.pop())
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if node.op_type not in stops:
            waiting.extend(node.input)


def _grids(graph: Graph) -> Iterator[tuple[Any, str]]:
    """(sampling node, tensor of its coordinates)."""
    for node in graph.nodes:
        if node.op_type in _COORDINATES:
            yield node, node.input[_COORDINATES[node.op_type]]


def _on_the_way_to_a_grid(graph: Graph) -> set[int]:
    return {id(node) for _, grid in _grids(graph) for node in _above(graph, grid, _GRIDS_BEGIN)}


def _weight_scales(graph: Graph, int8: set[int]) -> list[int]:
    """Number of weight scales of each INT8 convolution."""
    weights = [
        graph.producer.get(node.input[1])
        for node in graph.nodes
        if node.op_type == "Conv" and id(node) in int8
    ]
    scales = [graph.constants.get(node.input[1]) for node in weights if node is not None]
    return [scale.size for scale in scales if scale is not None]


def _nearest_grids(graph: Graph) -> Iterator[Finding]:
    opset = opset_of(graph.model)
    for node in graph.nodes:
        if node.op_type == "GridSample" and opset > LAST_SAFE_GRID_OPSET:
            yield Finding(
                "nearest-grid",
                f"GridSample in opset {opset}: TensorRT silently samples the nearest pixel",
                (module_of(node.name),),
                note="samkr-edge export CHECKPOINT -o model.onnx --opset 17",
            )


def _quantizers(graph: Graph, built: bool) -> Iterator[Finding]:
    """Zero points, granularity and scales of every quantizer; a Q and its DQ share constants and count once."""
    seen: set[tuple[str, ...]] = set()
    for node in graph.nodes:
        if node.op_type not in Q_DQ or tuple(node.input[1:]) in seen:
            continue
        scale = graph.constants.get(node.input[1])
        if scale is None:
            continue
        seen.add(tuple(node.input[1:]))
        zero = zero_of(graph, node)
        if zero is not None and zero.dtype == np.int32 and not zero.any():
            continue  # a bias, which every build turns into float
        weight = graph.constants.get(node.input[0])
        where = module_of(node.name)
        match = f'match: "{where}"'
        fp8 = zero is not None and is_fp8(zero)
        if not built and zero is not None and (zero.any() or not (zero.dtype == np.int8 or fp8)):
            yield Finding(
                "asymmetric",
                f"{zero.dtype} with zero point {int(zero.flat[0])}: TensorRT takes int8 and 0 only",
                (where,),
                policy=f"{match}, precision: float   # or quantize again: ours are symmetric",
            )
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            yield Finding(
                "bad-scale",
                f"{int((~(scale > 0)).sum())} of {scale.size} scales are zero, negative or NaN",
                (where,),
                policy=f"{match}, precision: float   # or calibrate on more images",
            )
        one = scale.size == 1 and not fp8  # FP8 numbers have their own exponents
        if weight is not None and weight.ndim == 4 and one and (lost := _coarse(weight, scale)):
            yield Finding(
                "per-tensor-weight",
                f"one scale for {weight.shape[0]} output channels leaves {lost} of them fewer than {FEWEST_STEPS} of "
                "its 127 steps: they are rounded away",
                (where,),
                policy=f"{match}, op: conv, precision: int8, granularity: channel   # or equalise channels "
                "first, as --policy rtx does: TensorRT for RTX fuses only what has one scale",
            )
        if weight is None and node.op_type == "QuantizeLinear" and scale.size > 1:
            yield Finding(
                "per-channel-activation",
                f"{scale.size} scales on an activation: no runtime fuses it",
                (where,),
                policy=f"{match}, precision: int8   # our quantizer gives activations one scale",
            )


def _coarse(weight: np.ndarray, scale: np.ndarray) -> int:
    """Number of output channels that get hardly any steps from the single scale; all-zero channels lose nothing."""
    if not scale.item() > 0:
        return 0  # a finding of its own
    steps = np.abs(weight.astype(np.float32)).reshape(len(weight), -1).max(axis=1)
    if weight.dtype != np.int8:
        steps = steps / scale.item()
    return int(((steps > 0) & (steps < FEWEST_STEPS)).sum())


def _quantized_grids(graph: Graph, int8: set[int], form: str) -> Iterator[Finding]:
    for node, grid in _grids(graph):
        guilty = [
            above
            for above in _above(graph, grid, (*_GRIDS_BEGIN, "QuantizeLinear"))
            if above.op_type == "QuantizeLinear" or (above.op_type == "Conv" and id(above) in int8)
        ]
        if guilty:
            yield Finding(
                "quantized-grid",
                f"{form.upper()} on the way to sampling coordinates, at {module_of(guilty[0].name)}: one step moves "
                "every tap",
                (module_of(node.name),),
                policy='match: "*.sampling.*", precision: float',
            )


def _float_sums(graph: Graph, sums: list[Any], int8: set[int]) -> Iterator[Finding]:
    for node in sums:
        made_by = [graph.producer.get(name) for name in node.input]
        beside = [n for n in made_by if n is not None and (n.op_type == "DequantizeLinear" or id(n) in int8)]
        if id(node) in int8 or not beside or not _is_quantized_later(graph, node):
            continue
        if all(_sums_int8(graph, name) for name in node.input):
            continue
        module = module_of(node.name)
        op = "resolution_sum" if ".sums." in module else "residual_add"
        yield Finding(
            "float-sum",
            f"{2 - sum(n.op_type == 'DequantizeLinear' for n in beside)} of 2 addends not quantized: "
            "the sum cannot fuse with its convolution",
            (module,),
            policy=f'match: "{module}", op: {op}, precision: int8',
        )


def _sums_int8(graph: Graph, tensor: str) -> bool:
    """Whether a tensor is made of INT8 ones alone, summed and enlarged: a partial sum that a build for the CPU leaves
    in float, where it is what tags are made of, and no policy changes.
    """
    node = graph.producer.get(tensor)
    if node is None or node.op_type not in ("DequantizeLinear", "Add", "Resize"):
        return False
    if node.op_type == "DequantizeLinear":
        return True
    return all(_sums_int8(graph, name) for name in (node.input if node.op_type == "Add" else node.input[:1]))


def _is_quantized_later(graph: Graph, node: Any) -> bool:
    """Whether a node's output is quantized, directly or after being moved."""
    waiting, seen = [node], set()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        for reader in (reader for name in current.output for reader in graph.consumers[name]):
            if reader.op_type == "QuantizeLinear":
                return True
            if moves(reader):
                waiting.append(reader)
    return False


def _islands(graph: Graph, int8: set[int], form: str) -> Iterator[Finding]:
    """Connected float operations with INT8, or its replacement, before and after them.

    Not those that only move values and enlarge maps bilinearly: no build does that in INT8, and no policy can change
    it. Nor those that make the network's outputs, also where INT8 goes on from these, as with tags: an INT8 step of an
    output is a visible error.
    """
    last = ("Conv", "DequantizeLinear")
    makes_output = {id(node) for output in graph.outputs for node in _above(graph, output, last)}
    floats = {id(node): node for node in graph.nodes if id(node) not in int8 and node.op_type not in Q_DQ}
    seen: set[int] = set()
    for start in floats.values():
        if id(start) in seen:
            continue
        group, waiting, entered, left = [], [start], False, []
        while waiting:
            node = waiting.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            group.append(node)
            makers = [graph.producer[name] for name in node.input if name in graph.producer]
            readers = [reader for name in node.output for reader in graph.consumers[name]]
            left += [reader for reader in readers if reader.op_type == "QuantizeLinear"]
            entered |= any(
                id(maker) in int8
                or (maker.op_type == "DequantizeLinear" and maker.input[0] not in graph.constants)
                for maker in makers
            )
            waiting += [other for other in (*makers, *readers) if id(other) in floats]
        # A sum with a float addend is a separate finding.
        work = [n for n in group if not moves(n) and not is_sum(graph, n) and n.op_type != "Resize"]
        work = [n for n in work if id(n) not in makes_output]
        if entered and left and work:
            yield _island(graph, group, work, left, form)


def _island(graph: Graph, group: list[Any], work: list[Any], left: list[Any], form: str) -> Finding:
    kinds = sorted({node.op_type for node in work})
    where = module_of(work[0].name)
    number = counted(len(group), "float operation")
    what = f"{number} ({', '.join(kinds[:4])}) between {form.upper()} ones: two conversions per map"
    convolutions = [node for node in work if node.op_type == "Conv"]
    if convolutions and not {"GridSample", "DeformConv"} & set(kinds):
        where = module_of(convolutions[0].name)
        more = f"   # and {len(convolutions) - 1} more" if len(convolutions) > 1 else ""
        rule = f'match: "{where}", op: conv, precision: int8{more}'
        return Finding("float-island", what, (where,), policy=rule)
    # An operation that cannot be INT8 costs least if its reader is float too.
    reader = _reader(graph, left[0])
    op = {"Add": "residual_add", "Conv": "conv", PRODUCT: "conv"}.get(reader.op_type)
    if op is not None:
        rule = f'match: "{module_of(reader.name)}", op: {op}, precision: float'
        return Finding("float-island", what, (where,), policy=rule)
    note = "no policy line: a policy decides about convolutions, sums and pools"
    return Finding("float-island", what, (where,), note=note)


def _reader(graph: Graph, quantizer: Any) -> Any:
    """The operation that computes with a QuantizeLinear's output, or else the last one that moves it."""
    node = quantizer
    while (node.op_type in Q_DQ or moves(node)) and (readers := graph.consumers[node.output[0]]):
        node = readers[0]
    return node
