"""A camera or network stream: frames as they come, opened again when it drops, and never waited for without end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Event, Thread

import cv2
import numpy as np

from samkr_edge.errors import SamkrError
from samkr_edge.frames.channel import Channel, Ended, StageFailed
from samkr_edge.frames.excerpt import Excerpt
from samkr_edge.frames.video import Capture, Frame, usable_image, usable_rate
from samkr_edge.printable import counted
from samkr_edge.terminal import say

# After so many failed reads, at this interval, a source counts as lost.
_TRIES, _PAUSE_S = 20, 0.1
# Seconds without a frame after which it is lost too: its driver hangs.
PATIENCE_S = 15.0
# Seconds before each attempt to open a lost source again; the last one from then on. Who gave frames for as long as
# that begins anew.
_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 10.0)
# Seconds that closing waits for a read to return.
_JOIN_S = 1.0


class LiveSource:
    """Frames of a live source, which does not end and must not be kept waiting.

    Attributes:
        name: of the source, for messages, without passwords.
        fps: frames a second by the source; 30 if it does not say.
        read: frames read so far.
    """

    live = True
    frames: int | None = None
    expected: int | None = None
    missing = 0
    note: str | None = None
    broken = False
    excerpt = Excerpt()

    def __init__(
        self,
        capture: Capture,
        name: str,
        *,
        fps: float = 30.0,
        reopen: Callable[[], Capture | None] | None = None,
        pause: float = _PAUSE_S,
        patience: float = PATIENCE_S,
        delays: tuple[float, ...] = _DELAYS_S,
        tell: Callable[[str], None] = say,
    ) -> None:
        """With ``reopen``, which gives a capture or None, a lost source is opened again; ``tell`` hears of it."""
        self.name = name
        self.fps = usable_rate(fps)
        self.read = 0
        self._reopen = reopen
        self._pause = pause
        self._patience = patience
        self._delays = delays
        self._tell = tell
        self._stopping = Event()
        self._attempts = 0
        self._reader = _Reader(lambda: capture, pause)

    def __iter__(self) -> Iterator[Frame]:
        started = back = time.perf_counter()
        self._reader.start()
        while not self._stopping.is_set():
            asked = time.perf_counter()
            if (taken := self._reader.next(self._patience)) is None:
                if self._stopping.is_set():
                    return
                if self._reopen is None:
                    raise lost(self.name, self.read)
                if time.perf_counter() - back > self._delays[-1]:
                    self._attempts = 0
                if (taken := self._again(self._reopen)) is None:
                    return
                back = time.perf_counter()
            image, now = taken
            index = self.read
            self.read += 1
            yield Frame(index, image, now - started, now, read_ms=1e3 * max(0.0, now - asked))

    def _again(self, reopen: Callable[[], Capture | None]) -> tuple[np.ndarray, float] | None:
        """The first frame after opening the source again, whenever that is; None if it is stopped before."""
        gone = time.perf_counter()
        self._tell(f"{self.name} stopped giving frames; trying to open it again until it is back")
        while True:
            self._reader.leave()
            delay = self._delays[min(self._attempts, len(self._delays) - 1)]
            self._attempts += 1
            if self._stopping.wait(delay):
                return None
            if self._reader.is_alive():  # still in its driver, which would refuse a second one
                continue
            self._reader = _Reader(reopen, self._pause)
            if self._stopping.is_set():
                return None
            self._reader.start()
            if (taken := self._reader.next(self._patience)) is not None:
                self._tell(f"{self.name} is back after {time.perf_counter() - gone:.0f} s")
                return taken

    @property
    def place(self) -> str:
        """For other programs."""
        return self.name

    def ended_early(self) -> SamkrError:
        """The error for a source that stopped giving frames."""
        return lost(self.name, self.read)

    def stop(self) -> None:
        """End the iteration, whatever it waits for."""
        self._stopping.set()
        self._reader.leave()

    def close(self) -> None:
        """Stop, and release the camera as soon as its driver lets go."""
        self.stop()
        self._reader.finish()


class _Reader(Thread):
    """Opens and reads a capture in a thread of its own, which a driver may hold for ever, and releases it there."""

    def __init__(self, opened: Callable[[], Capture | None], pause: float) -> None:
        super().__init__(daemon=True, name="camera")
        self._opened = opened
        self._pause = pause
        self._frames = Channel(1)

    def next(self, patience: float) -> tuple[np.ndarray, float] | None:
        """The next frame (H, W, 3) and when it was read; None if it is lost.

        Raises what reading raised, if that was no usual loss.
        """
        try:
            frame: tuple[np.ndarray, float] = self._frames.get(patience)
        except StageFailed as failure:
            raise failure.__cause__ or failure from None
        except (Ended, TimeoutError):
            return None
        return frame

    def leave(self) -> None:
        """Let it end by itself."""
        self._frames.close()

    def finish(self) -> None:
        """Release the capture, at once if no thread is in it."""
        if self.ident is None:
            self._release(self._opened())
        elif self.is_alive():
            self.join(_JOIN_S)

    def run(self) -> None:
        capture, failure = None, None
        try:
            capture = self._opened()
            if capture is not None:
                self._read(capture)
        except SamkrError:
            pass  # it does not open
        except BaseException as error:
            failure = StageFailed("capture", 0, error)
        finally:
            self._release(capture)
            self._frames.end(failure)

    def _read(self, capture: Capture) -> None:
        misses = 0
        while misses < _TRIES and not self._frames.closed:
            image = _one(capture)
            if image is None:
                misses += 1
                time.sleep(self._pause)
                continue
            misses = 0
            if not self._frames.put((image, time.perf_counter())):
                return

    @staticmethod
    def _release(capture: Capture | None) -> None:
        if capture is not None:
            capture.release()


def _one(capture: Capture) -> np.ndarray | None:
    """The next frame (H, W, 3); None if there is none."""
    try:
        ok, image = capture.read()
    except cv2.error:
        return None
    return usable_image(image) if ok else None


def lost(name: str, frames: int) -> SamkrError:
    """The error for a live source that stopped giving frames."""
    return SamkrError(
        "SE-V96",
        f"{name} stopped giving frames, so the stream was ended",
        {
            "read": f"{counted(frames, 'frame')} before",
            "usual": "it has ended, was unplugged, or the network is gone",
        },
        fix="check the camera, then run the same command again",
    )
