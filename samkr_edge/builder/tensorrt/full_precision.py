"""Which operations of a pose network stay FP32 where the rest is FP16: one rule, for ONNX graphs and TensorRT networks.

These stay FP32:

* the attention's softmax and what it is multiplied into: its mean weight on a 128x128 map is 2^-14, the smallest normal
  number of FP16, and most weights are smaller;
* sampling: the grid, whose steps near the border of a 128-pixel map would be 1/16 pixel, and the samples taken by it;
* the last convolution of each head and all after it: offsets reach tens of pixels, peaks are found by comparing
  heatmap values, and joints decoded in the graph would be rounded to a quarter of a pixel at 512;
* the normalisation of the image bytes.

Some versions of TensorRT sample wrongly in FP32 between FP16 operations (pytorch/TensorRT#4074). For these the whole
adaptive block can stay FP32: up to and including the convolutions above the sampling, and the one that reads it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samkr_edge.onnx_graph.graph import Graph


@dataclass(frozen=True)
class Operation:
    """One node; ``kind`` by ONNX's names, inputs and outputs by names of tensors."""

    kind: str
    inputs: Sequence[str]
    outputs: Sequence[str]


def full_precision(
    operations: Sequence[Operation],
    inputs: Iterable[str],
    outputs: Iterable[str],
    *,
    wide_sampling: bool = False,
) -> set[int]:
    """Indices of the operations that compute in FP32.

    Args:
        operations: of the graph, in order.
        inputs: names of the network's.
        outputs: names of the network's.
        wide_sampling: also the convolutions around a sampling, and everything between them.
    """
    graph = _Tensors(operations)
    wide: set[int] = set()
    for output in outputs:
        wide |= graph.above(output, including=True)
    for name in inputs:
        wide |= graph.below(name)
    for index, operation in enumerate(operations):
        if operation.kind == "GridSample":
            wide |= {index, *graph.above(operation.inputs[1], including=wide_sampling)}
            if wide_sampling:
                wide |= graph.above(operation.inputs[0], including=True)
                wide |= graph.below(operation.outputs[0], including=True)
        if operation.kind == "Softmax":
            wide |= {index, *graph.above(operation.inputs[0]), *graph.below(operation.outputs[0])}
    return wide


def constrained(
    operations: Sequence[Operation],
    inputs: Iterable[str],
    outputs: Iterable[str],
    floats: Collection[str],
    *,
    wide_sampling: bool = False,
) -> list[int]:
    """Indices of the operations that weak typing needs marked as FP32, in order.

    Not those whose types the graph fixes: INT8 convolutions, casts, and operations without float inputs (constants,
    indices).

    Args:
        operations: of the graph, in order; a type conversion is a ``Cast``.
        inputs: names of the network's.
        outputs: names of the network's.
        floats: names of the tensors that are FP32.
        wide_sampling: see `full_precision`.
    """
    dequantized = {name for one in operations if one.kind == "DequantizeLinear" for name in one.outputs}

    def is_free(one: Operation) -> bool:
        int8 = one.kind == "Conv" and any(name in dequantized for name in one.inputs)
        return not int8 and one.kind != "Cast" and any(name in floats for name in one.inputs)

    wide = full_precision(operations, inputs, outputs, wide_sampling=wide_sampling)
    return [index for index in sorted(wide) if is_free(operations[index])]


def full_precision_nodes(graph: Graph, *, wide_sampling: bool = False) -> set[int]:
    """``full_precision`` of an ONNX graph: indices of its nodes."""
    operations = [Operation(node.op_type, node.input, node.output) for node in graph.nodes]
    images = [value.name for value in graph.graph.input if value.name not in graph.constants]
    return full_precision(operations, images, graph.outputs, wide_sampling=wide_sampling)


class _Tensors:
    """Which operations write and read a tensor."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = operations
        self.maker = {name: index for index, one in enumerate(operations) for name in one.outputs}
        self.readers: dict[str, list[int]] = defaultdict(list)
        for index, one in enumerate(operations):
            for name in one.inputs:
                self.readers[name].append(index)

    def above(self, tensor: str, including: bool = False) -> set[int]:
        """Operations above a tensor, up to the first convolution on every path, or including it; a quantizer ends a
        path too."""
        found: set[int] = set()
        waiting = [tensor]
        while waiting:
            index = self.maker.get(waiting.pop())
            if index is None or index in found or self.operations[index].kind == "DequantizeLinear":
                continue
            if self.operations[index].kind != "Conv":
                found.add(index)
                waiting.extend(self.operations[index].inputs)
            elif including:
                found.add(index)
        return found

    def below(self, tensor: str, including: bool = False) -> set[int]:
        """Operations below a tensor, up to the first convolution on every path, or including it; a quantizer ends a
        path too."""
        found: set[int] = set()
        waiting = [tensor]
        while waiting:
            for index in self.readers[waiting.pop()]:
                kind = self.operations[index].kind
                if index in found or kind == "QuantizeLinear":
                    continue
                if kind != "Conv":
                    found.add(index)
                    waiting.extend(self.operations[index].outputs)
                elif including:
                    found.add(index)
        return found
