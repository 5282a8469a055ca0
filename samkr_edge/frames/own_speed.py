"""A video file at its own speed, as a camera gives it: for people who watch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Event, Lock

from samkr_edge.errors import SamkrError
from samkr_edge.frames.video import Frame, VideoSource

# Seconds for which a frame stands at most: a recording with a pause of an hour is not waited for.
_LONGEST_S = 2.0
# Seconds that closing waits for a read to return.
_JOIN_S = 1.0


class OwnSpeed:
    """The frames of a file, each not before its time; for a slower reader the video is slower.

    Attributes:
        live: whether frames may be dropped, as a camera's are, so that the video keeps its time.
    """

    def __init__(
        self, video: VideoSource, *, live: bool, again: Callable[[], VideoSource] | None = None
    ) -> None:
        """``again`` opens the file once more at its end, for ever: numbers and times then go on."""
        self.live = live
        self.name, self.place, self.fps = video.name, video.place, video.fps
        self.frames = None if live or again else video.frames
        self.expected = None if live or again else video.expected
        self.excerpt = video.excerpt
        self._first = self._video = video
        self._again = again
        self._stopping = Event()
        self._reading = Lock()

    def __iter__(self) -> Iterator[Frame]:
        due, gap = time.perf_counter(), 0.0
        last: Frame | None = None
        while not self._stopping.is_set():
            first, before = None, last
            for frame in self._held():
                if first is None:
                    first = frame
                    # Where this round's numbers and times begin; the first round has the file's own.
                    index = 0 if before is None else before.index + 1 - first.index
                    seconds = (
                        0.0 if before is None else before.seconds + (gap or 1 / self.fps) - first.seconds
                    )
                now = time.perf_counter()
                shown = replace(frame, index=index + frame.index, seconds=seconds + frame.seconds)
                gap = 0.0 if last is None else shown.seconds - last.seconds
                # A late frame is due now: those that follow do not hurry to make up for it.
                due = max(now, due + min(gap, _LONGEST_S))
                if self._stopping.wait(due - now):
                    return
                last = replace(shown, captured=due)
                yield last
            if self._again is None or first is None:
                return
            self._video.close()
            self._video = self._again()

    def _held(self) -> Iterator[Frame]:
        """The frames of the file; it is not closed while one is read."""
        frames = iter(self._video)
        while True:
            with self._reading:
                frame = None if self._stopping.is_set() else next(frames, None)
            if frame is None:
                return
            yield frame

    @property
    def read(self) -> int:
        """Frames read when it was played first; so are the four that follow."""
        return self._first.read

    @property
    def missing(self) -> int:
        return self._first.missing

    @property
    def note(self) -> str | None:
        return self._first.note

    @property
    def broken(self) -> bool:
        return self._first.broken

    def ended_early(self) -> SamkrError:
        return self._first.ended_early()

    def stop(self) -> None:
        """End the iteration, whatever it waits for."""
        self._stopping.set()

    def close(self) -> None:
        """Stop, and close the file."""
        self.stop()
        if self._reading.acquire(timeout=_JOIN_S):
            self._video.close()
            self._reading.release()
