"""The work of an ONNX graph's layers: multiply-accumulates, and the bytes that must move even in a fused engine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

from samkr_edge.builder.inspect.arithmetic import dequantizes_bytes, format_of, int8_nodes, macs_of
from samkr_edge.builder.inspect.module_names import module_of
from samkr_edge.onnx_graph.graph import Graph
from samkr_edge.roofline.bound import LayerWork

FLOAT_BYTES = {"fp32": 4, "fp16": 2}
# Of two computed maps, one value of each to a value of the output.
_ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Pow", "Where")
# What they give has the type of what they get.
_SAME_TYPE = (
    "Concat", "Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice", "Split", "Squeeze", "Transpose",
    "Unsqueeze",
)  # fmt: skip


@dataclass(frozen=True)
class GraphWork:
    """What ``work_of`` counts.

    Attributes:
        layers: in the graph's order.
        live: the least memory that the maps take, in this order: all that wait at one time, in bytes.
        fused: by the name of each node and tensor, the module of the layer that it is taken as fused with.
    """

    layers: tuple[LayerWork, ...]
    live: int
    fused: dict[str, str] = field(default_factory=dict, repr=False)


def work_of(graph: Graph, floats: str, *, quantized: bool = True) -> GraphWork:
    """Convolutions and matrix products, each with the bytes that it moves at least.

    Every other operation is taken as fused with the product before or behind it, whichever moves less: a product reads
    the smallest tensors that its input can be made of (bytes in place of floats behind a quantizer, a small map in
    place of the resized one, both maps in place of their concatenation), and writes its output in the smallest form
    that its readers are content with. An addition's last product also reads the other addends. Constants but weights
    are free, and so is a map of unknown size.

    Args:
        graph: nodes in topological order, shapes static.
        floats: ``fp32`` or ``fp16``: what is not quantized, whatever its type in the graph.
        quantized: False counts a Q/DQ graph as if it had none.
    """
    return _Moves(graph, floats, quantized).work()


class _Moves:
    """Look-ups of one graph. A product is known by its place among the nodes, a graph input by -1."""

    def __init__(self, graph: Graph, floats: str, quantized: bool) -> None:
        self._graph, self._floats, self._quantized = graph, floats, quantized
        self._shapes = graph.shapes()
        self._macs = {id(node): macs_of(node, self._shapes) for node in graph.nodes}
        self._place = {id(node): place for place, node in enumerate(graph.nodes)}
        self._int8 = int8_nodes(graph) if quantized else set()
        self._format = format_of(graph)
        self._inputs = {value.name: value.type.tensor_type.elem_type for value in graph.graph.input}
        self._known: dict[tuple[str, str], Any] = {}

    def work(self) -> GraphWork:
        reads, layers = self._reads(), []
        for place in sorted(reads):
            node = self._graph.nodes[place]
            int8 = id(node) in self._int8
            layers.append(
                LayerWork(
                    self._module(node),
                    self._format if int8 else self._floats,
                    self._macs[id(node)] or 0,
                    sum(self._bytes(name) for name in reads[place]),
                    self._written(node.output[0]),
                    sum(
                        prod(self._shapes.get(name, ())) * (1 if int8 else FLOAT_BYTES[self._floats])
                        for name in node.input[1:]
                        if name and self._constant(name) and len(self._shapes.get(name, ())) > 1
                    ),
                )
            )
        return GraphWork(tuple(layers), self._live(reads), self._fused())

    def _reads(self) -> dict[int, set[str]]:
        """By product, the tensors that it reads."""
        reads: dict[int, set[str]] = defaultdict(set)
        for node in self._graph.nodes:
            computed = self._computed(node)
            if self._is_product(node):
                reads[self._place[id(node)]] |= self._all_sources(computed)
            elif node.op_type in _ELEMENTWISE and len(computed) > 1:
                last = self._owner(node.output[0])
                others = [name for name in computed if self._owner(name) != last]
                if last >= 0:
                    reads[last] |= self._all_sources(others)
        return reads

    def _fused(self) -> dict[str, str]:
        fused: dict[str, str] = {}
        for node in self._graph.nodes:
            owner = self._owner(node.output[0])
            if owner >= 0:
                module = self._module(self._graph.nodes[owner])
                fused |= dict.fromkeys((node.name, *node.output), module)
        return fused

    def _live(self, reads: dict[int, set[str]]) -> int:
        """The largest sum of the maps that one product still has to read, or has written, while it runs."""
        last: dict[str, int] = {}
        for place, names in reads.items():
            for name in names:
                last[name] = max(last.get(name, 0), place)
        end = len(self._graph.nodes)
        last |= {name: end for output in self._graph.outputs for name in self._sources(output)}
        largest = 0
        for place in reads:
            waiting = sum(
                self._bytes(name) for name, until in last.items() if self._owner(name) <= place <= until
            )
            largest = max(largest, waiting)
        return largest

    def _is_product(self, node: Any) -> bool:
        return self._macs[id(node)] != 0

    def _module(self, node: Any) -> str:
        """The network's module that a product belongs to: by its name, or, of one that a build added, by the next name
        behind it; the kind of its operation if there is none.
        """
        return str(self._once("module", node.output[0], lambda _: self._find_module(node)))

    def _find_module(self, node: Any) -> str:
        waiting, seen = [node], set()
        while waiting:
            current = waiting.pop(0)
            if id(current) in seen:
                continue
            seen.add(id(current))
            named = next((name for name in (current.name, *current.output) if "/" in name), None)
            if named is not None:
                return module_of(named)
            waiting += [reader for name in current.output for reader in self._graph.consumers[name]]
        return str(node.op_type)

    def _computed(self, node: Any) -> list[str]:
        return [name for name in node.input if name and not self._constant(name)]

    def _constant(self, tensor: str) -> bool:
        """Whether a tensor depends on constants alone, as quantized weights do."""
        return bool(self._once("constant", tensor, self._find_constant))

    def _find_constant(self, tensor: str) -> bool:
        if tensor in self._graph.constants:
            return True
        node = self._graph.producer.get(tensor)
        return node is not None and all(self._constant(name) for name in node.input if name)

    def _itemsize(self, tensor: str) -> int:
        return int(self._once("itemsize", tensor, self._find_itemsize))

    def _find_itemsize(self, tensor: str) -> int:
        floats = FLOAT_BYTES[self._floats]
        node = self._graph.producer.get(tensor)
        if node is None:
            return 1 if self._inputs.get(tensor) in (2, 3) else floats  # uint8, int8
        if node.op_type == "QuantizeLinear":
            return 1 if self._quantized and self._of_bytes(node) else floats
        if node.op_type in _SAME_TYPE and (computed := self._computed(node)):
            return self._itemsize(computed[0])
        return floats

    def _of_bytes(self, quantizer: Any) -> bool:
        """False for the 16-bit quantizers of other tools."""
        readers = self._graph.consumers[quantizer.output[0]]
        return all(
            dequantizes_bytes(self._graph, one) for one in readers if one.op_type == "DequantizeLinear"
        )

    def _bytes(self, tensor: str) -> int:
        shape = self._shapes.get(tensor, ())
        return prod(shape) * self._itemsize(tensor) if shape else 0

    def _owner(self, tensor: str) -> int:
        """The product that a tensor is finished by: the last one that it is computed from."""
        return int(self._once("owner", tensor, self._find_owner))

    def _find_owner(self, tensor: str) -> int:
        node = self._graph.producer.get(tensor)
        if node is None:
            return -1
        if self._is_product(node):
            return self._place[id(node)]
        return max((self._owner(name) for name in self._computed(node)), default=-1)

    def _all_sources(self, tensors: Iterable[str]) -> set[str]:
        return {source for name in tensors for source in self._sources(name)}

    def _sources(self, tensor: str) -> frozenset[str]:
        """The tensors that a reader of this one reads: it, or fewer bytes that it is made of."""
        found: frozenset[str] = self._once("sources", tensor, self._find_sources)
        return found

    def _find_sources(self, tensor: str) -> frozenset[str]:
        node = self._graph.producer.get(tensor)
        if node is None or self._is_product(node):
            return frozenset({tensor})
        before = frozenset(self._all_sources(self._computed(node)))
        return before if sum(map(self._bytes, before)) < self._bytes(tensor) else frozenset({tensor})

    def _written(self, tensor: str) -> int:
        """Bytes of a computed tensor, or of what its readers make of it if that is smaller."""
        return int(self._once("written", tensor, self._find_written))

    def _find_written(self, tensor: str) -> int:
        whole = self._bytes(tensor)
        if tensor in self._graph.outputs:
            return whole
        return min(whole, max(self._wanted(tensor), default=whole))

    def _wanted(self, tensor: str) -> Iterator[int]:
        """What each reader needs: the whole tensor, or what an operation fused behind it gives."""
        for reader in self._graph.consumers[tensor]:
            fused = not self._is_product(reader) and self._owner(reader.output[0]) == self._owner(tensor)
            yield sum(map(self._written, reader.output)) if fused else self._bytes(tensor)

    def _once(self, what: str, tensor: str, find: Any) -> Any:
        key = (what, tensor)
        if key not in self._known:
            self._known[key] = find(tensor)
        return self._known[key]
