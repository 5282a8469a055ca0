"""Where would a person's missing joint be? The highest value of the heatmap less the rounded distance of tags.

The official code computes this at every position of the map, for every joint of every person. Here only missing joints
are looked for, and only where they can be: a tile of the map, whose largest value and range of tags are known, bounds
what is in it. The result is the same, ties included: of equal places the first in row-major order.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from samkr_edge.pose.tag_maps import neighbours

# Side of a tile, pixels of the heatmap.
TILE = 16
# Positions evaluated at a time: bounds the memory.
_AT_A_TIME = 1 << 20


def find_missing(
    heatmap: np.ndarray, tag: np.ndarray, there: np.ndarray, tags: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The place of every missing joint.

    Args:
        heatmap: float32 (K, h, w).
        tag: float32 (K, h', w', T); a coarser map counts as enlarged to (h, w).
        there: bool (P, K), the joints that a person has: at least one.
        tags: float32 (P, K, T) of those joints.

    Returns:
        Person (M,) and keypoint (M,) of each missing joint, int64, and its place int64 (M, 2), x and y in map pixels.
    """
    people, keypoints = np.nonzero(~there)
    if not len(people):
        return people, keypoints, np.zeros((0, 2), np.int64)
    mean = (tags * there[..., None]).sum(axis=1) / there.sum(axis=1, keepdims=True)  # (P, T)
    wanted = mean[people].astype(np.float32)
    tiles = _Tiles(heatmap, tag)
    bounds = tiles.bounds(keypoints, wanted)  # (M, tiles)
    best = np.full(len(people), -np.inf, np.float32)
    place = np.full(len(people), np.iinfo(np.int64).max)
    first = bounds.argmax(axis=1)
    everybody = np.arange(len(people))
    tiles.improve(everybody, first, keypoints, wanted, best, place)
    bounds[everybody, first] = -np.inf
    # A bound equal to the best may hide an equal value at an earlier place.
    who, which = np.nonzero(bounds >= best[:, None])
    tiles.improve(who, which, keypoints, wanted, best, place)
    width = heatmap.shape[2]
    return people, keypoints, np.stack([place % width, place // width], axis=1)


class _Tiles:
    """The maps, cut into tiles of ``TILE`` x ``TILE`` heatmap pixels, row by row."""

    def __init__(self, heatmap: np.ndarray, tag: np.ndarray) -> None:
        self._heatmap, self._tag = heatmap, tag
        _, h, w = heatmap.shape
        self._rows = neighbours(np.arange(h), h, tag.shape[1])
        self._columns = neighbours(np.arange(w), w, tag.shape[2])
        self._across = -(-w // TILE)
        self._highest = _reduced(_reduced(heatmap, _tile_ends(h), np.max, 1), _tile_ends(w), np.max, 2)
        # The tags of a tile lie between those of the coarse pixels that they are interpolated from.
        rows, columns = _source_ends(*self._rows[:2]), _source_ends(*self._columns[:2])
        self._low = _reduced(_reduced(tag, rows, np.min, 1), columns, np.min, 2)
        self._high = _reduced(_reduced(tag, rows, np.max, 1), columns, np.max, 2)

    def bounds(self, keypoints: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """What no position of each tile exceeds, float32 (M, tiles), for tags (M, T) of keypoints (M,)."""
        found = np.empty((len(keypoints), self._highest[0].size), np.float32)
        for k in np.unique(keypoints):
            own = np.flatnonzero(keypoints == k)
            goal = wanted[own, None]
            low, high = (ends[k].reshape(-1, goal.shape[2]) for ends in (self._low, self._high))
            outside = np.maximum(np.maximum(low - goal, goal - high), 0)
            found[own] = self._highest[k].ravel() - np.rint(_norm(outside))
        return found

    def improve(
        self,
        who: np.ndarray,
        tiles: np.ndarray,
        keypoints: np.ndarray,
        wanted: np.ndarray,
        best: np.ndarray,
        place: np.ndarray,
    ) -> None:
        """Look into tiles (Q,) for the joints ``who`` (Q,), and improve ``best`` (M,) and ``place`` (M,), row-major."""
        for start in range(0, len(who), _AT_A_TIME // TILE**2):
            part = slice(start, start + _AT_A_TIME // TILE**2)
            asked = who[part]
            values, places = self._highest_in(tiles[part], keypoints[asked], wanted[asked])
            order = np.lexsort((places, -values, asked))
            firsts = order[np.unique(asked[order], return_index=True)[1]]
            joint, value, where = asked[firsts], values[firsts], places[firsts]
            better = (value > best[joint]) | ((value == best[joint]) & (where < place[joint]))
            best[joint[better]], place[joint[better]] = value[better], where[better]

    def _highest_in(
        self, tiles: np.ndarray, keypoints: np.ndarray, wanted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The highest value in each tile (Q,), float32 (Q,), and its place, int64 (Q,), for tags (Q, T)."""
        _, h, w = self._heatmap.shape
        steps = np.arange(TILE)
        y = (tiles // self._across * TILE)[:, None] + steps
        x = (tiles % self._across * TILE)[:, None] + steps
        inside = (y < h)[:, :, None] & (x < w)[:, None, :]
        y, x = (
            np.minimum(y, h - 1)[:, :, None],
            np.minimum(x, w - 1)[:, None, :],
        )  # (Q, TILE, 1), (Q, 1, TILE)
        k = keypoints[:, None, None]
        apart = _norm(self._tags(k, y, x) - wanted[:, None, None])
        values = np.where(inside, self._heatmap[k, y, x] - np.rint(apart), -np.inf).reshape(len(tiles), -1)
        highest = values.argmax(axis=1)
        places = (y * w + x).reshape(len(tiles), -1)
        everybody = np.arange(len(tiles))
        return values[everybody, highest], places[everybody, highest]

    def _tags(self, k: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Tags (..., T) at pixels of the heatmap."""
        tag = self._tag
        if tag.shape[1:3] == self._heatmap.shape[1:]:
            return np.asarray(tag[k, y, x])
        (up, down, along), (left, right, across) = self._rows, self._columns
        share = across[x][..., None]
        above = tag[k, up[y], left[x]] * (1 - share) + tag[k, up[y], right[x]] * share
        below = tag[k, down[y], left[x]] * (1 - share) + tag[k, down[y], right[x]] * share
        share = along[y][..., None]
        return np.asarray(above * (1 - share) + below * share)


def _norm(differences: np.ndarray) -> np.ndarray:
    """(..., T) -> (...)."""
    if differences.shape[-1] == 1:
        return np.abs(differences[..., 0])
    return np.asarray(np.sqrt((differences**2).sum(axis=-1)))


def _tile_ends(size: int) -> list[tuple[int, int]]:
    """First and last pixel, that one excluded, of each tile along a side."""
    return [(start, min(start + TILE, size)) for start in range(0, size, TILE)]


def _source_ends(first: np.ndarray, second: np.ndarray) -> list[tuple[int, int]]:
    """The same in the coarse map, by the two neighbours (size,) of every pixel."""
    return [(int(first[start]), int(second[end - 1]) + 1) for start, end in _tile_ends(len(first))]


def _reduced(
    maps: np.ndarray, ends: list[tuple[int, int]], reduce: Callable[..., np.ndarray], axis: int
) -> np.ndarray:
    """Maps (K, h, w, ...) with each range of pixels along an axis reduced to one."""
    first = np.moveaxis(maps, axis, 0)
    return np.stack([reduce(first[start:end], axis=0) for start, end in ends], axis=axis)
