"""Where would a person's missing joint be? The highest value of the heatmap less the rounded distance of tags.

The official code computes this at every position of the map, for every joint of every person. Here only missing joints
are looked for, and only where they can be. Most have a faint response of their own: if the best of all positions above
a level is above it, no position below can be better. For the others a tile of the map, whose largest value and range of
tags are known, bounds what is in it. The result is the same, ties included: of equal places the first in row-major
order.
"""

from __future__ import annotations

import numpy as np

# Heatmap values down to which all positions are tried at once.
_LEVELS = (0.05, 0.0125)
# Side of a tile, map pixels.
TILE = 8
# Tiles of each joint that are looked into one by one, best bound first; then all that may still hold the best place.
_ROUNDS = 4
# Positions evaluated at a time: bounds the memory.
_AT_A_TIME = 1 << 20


def find_missing(
    heatmap: np.ndarray, tag: np.ndarray, there: np.ndarray, tags: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The place of every missing joint.

    Args:
        heatmap: float32 (K, h, w).
        tag: float32 (K, h, w, T).
        there: bool (P, K), the joints that a person has: at least one.
        tags: float32 (P, K, T) of those joints.

    Returns:
        Person (M,) and keypoint (M,) of each missing joint, int64, and its place int64 (M, 2), x and y in map pixels.
    """
    people, keypoints = np.nonzero(~there)
    if not len(people):
        return people, keypoints, np.zeros((0, 2), np.int64)
    mean = (tags * there[..., None]).sum(axis=1) / there.sum(axis=1, keepdims=True)  # (P, T)
    place = _Search(heatmap, tag, keypoints, mean[people].astype(np.float32)).places()
    width = heatmap.shape[2]
    return people, keypoints, np.stack([place % width, place // width], axis=1)


class _Search:
    """The best place of each of M joints.

    Args:
        heatmap: (K, h, w).
        tag: (K, h, w, T).
        keypoints: (M,).
        wanted: (M, T), the tags that they should have.
    """

    def __init__(
        self, heatmap: np.ndarray, tag: np.ndarray, keypoints: np.ndarray, wanted: np.ndarray
    ) -> None:
        self._maps, self._tags = heatmap, tag
        self._keypoints, self._wanted = keypoints, wanted
        self._best = np.full(len(keypoints), -np.inf, np.float32)
        self._place = np.full(len(keypoints), np.iinfo(np.int64).max)

    def places(self) -> np.ndarray:
        """In row-major order, int64 (M,)."""
        left = np.concatenate([self._above_levels(k) for k in np.unique(self._keypoints)])
        if len(left):
            self._in_tiles(left)
        return self._place

    def _above_levels(self, keypoint: int) -> np.ndarray:
        """Try the positions above each level; returns the joints (R,) whose best place may still be below."""
        left = np.flatnonzero(self._keypoints == keypoint)
        heat, tag = self._maps[keypoint].ravel(), self._tags[keypoint].reshape(self._maps[0].size, -1)
        places = np.flatnonzero(heat >= _LEVELS[-1])
        heat = heat[places]
        for level in _LEVELS:
            above = heat >= level
            count = np.count_nonzero(above)
            if not count or count * len(left) > _AT_A_TIME:
                continue
            there = places[above]
            values = heat[above] - np.rint(_apart(tag[there], self._wanted[left, None]))
            highest = values.argmax(axis=1)
            best = values[np.arange(len(left)), highest]
            self._best[left], self._place[left] = best, there[highest]
            left = left[best < level]
            if not len(left):
                break
        return left

    def _in_tiles(self, left: np.ndarray) -> None:
        """Find the best places of joints (R,), numbers below M."""
        # (K, rows, columns, TILE, TILE, 1 or T)
        self._heat, self._tag = _tiled(self._maps[..., None]), _tiled(self._tags)
        bounds = self._bounds(left)
        for _ in range(_ROUNDS):
            tiles = bounds.argmax(axis=1)
            # A bound equal to the best may hide an equal value at an earlier place.
            may = bounds[np.arange(len(left)), tiles] >= self._best[left]
            bounds, left, tiles = bounds[may], left[may], tiles[may]
            self._look(left, tiles)
            bounds[np.arange(len(left)), tiles] = -np.inf
        which, tiles = np.nonzero(bounds >= self._best[left, None])
        for start in range(0, len(tiles), _AT_A_TIME // TILE**2):
            part = slice(start, start + _AT_A_TIME // TILE**2)
            self._look(left[which[part]], tiles[part])

    def _bounds(self, joints: np.ndarray) -> np.ndarray:
        """What no position of each tile exceeds for joints (R,), float32 (R, tiles)."""
        keypoints, wanted = self._keypoints[joints], self._wanted[joints]
        outside = []
        for number in range(wanted.shape[1]):
            goal, tag = wanted[:, number, None], self._tag[..., number]
            low, high = (_ends(tag, end)[keypoints] for end in (np.minimum, np.maximum))
            outside.append(np.maximum(np.maximum(low - goal, goal - high), 0))
        apart = _apart(np.stack(outside, axis=-1), np.float32(0))
        return _ends(self._heat[..., 0], np.maximum)[keypoints] - np.rint(apart)

    def _look(self, joints: np.ndarray, tiles: np.ndarray) -> None:
        """Look for ``joints`` (Q,), numbers below M, in tiles (Q,)."""
        if not len(joints):
            return
        row, column = np.divmod(tiles, self._heat.shape[2])
        at = self._keypoints[joints], row, column
        apart = _apart(self._tag[at], self._wanted[joints, None, None])  # (Q, TILE, TILE)
        values = (self._heat[at][..., 0] - np.rint(apart)).reshape(len(tiles), -1)
        inside = values.argmax(axis=1)
        value = values[np.arange(len(tiles)), inside]
        # Beyond the border the last row and column are repeated, and what is found there is found on them first.
        place = (row * TILE + inside // TILE) * self._maps.shape[2] + column * TILE + inside % TILE
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
    """(K, h, w, T) -> (K, rows, columns, TILE, TILE, T), a view unless the maps end within a tile."""
    count, h, w, numbers = maps.shape
    if h % TILE or w % TILE:
        maps = np.pad(maps, ((0, 0), (0, -h % TILE), (0, -w % TILE), (0, 0)), mode="edge")
    rows, columns = maps.shape[1] // TILE, maps.shape[2] // TILE
    return maps.reshape(count, rows, TILE, columns, TILE, numbers).transpose(0, 1, 3, 2, 4, 5)


def _ends(tiled: np.ndarray, end: np.ufunc) -> np.ndarray:
    """The least or largest value of each tile: (K, rows, columns, TILE, TILE) -> (K, tiles)."""
    lines = end.reduce(tiled, axis=3)  # whole rows of the map at a time
    while lines.shape[3] > 1:  # a short last axis is slow to reduce
        half = lines.shape[3] // 2
        lines = end(lines[..., :half], lines[..., half:])
    return np.asarray(lines.reshape(len(tiled), -1))
