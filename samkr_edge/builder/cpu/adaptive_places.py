"""Adaptive convolutions at some places of a map alone, as ONNX operations.

A block is ``ReLU(adaptive convolution(x) + x)``. At one place it reads 3x3 places of its input, which give its six
affine numbers, and nine taps of four pixels each (training/models/adaptive_conv.py; SAMKR paper eq. (7)-(8)). The input
is a whole map, or another block that is computed at those places only. Outside the map all values are 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from samkr_edge.builder.cpu.deform import AFFINE, TAPS
from samkr_edge.onnx_graph.graph import Graph, opset_of

# Places of its input that a block reads for one of its own: the neighbourhood, and four pixels for each tap.
READ = TAPS + 4 * TAPS
_STEPS = np.array([-1.0, 0.0, 1.0], np.float32)
# y and x of the taps of a plain 3x3 convolution, (9, 1), row-major.
_TAPS_Y, _TAPS_X = np.repeat(_STEPS, 3)[:, None], np.tile(_STEPS, 3)[:, None]

# Axes, as operations take them.
_TWO, _THREE = np.array([2], np.int64), np.array([3], np.int64)


@dataclass(frozen=True)
class Shape:
    """Of a map (N, B * c, h, w): batch N, branches B, channels c of a branch, rows h and columns w."""

    batch: int
    branches: int
    channels: int
    rows: int
    columns: int


@dataclass(frozen=True)
class Places:
    """Places in a map, in its pixels.

    Attributes:
        y, x: tensors, float32 (N, b, count): b is B, or 1 where they are the same for all branches.
        count: how many.
    """

    y: str
    x: str
    count: int


class Source(Protocol):
    """What a block reads from; values are float32 (N, B, c, count)."""

    def at(self, places: Places) -> str:
        """Values at whole places."""

    def sample(self, places: Places) -> str:
        """Values between pixels, bilinear."""


class Operations:
    """Adds operations to a graph; arrays among their inputs become constants."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __call__(self, op: str, *inputs: str | np.ndarray, **attributes: Any) -> str:
        """The name of the output. ``inputs`` are names of tensors, or constants of any shape (...)."""
        return self.graph.append(op, self._named(inputs), **attributes)

    def split(self, tensor: str, sizes: Sequence[int], axis: int) -> list[str]:
        """The parts of a tensor along an axis."""
        parts = [self.graph.name("part") for _ in sizes]
        self.graph.append("Split", self._named((tensor, np.array(sizes, np.int64))), parts, axis=axis)
        return parts

    def reshaped(self, tensor: str, *shape: int) -> str:
        return self("Reshape", tensor, np.array(shape, np.int64))

    def _named(self, inputs: tuple[str | np.ndarray, ...]) -> list[str]:
        return [each if isinstance(each, str) else self.graph.constant(each, "at_places") for each in inputs]


class WholeMap:
    """A map that is computed everywhere: ``features`` (N, B * c, h, w)."""

    def __init__(self, do: Operations, features: str, shape: Shape) -> None:
        self._do, self._shape = do, shape
        each = (shape.batch * shape.branches, shape.channels, shape.rows, shape.columns)
        self._maps = do.reshaped(features, *each)

    def sample(self, places: Places) -> str:
        do, shape = self._do, self._shape
        # Pixel i of n lies at (2 i + 1) / n - 1, as in the exported samplings.
        grid = [
            do("Add", do("Mul", place, np.float32(2 / size)), np.float32(1 / size - 1))
            for place, size in ((places.x, shape.columns), (places.y, shape.rows))
        ]
        grid = [do("Unsqueeze", each, _THREE) for each in grid]
        both = do("Expand", do("Concat", *grid, axis=3), np.array([1, shape.branches, 1, 1], np.int64))
        many = shape.batch * shape.branches
        found = do(
            "GridSample",
            self._maps,
            do.reshaped(both, many, places.count, 1, 2),
            mode="bilinear" if opset_of(do.graph.model) < 20 else "linear",
            padding_mode="zeros",
            align_corners=0,
        )
        return do.reshaped(found, shape.batch, shape.branches, shape.channels, places.count)

    at = sample  # between no pixels that is one of them


