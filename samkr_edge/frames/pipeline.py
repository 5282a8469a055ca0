"""A bounded pipeline of threads: every stage works on another frame, so the slowest stage sets the throughput.

OpenCV and the runtimes release Python's lock while they work, so threads are enough. One thread per stage keeps the
order; bounded channels between them bound the memory. A stage that is ahead waits (back-pressure), or, in newest mode,
frames that no stage has begun are dropped, so that a camera's picture is never old.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import Thread
from typing import Any

from samkr_edge.errors import SamkrError
from samkr_edge.frames.channel import Channel, Ended, Feeds, StageFailed

# Seconds that closing waits for a stage; a thread stuck in a driver is abandoned and does not keep the program alive.
_JOIN_S = 5.0


def at_frame(failure: StageFailed, where: str) -> Exception:
    """The exception to raise: a cause that is our error, with the frame as a fact; else the failure itself."""
    cause = failure.__cause__
    if isinstance(cause, SamkrError):
        return SamkrError(cause.code, cause.message, {**cause.facts, "at": where}, cause.fix)
    return failure


def why_ended(failure: StageFailed, source: str) -> SamkrError:
    """Why a source of this name gave no more frames; raises the failure itself if it is no error of ours."""
    error = at_frame(failure, f"frame {failure.frame} of {source}")
    if not isinstance(error, SamkrError):
        raise failure
    return error


@dataclass(frozen=True)
class Together:
    """Sources that run at the same time, a capture thread each.

    The first stage gets lists of (number of the source, item), with at most one item of a source; the last item of a
    source is the ``StageFailed`` or ``Ended`` that it ended with.

    Attributes:
        newest: of each source, whether it drops what waits when something fresh comes.
        most: items in a list.
    """

    sources: Sequence[Iterable[Any]]
    newest: Sequence[bool]
    most: int = 1


@dataclass
class Spent:
    """Seconds by the clock, including waiting for a core or for Python's lock, and CPU seconds of a thread."""

    busy: float = 0.0
    cpu: float = 0.0

    def since(self, started: float, began: float) -> None:
        """Add what passed since ``time.perf_counter()`` and ``time.thread_time()`` gave these."""
        self.busy += time.perf_counter() - started
        self.cpu += time.thread_time() - began


PoseStage = tuple[str, Callable[[Any], Any]]


class Pipeline:
    """Iterate over what the last stage returns, in order; a context manager that always stops its threads.

    Args:
        source: what the first thread iterates over, or several sources; its time is stage ``capture``.
        stages: names and functions, one thread each. None from a function drops the item.
        depth: items that may wait before each stage.
        newest: drop items that wait before the first stage when fresh ones come.
        patience: seconds without a result after which iterating raises TimeoutError.

    Attributes:
        captured: time spent on each source; CPU time is without threads of libraries.
        spent: the same of each stage by name.
    """

    def __init__(
        self,
        source: Iterable[Any] | Together,
        stages: Sequence[PoseStage],
        *,
        depth: int = 2,
        newest: bool = False,
        patience: float | None = None,
    ) -> None:
        self._patience = patience
        first: Channel | Feeds
        if isinstance(source, Together):
            sources = source.sources
            first = Feeds(source.newest, depth=depth, most=source.most)
            self._inlets = first.channels
        else:
            sources = [source]
            first = Channel(1 if newest else depth, newest=newest)
            self._inlets = [first]
        self.captured = [Spent() for _ in sources]
        self.spent = {name: Spent() for name, _ in stages}
        self._channels: list[Any] = [first, *(Channel(depth) for _ in stages)]
        self._threads = [
            Thread(target=self._capture, args=each, daemon=True, name="capture")
            for each in zip(sources, self._inlets, self.captured, strict=True)
        ]
        for (name, work), before, after in zip(stages, self._channels, self._channels[1:], strict=False):
            self._threads.append(
                Thread(target=self._stage, args=(name, work, before, after), daemon=True, name=name)
            )

    @staticmethod
    def in_flight(stages: int, depth: int = 2) -> int:
        """Most items that exist at a time: waiting, in a stage, being captured, and with the reader."""
        return (stages + 1) * depth + stages + 2

    @property
    def dropped(self) -> int:
        """Items that newest mode dropped."""
        return sum(inlet.dropped for inlet in self._inlets)

    def dropped_of(self, source: int) -> int:
        """Those of one source."""
        return self._inlets[source].dropped

    def _capture(self, source: Iterable[Any], out: Channel, spent: Spent) -> None:
        number = 0
        try:
            items = iter(source)
            while True:
                started, began = time.perf_counter(), time.thread_time()
                try:
                    item = next(items)
                except StopIteration:
                    out.end()
                    return
                spent.since(started, began)
                if not out.put((number, item)):
                    return
                number += 1
        except BaseException as error:
            out.end(StageFailed("capture", number, error))

    def _stage(self, name: str, work: Callable[[Any], Any], before: Channel | Feeds, after: Channel) -> None:
        number = 0
        try:
            while True:
                number, item = before.get()
                started, began = time.perf_counter(), time.thread_time()
                result = work(item)
                self.spent[name].since(started, began)
                if result is not None and not after.put((number, result)):
                    before.close()
                    return
        except Ended:
            after.end()
        except StageFailed as failure:  # from an earlier stage
            after.end(failure)
        except BaseException as error:
            after.end(StageFailed(name, number, error))
            before.close()

    def __enter__(self) -> Pipeline:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        while True:
            try:
                _, item = self._channels[-1].get(self._patience)
            except Ended:
                return
            yield item

    @property
    def stopped(self) -> bool:
        """Whether all threads have ended."""
        return not any(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Stop every stage after its current frame; waits for them, but not forever."""
        for channel in self._channels:
            channel.close()
        deadline = time.monotonic() + _JOIN_S
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
