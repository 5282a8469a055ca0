"""Offsets at the people's centres alone, where a graph decodes itself: the rest of the offset maps is not computed.

A graph of ``export --decode graph`` finds the P strongest centres first, and of the offset maps (N, 2K, h, w) it reads
those P places. What they depend on is followed back through the adaptive convolutions: for each place one of them reads
45 places of its input. So the last one is computed at P places, the one before it at 45 P, and so on, until that is as
dear as the whole map.

Subspace attention needs all of a map, since its softmax runs over all places: with it nothing can be left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from samkr_edge.builder.cpu.adaptive_places import (
    READ,
    BlockAtPlaces,
    Operations,
    Places,
    Shape,
    Source,
    WholeMap,
)
from samkr_edge.builder.cpu.deform import adaptive_of
from samkr_edge.onnx_graph.graph import Graph, integers

# Its field in a passport.
AT_CENTERS = "blocks_at_centers"
# A place costs as much as so many of a whole map, whose kernel is faster.
_DEARER = 2.5


def compute_offsets_at_centers(graph: Graph) -> int:
    """Compute the offsets that are read at centres there alone; returns how many blocks are computed at places.

        blocks(x) -> Conv 1x1 -> GatherElements at P places    =>    blocks at places(x) -> MatMul

    Faster: on a map of 128x128 the last block is computed at 30 places instead of 16384, the one before at 1350. Exact
    but for the order of sums. A head with attention, with quantizers, or whose maps are outputs stays as it is.
    """
    done = 0
    for gather in [node for node in graph.nodes if node.op_type == "GatherElements"]:
        if (end := _end_of_head(graph, gather)) is not None:
            done += _compute_at_places(graph, gather, end)
    graph.drop_dead()
    return done


@dataclass(frozen=True)
class _End:
    """What an offset head ends with.

    Attributes:
        features: what its last convolution reads, (N, B * c, h, w).
        weight: of that 1x1 convolution, (2K, c), times the factor behind it.
        bias: (2K,), also times it.
        index: int64 (N, P), places in a flattened map that its offsets are read at.
        people: P.
    """

    features: str
    weight: np.ndarray
    bias: np.ndarray
    index: str
    people: int


def _end_of_head(graph: Graph, gather: Any) -> _End | None:
    """The offset head that a GatherElements reads at the strongest centres; None where it is anything else."""
    read = graph.made_by(gather.input[1], "Reshape", "Add", "Unsqueeze", "TopK")
    plain = graph.made_by(gather.input[0], "Reshape", "Conv")
    nodes = plain or graph.made_by(gather.input[0], "Reshape", "Mul", "Conv")
    if read is None or nodes is None:
        return None
    offset, last = nodes[0].input[0], nodes[-1]
    if graph.consumers[offset] != [nodes[0]] or offset in graph.outputs:
        return None
    if graph.consumers[nodes[0].output[0]] != [gather] or len(last.input) != 3:
        return None
    names = [*last.input[1:], read[-1].input[1], *(() if plain else nodes[1].input[1:])]
    constants = [graph.constants.get(name) for name in names]
    if any(value is None for value in constants):
        return None
    weight, bias, people, *factors = (value for value in constants if value is not None)
    factor = factors[0] if factors else np.float32(1)
    if weight.shape[2:] != (1, 1) or factor.size != 1:
        return None
    return _End(last.input[0], weight[:, :, 0, 0] * factor, bias * factor, read[-1].output[1], people.item())


def _compute_at_places(graph: Graph, gather: Any, end: _End) -> int:
    """Replace a GatherElements by the head at its places, where that is the cheaper; how many blocks are in it."""
    blocks = _worthwhile(graph, end)
    if not blocks:
        return 0
    do, shape = Operations(graph), blocks[0].shape
    source: Source = WholeMap(do, blocks[-1].features, shape)
    for block in reversed(blocks):
        source = BlockAtPlaces(do, source, shape, block.affine, block.kernel)
    one = np.array([1], np.int64)
    y, x = (
        do("Unsqueeze", do("Gather", each.astype(np.float32), end.index), one)
        for each in np.divmod(np.arange(shape.rows * shape.columns), shape.columns)
    )
    weight = end.weight.reshape(shape.branches, -1, shape.channels)
    offsets = do("MatMul", weight, source.at(Places(y, x, end.people)))
    offsets = do("Add", offsets, end.bias.reshape(shape.branches, -1, 1))
    graph.nodes.remove(gather)
    flat = graph.constant(np.array([shape.batch, -1], np.int64), "flat")
    graph.append("Reshape", [offsets, flat], list(gather.output))
    return len(blocks)


@dataclass(frozen=True)
class _Block:
    """An adaptive block that reads ``features``; the rest is as ``BlockAtPlaces`` has it."""

    features: str
    shape: Shape
    affine: tuple[np.ndarray, np.ndarray]
    kernel: tuple[np.ndarray, np.ndarray]


def _worthwhile(graph: Graph, end: _End) -> list[_Block]:
    """The blocks that are cheaper at the places where they are read than everywhere, the last one first.

    Shapes are written as numbers, so none where the batch is open.
    """
    found: list[_Block] = []
    tensor, places = end.features, end.people
    while graph.batch and (block := _block(graph, tensor)) is not None:
        if _DEARER * places > block.shape.rows * block.shape.columns:
            break
        found.append(block)
        tensor, places = block.features, READ * places
    return found


def _block(graph: Graph, tensor: str) -> _Block | None:
    """The adaptive block that gives a tensor; None where it is anything else."""
    total = graph.made_by(tensor, "Relu", "Add")
    for features, sampled in (total[1].input, total[1].input[::-1]) if total else ():
        sampling = graph.made_by(sampled, "Conv", "Reshape", "GridSample")
        adaptive = adaptive_of(graph, sampling[-1]) if sampling else None
        if adaptive is None or adaptive[1].input[0] != features:
            continue
        affine = graph.producer[adaptive[1].input[1]]
        constants = [graph.constants.get(name) for name in (*affine.input[1:], *adaptive[1].input[2:])]
        arrays = [value for value in constants if value is not None]
        if affine.input[0] != features or len(arrays) != 4 or arrays[0].shape[2:] != (3, 3):
            continue
        sizes = integers(adaptive[1])
        shape = Shape(graph.batch, sizes["group"], arrays[2].shape[1], sizes["rows"], sizes["columns"])
        return _Block(features, shape, (arrays[0], arrays[1]), (arrays[2], arrays[3]))
    return None