class BlockAtPlaces:
    """A block that is computed where it is read.

    Args:
        do: adds its operations.
        source: its input.
        shape: of its map, and of its input.
        affine: weight (B * 6, c, 3, 3) and bias (B * 6,) of the convolution that gives the affine numbers.
        kernel: of the adaptive convolution, (B * c, c, 3, 3), and its bias (B * c,).
    """

    def __init__(
        self,
        do: Operations,
        source: Source,
        shape: Shape,
        affine: tuple[np.ndarray, np.ndarray],
        kernel: tuple[np.ndarray, np.ndarray],
    ) -> None:
        self._do, self._source, self._shape = do, source, shape
        self._moves = _as_moves(*affine, shape)
        self._kernel = (
            kernel[0].reshape(shape.branches, shape.channels, -1),
            kernel[1].reshape(shape.branches, shape.channels, 1),
        )

    def at(self, places: Places) -> str:
        do, count = self._do, places.count
        near = self._source.at(self._each_tap(places.y, _TAPS_Y, places.x, _TAPS_X, count))
        moves_y, moves_x = do.split(self._multiplied(self._moves, near, count), (TAPS, TAPS), axis=2)
        taps = self._source.sample(self._each_tap(places.y, moves_y, places.x, moves_x, count))
        own = do("Gather", self._by_tap(near, count), np.int64(TAPS // 2), axis=3)
        values = do("Relu", do("Add", self._multiplied(self._kernel, taps, count), own))
        return do("Mul", values, do("Unsqueeze", self._inside(places), _TWO))

    def sample(self, places: Places) -> str:
        do, shape = self._do, self._shape
        low = [do("Floor", each) for each in (places.y, places.x)]
        high = [do("Add", each, np.float32(1)) for each in low]
        share = [do("Sub", each, first) for each, first in zip((places.y, places.x), low, strict=True)]
        rest = [do("Sub", np.float32(1), each) for each in share]
        corners = [(a, b) for a in (0, 1) for b in (0, 1)]
        # Corner by corner, and in each all places.
        y = do("Concat", *((low, high)[a][0] for a, _ in corners), axis=2)
        x = do("Concat", *((low, high)[b][1] for _, b in corners), axis=2)
        weights = [do("Mul", (rest, share)[a][0], (rest, share)[b][1]) for a, b in corners]
        values = do.reshaped(
            self.at(Places(y, x, 4 * places.count)),
            *(shape.batch, shape.branches, shape.channels, 4, places.count),
        )
        weight = do(
            "Unsqueeze", do.reshaped(do("Concat", *weights, axis=2), shape.batch, -1, 4, places.count), _TWO
        )
        return do("ReduceSum", do("Mul", values, weight), _THREE, keepdims=0)

    def _each_tap(
        self, y: str, moves_y: str | np.ndarray, x: str, moves_x: str | np.ndarray, count: int
    ) -> Places:
        """Nine places for each, tap by tap, moved by (..., 9, count) or (9, 1)."""
        do, batch = self._do, self._shape.batch
        all_y, all_x = (
            do.reshaped(do("Add", do("Unsqueeze", place, _TWO), moves), batch, -1, TAPS * count)
            for place, moves in ((y, moves_y), (x, moves_x))
        )
        return Places(all_y, all_x, TAPS * count)

    def _by_tap(self, values: str, count: int) -> str:
        """(N, B, c, 9 * count) -> (N, B, c, 9, count)."""
        shape = self._shape
        return self._do.reshaped(values, shape.batch, shape.branches, shape.channels, TAPS, count)

    def _multiplied(self, kernel: tuple[np.ndarray, np.ndarray], taps: str, count: int) -> str:
        """Nine values (N, B, c, 9 * count) times a kernel (B, o, c * 9), and its bias: (N, B, o, count)."""
        shape = self._shape
        columns = self._do.reshaped(taps, shape.batch, shape.branches, shape.channels * TAPS, count)
        return self._do("Add", self._do("MatMul", kernel[0], columns), kernel[1])

    def _inside(self, places: Places) -> str:
        """1 where a place is in the map, else 0: float32 (N, b, count)."""
        do = self._do
        ends = ((places.y, self._shape.rows), (places.x, self._shape.columns))
        held = [
            do("Equal", each, do("Clip", each, np.float32(0), np.float32(size - 1))) for each, size in ends
        ]
        return do("Cast", do("And", *held), to=1)


def _as_moves(weight: np.ndarray, bias: np.ndarray, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Weight (B, 18, c * 9) and bias (B, 18, 1) of what gives y and then x of the taps, from the place on."""
    affine = weight.reshape(shape.branches, AFFINE, -1)
    taps = np.zeros((2 * TAPS, AFFINE), np.float32)
    taps[:TAPS, [0, 1, 4]] = np.hstack([_TAPS_Y, _TAPS_X, np.ones_like(_TAPS_X)])
    taps[TAPS:, [2, 3, 5]] = taps[:TAPS, [0, 1, 4]]
    return taps @ affine, taps @ bias.reshape(shape.branches, AFFINE, 1)
