"""Bounded queues between threads: one that can end, and several that are taken from in turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from threading import Condition
from typing import Any


class StageFailed(Exception):
    """A stage raised; the cause is ``__cause__``.

    Attributes:
        stage: its name.
        frame: number of the frame that it worked on, from 0.
    """

    def __init__(self, stage: str, frame: int, error: BaseException) -> None:
        super().__init__(f"frame {frame}, {stage}: {type(error).__name__}: {error}")
        self.stage = stage
        self.frame = frame
        self.__cause__ = error


class Ended(Exception):
    """Nothing more will come through a channel."""


class Channel:
    """A bounded queue that can end (its items still arrive) or be closed (all waiting calls return immediately).

    Attributes:
        dropped: items that newest mode dropped.
    """

    def __init__(self, size: int, *, newest: bool = False, changed: Condition | None = None) -> None:
        self.size = size
        self.newest = newest
        self.dropped = 0
        self._items: deque[Any] = deque()
        self._ended = False
        self._closed = False
        self._failure: StageFailed | None = None
        self._changed = changed or Condition()

    def put(self, item: Any) -> bool:
        """Wait for room, or in newest mode make room; False if the channel was closed."""
        with self._changed:
            if self.newest and len(self._items) >= self.size:
                self._items.popleft()
                self.dropped += 1
            while len(self._items) >= self.size and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    @property
    def closed(self) -> bool:
        """Whether nobody will take an item any more."""
        return self._closed

    @property
    def ready(self) -> bool:
        """Whether ``get`` returns or raises at once."""
        return bool(self._items) or self._ended or self._closed

    def get(self, timeout: float | None = None) -> Any:
        """The next item.

        Raises:
            Ended, StageFailed: how the stage before ended; TimeoutError: nothing came for ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.ready, timeout):
                raise TimeoutError
            if self._closed or not self._items:
                raise self._failure or Ended
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def end(self, failure: StageFailed | None = None) -> None:
        """No more items; ``failure`` arrives after the remaining ones."""
        with self._changed:
            self._ended, self._failure = True, failure
            self._changed.notify_all()

    def close(self) -> None:
        """Wake all waiting calls and stop all items."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()


class Feeds:
    """A channel for each of several sources; ``get`` takes from them in turn, so that a fast one starves no other."""

    def __init__(self, newest: Sequence[bool], *, depth: int = 2, most: int = 1) -> None:
        """``newest`` says of each source whether it drops what waits; ``most`` sources are taken from at a time."""
        self._changed = Condition()
        self.channels = [
            Channel(1 if drops else depth, newest=drops, changed=self._changed) for drops in newest
        ]
        self._open = list(range(len(self.channels)))  # the one whose turn it is comes first
        self._most = most
        self._closed = False

    def get(self, timeout: float | None = None) -> tuple[int, list[tuple[int, Any]]]:
        """The next items, at most one of a source, with its number, and before them the first one's own number.

        Through a channel go (number, item); a failure or ``Ended`` is the last item of its source.

        Raises:
            Ended: of every source; TimeoutError: nothing came for ``timeout`` seconds.
        """
        with self._changed:
            waiting = self._changed.wait_for(
                lambda: self._closed or not self._open or any(self.channels[n].ready for n in self._open),
                timeout,
            )
            if not waiting:
                raise TimeoutError
            if self._closed or not self._open:
                raise Ended
            ready = [n for n in self._open if self.channels[n].ready][: self._most]
            taken = [(source, *self._take(source)) for source in ready]
            return taken[0][1], [(source, item) for source, _, item in taken]

    def _take(self, source: int) -> tuple[int, Any]:
        self._open.remove(source)
        try:
            number, item = self.channels[source].get()
        except (Ended, StageFailed) as end:
            return getattr(end, "frame", 0), end
        self._open.append(source)
        return number, item

    def close(self) -> None:
        """Wake all waiting calls and stop all items."""
        with self._changed:
            self._closed = True
            for channel in self.channels:
                channel.close()
