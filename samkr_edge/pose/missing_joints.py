"""Where would a person's missing joint be? The highest value of the heatmap less the rounded distance of tags.

The official code computes this at every position of the map, for every joint of every person. Here only missing joints
are looked for, and only where they can be. Most have a faint response of their own: if the best of all responses is
above the level from which on a pixel is one, no other pixel can be better. For the others a tile of the map, whose
largest value and range of tags are known, bounds what is in it. The result is the same, ties included: of equal places
the first in row-major order.
"""

from __future__ import annotations

import numpy as np

from samkr_edge.pose.responses import Responses, enlarged_tags

# Side of a tile, map pixels.
TILE = 8
# Tiles of each joint that are looked into one by one, best bound first; then all that may still hold the best place.
_ROUNDS = 4
# Positions evaluated at a time: bounds the memory.
_AT_A_TIME = 1 << 20


def find_missing(
    heatmap: np.ndarray, tag: np.ndarray, responses: Responses, there: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The place of every missing joint.

    Args:
        heatmap: float32 (K, h, w).
        tag: float32 (K, H, W, T).
        responses: of both.
        there: bool (P, K), the joints that a person has: at least one.
        own: float32 (P, K, T), tags of those joints; 0 elsewhere.

    Returns:
        Person (M,) and keypoint (M,) of each missing joint, int64, and its place int64 (M, 2), x and y in map pixels.
    """
    keypoints, people = np.nonzero(~there.T)
    wanted = (own.sum(axis=1) / there.sum(axis=1, keepdims=True)).astype(np.float32)[people]  # (M, T)
    ends = np.searchsorted(keypoints, np.arange(len(heatmap) + 1)).tolist()
    place = np.zeros(len(keypoints), np.int64)
    for k, part in enumerate(map(slice, ends, ends[1:])):
        if part.start < part.stop:
            best, at = _among(responses, slice(responses.ends[k], responses.ends[k + 1]), wanted[part])
            place[part] = at - k * heatmap[k].size
            left = np.flatnonzero(best < responses.level)
            if len(left):
                fine = enlarged_tags(tag[k], heatmap[k].shape)
                _Tiles(heatmap[k], fine, wanted[part], best, place[part]).search(left)
    width = heatmap.shape[2]
    return people, keypoints, np.stack([place % width, place // width], axis=1)


def _among(responses: Responses, part: slice, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best of a part of the responses for tags (M, T): value float32 (M,) and place int64 (M,)."""
    values = responses.values[part]
    if not 0 < len(values) * len(wanted) <= _AT_A_TIME:
        return np.full(len(wanted), -np.inf, np.float32), np.full(len(wanted), np.iinfo(np.int64).max)
    values = values - np.rint(_apart(responses.tags[part], wanted[:, None]))
    highest = values.argmax(axis=1)
    return values[np.arange(len(wanted)), highest], responses.places[part][highest]


class _Tiles:
    """The best place of each of M joints, better than a known one.

    Args:
        heatmap: (h, w).
        tag: (h, w, T).
        wanted: (M, T), the tags that they should have.
        best: (M,), the values of the known ones, changed.
        place: (M,), row-major, changed.
    """

    def __init__(
        self, heatmap: np.ndarray, tag: np.ndarray, wanted: np.ndarray, best: np.ndarray, place: np.ndarray
    ) -> None:
        self._width = heatmap.shape[1]
        # (rows, columns, TILE, TILE, 1 or T)
        self._heat, self._tag = _tiled(heatmap[..., None]), _tiled(tag)
        self._wanted, self._best, self._place = wanted, best, place

    def search(self, left: np.ndarray) -> None:
        """Find those of joints (R,), numbers below M."""
        bounds = self._bounds(self._wanted[left])
        for _ in range(_ROUNDS):
            tiles = bounds.argmax(axis=1)
            # A bound equal to the best may hide an equal value at an earlier place.
            may = bounds[np.arange(len(left)), tiles] >= self._best[left]
            bounds, left, tiles = bounds[may], left[may], tiles[may]
            if not len(left):
                return
            self._look(left, tiles)
            bounds[np.arange(len(left)), tiles] = -np.inf
        which, tiles = np.nonzero(bounds >= self._best[left, None])
        for start in range(0, len(tiles), _AT_A_TIME // TILE**2):
            part = slice(start, start + _AT_A_TIME // TILE**2)
            self._look(left[which[part]], tiles[part])

    def _bounds(self, wanted: np.ndarray) -> np.ndarray:
        """What no position of each tile exceeds for tags (R, T): float32 (R, tiles)."""
        low, high = (
            np.stack([_ends(one, end) for one in np.moveaxis(self._tag, -1, 0)], axis=-1)
            for end in (np.minimum, np.maximum)
        )
        goal = wanted[:, None]
        outside = np.maximum(np.maximum(low - goal, goal - high), 0)
        return np.asarray(_ends(self._heat[..., 0], np.maximum) - np.rint(_apart(outside, np.float32(0))))

    def _look(self, joints: np.ndarray, tiles: np.ndarray) -> None:
        """Look for ``joints`` (Q,), numbers below M, in tiles (Q,)."""
        row, column = np.divmod(tiles, self._heat.shape[1])
        apart = _apart(self._tag[row, column], self._wanted[joints, None, None])  # (Q, TILE, TILE)
        values = (self._heat[row, column, ..., 0] - np.rint(apart)).reshape(len(tiles), -1)
        inside = values.argmax(axis=1)
        value = values[np.arange(len(tiles)), inside]
        # Beyond the border the last row and column are repeated, and what is found there is found on them first.
        place = (row * TILE + inside // TILE) * self._width + column * TILE + inside % TILE
        order = np.lexsort((place, -value, joints))
        firsts = order[np.unique(joints[order], return_index=True)[1]]
        own, value, place = joints[firsts], value[firsts], place[firsts]
        better = (value > self._best[own]) | ((value == self._best[own]) & (place < self._place[own]))
        self._best[own[better]], self._place[own[better]] = value[better], place[better]


def _apart(tags: np.ndarray, others: np.ndarray | np.float32) -> np.ndarray:
    """Distance along the last axis, (..., T) -> (...)."""
    difference = tags - others
    if difference.shape[-1] == 1:
        return np.abs(difference[..., 0])
    return np.asarray(np.sqrt((difference**2).sum(axis=-1)))


def _tiled(maps: np.ndarray) -> np.ndarray:
    """(h, w, T) -> (rows, columns, TILE, TILE, T), a view unless the maps end within a tile."""
    h, w, numbers = maps.shape
    if h % TILE or w % TILE:
        maps = np.pad(maps, ((0, -h % TILE), (0, -w % TILE), (0, 0)), mode="edge")
    rows, columns = maps.shape[0] // TILE, maps.shape[1] // TILE
    return maps.reshape(rows, TILE, columns, TILE, numbers).transpose(0, 2, 1, 3, 4)


def _ends(tiled: np.ndarray, end: np.ufunc) -> np.ndarray:
    """The least or largest value of each tile: (rows, columns, TILE, TILE) -> (tiles,)."""
    lines = end.reduce(tiled, axis=2)  # whole rows of the map at a time
    while lines.shape[2] > 1:  # a short last axis is slow to reduce
        half = lines.shape[2] // 2
        lines = end(lines[..., :half], lines[..., half:])
    return np.asarray(lines.ravel())
