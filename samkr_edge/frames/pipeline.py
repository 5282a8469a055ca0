"""A bounded pipeline of threads: every stage works on another frame, so the slowest stage sets the throughput.

OpenCV and the runtimes release Python's lock while they work, so threads are enough. One thread per stage keeps the
order; bounded channels between them bound the memory. A stage that is ahead waits (back-pressure), or, in newest mode,
frames that no stage has begun are dropped, so that a camera's picture is never old.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any

from samkr_edge.errors import SamkrError
from samkr_edge.frames.video import Frame
from samkr_edge.pose.poses import Poses
from samkr_edge.pose_model import PoseModel

# Seconds that closing waits for a stage; a thread stuck in a driver is abandoned and does not keep the program alive.
_JOIN_S = 5.0


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


def at_frame(failure: StageFailed, where: str) -> Exception:
    """The exception to raise: a cause that is our error, with the frame as a fact; else the failure itself."""
    cause = failure.__cause__
    if isinstance(cause, SamkrError):
        return SamkrError(cause.code, cause.message, {**cause.facts, "at": where}, cause.fix)
    return failure


class Ended(Exception):
    """Nothing more will come through a channel."""


class Channel:
    """A bounded queue that can end (its items still arrive) or be closed (all waiting calls return immediately)."""

    def __init__(self, size: int, *, newest: bool = False) -> None:
        self.size = size
        self.newest = newest
        self.dropped = 0
        self._items: deque[Any] = deque()
        self._ended = False
        self._closed = False
        self._failure: StageFailed | None = None
        self._changed = Condition()

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

    def get(self, timeout: float | None = None) -> Any:
        """The next item.

        Raises:
            Ended, StageFailed: how the stage before ended; TimeoutError: nothing came for ``timeout`` seconds.
        """
        with self._changed:
            ready = self._changed.wait_for(lambda: self._items or self._ended or self._closed, timeout)
            if not ready:
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


PoseStage = tuple[str, Callable[[Any], Any]]


class Pipeline:
    """Iterate over what the last stage returns, in order; a context manager that always stops its threads.

    Args:
        source: what the first thread iterates over; its time is stage ``capture``.
        stages: names and functions, one thread each. None from a function drops the item.
        depth: items that may wait before each stage.
        newest: drop items that wait before the first stage when fresh ones come.
        patience: seconds without a result after which iterating raises TimeoutError.

    Attributes:
        busy: seconds of each stage by the clock, including waiting for a core or for Python's lock.
        cpu: CPU seconds of each stage's thread, without threads of libraries.
    """

    def __init__(
        self,
        source: Iterable[Any],
        stages: Sequence[PoseStage],
        *,
        depth: int = 2,
        newest: bool = False,
        patience: float | None = None,
    ) -> None:
        self.busy = {"capture": 0.0, **{name: 0.0 for name, _ in stages}}
        self.cpu = dict(self.busy)
        self._patience = patience
        self._channels = [Channel(1 if newest else depth, newest=newest)]
        self._channels += [Channel(depth) for _ in stages]
        self._threads = [Thread(target=self._capture, args=(source,), daemon=True, name="capture")]
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
        return self._channels[0].dropped

    def _capture(self, source: Iterable[Any]) -> None:
        out, number = self._channels[0], 0
        try:
            items = iter(source)
            while True:
                started, began = time.perf_counter(), time.thread_time()
                try:
                    item = next(items)
                except StopIteration:
                    out.end()
                    return
                self._count("capture", started, began)
                if not out.put((number, item)):
                    return
                number += 1
        except BaseException as error:
            out.end(StageFailed("capture", number, error))

    def _stage(self, name: str, work: Callable[[Any], Any], before: Channel, after: Channel) -> None:
        number = 0
        try:
            while True:
                number, item = before.get()
                started, began = time.perf_counter(), time.thread_time()
                result = work(item)
                self._count(name, started, began)
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

    def _count(self, name: str, started: float, began: float) -> None:
        self.busy[name] += time.perf_counter() - started
        self.cpu[name] += time.thread_time() - began

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


@dataclass
class FrameInFlight:
    """One frame in the pipeline: after all stages ``poses`` are in its image's pixels.

    ``ms`` is how long each stage worked on it, in milliseconds.
    """

    frame: Frame
    input: Any = None
    fit: Any = None
    outputs: Any = None
    poses: Poses = field(default_factory=lambda: Poses.empty(0))
    ms: dict[str, float] = field(default_factory=dict)


@contextmanager
def _clocked(seen: FrameInFlight, stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seen.ms[stage] = 1e3 * (time.perf_counter() - started)


def pose_stages(
    model: PoseModel, finish: Callable[[FrameInFlight], Any] | None = None, *, depth: int = 2
) -> list[PoseStage]:
    """The stages of a pose stream: frame -> what ``finish`` makes of ``FrameInFlight``, in the decoding thread."""
    # Inputs in use: those waiting for the network, one in it, and one being written.
    ring = [model.new_input() for _ in range(depth + 2)]
    turn = 0

    def preprocess(frame: Frame) -> FrameInFlight:
        nonlocal turn
        turn = (turn + 1) % len(ring)
        seen = FrameInFlight(frame, ring[turn])
        if frame.image is not None:
            with _clocked(seen, "preprocess"):
                seen.fit = model.preprocess(frame.image, seen.input[0], bgr=True)
        return seen

    def network(seen: FrameInFlight) -> FrameInFlight:
        if seen.frame.image is not None:
            with _clocked(seen, "network"):
                seen.outputs = model.runner.run(seen.input)
        return seen

    def decode(seen: FrameInFlight) -> Any:
        if seen.frame.image is not None:
            with _clocked(seen, "decode"):
                seen.poses = model.poses([output[0] for output in seen.outputs], seen.fit)
            seen.outputs = None
        return seen if finish is None else finish(seen)

    return [("preprocess", preprocess), ("network", network), ("decode", decode)]
