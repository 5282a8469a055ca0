"""How the CPU is used: as many threads as train fastest just now, and memory that is kept.

The threads of one step wait for each other after every layer. Next to other busy processes each of them also waits for
a core, and several threads become far slower than one: among eight busy processes on two cores, two threads trained
1.6 images/s and one 7.3. What is busy changes, so both are tried now and then, on steps that count like any other.
"""

from __future__ import annotations

import ctypes
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

TRIAL_STEPS = 3  # for each number of threads; the median ignores one that was disturbed
EVERY_SECONDS = 60.0  # between trials; twice as long each time that the choice is confirmed
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h


class FastestThreads:
    """Runs each training step with all threads or with one, whichever was faster when both were last tried.

    Another number of threads sums in another order: a run that must be repeatable bit for bit cannot use this.

    Args:
        most: number of threads that all cores take.
        clock: seconds; tests bring their own.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.chosen = most
        self._most = most
        self._clock = clock
        self._due = -float("inf")
        self._pause = EVERY_SECONDS
        self._trial: list[int] = []
        self._times: dict[int, list[float]] = {}

    @contextmanager
    def step(self) -> Iterator[None]:
        """One training step."""
        if self._most > 1 and not self._trial and self._clock() >= self._due:
            self._trial = [self._most] * TRIAL_STEPS + [1] * TRIAL_STEPS
            self._times = {}
        threads = self._trial[0] if self._trial else self.chosen
        torch.set_num_threads(threads)
        began = self._clock()
        yield
        if not self._trial:
            return
        self._times.setdefault(threads, []).append(self._clock() - began)
        self._trial.pop(0)
        if not self._trial:
            fastest = min(self._times, key=lambda tried: statistics.median(self._times[tried]))
            self._pause = 2 * self._pause if fastest == self.chosen else EVERY_SECONDS
            self.chosen = fastest
            self._due = self._clock() + self._pause


def keep_freed_memory() -> bool:
    """Tell glibc to serve large blocks from the heap and never to trim it; True if the C library can.

    A training step on the CPU otherwise spends a quarter of its time in page faults.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # not glibc
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 << 20))
    return all(mallopt(option, value) == 1 for option, value in settings)
