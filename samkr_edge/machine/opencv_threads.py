"""OpenCV's own threads, a setting of the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import cv2

# What was asked for inside of `with` statements that may end in any order, since two streams can be read at a time:
# the number from before comes back with the last of them.
_LOCK = Lock()
_asked: list[int] = []


@contextmanager
def opencv_threads(count: int) -> Iterator[None]:
    """Set their number inside ``with``."""
    with _LOCK:
        if not _asked:
            _asked.append(cv2.getNumThreads())
        _asked.append(count)
        cv2.setNumThreads(count)
    try:
        yield
    finally:
        with _LOCK:
            del _asked[len(_asked) - 1 - _asked[::-1].index(count)]
            cv2.setNumThreads(_asked[-1])
            if len(_asked) == 1:
                _asked.clear()
