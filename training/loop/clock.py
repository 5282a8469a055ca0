"""How long a run has trained; time in validation does not count."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Starts when it is made.

    Args:
        minutes: what the run had trained before it was resumed.
    """

    def __init__(self, minutes: float = 0.0) -> None:
        self._minutes_before = minutes
        self._began = time.monotonic()
        self._paused = 0.0

    @property
    def seconds(self) -> float:
        """Since the run began or was resumed; never 0."""
        return max(time.monotonic() - self._began - self._paused, 1e-9)

    @property
    def minutes(self) -> float:
        """Of the whole run."""
        return self._minutes_before + self.seconds / 60

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time inside ``with`` does not count."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._paused += time.monotonic() - began
