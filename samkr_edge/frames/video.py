"""Frames of images and video files, and how much of them could be read."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted
from samkr_edge.frames.excerpt import Excerpt
from samkr_edge.frames.video_clock import VideoClock
from samkr_edge.images import ReadImage, read_image
from samkr_edge.printable import counted

# So often a file's next frame is tried.
_TRIES = 30


@dataclass
class Frame:
    """One image of a source.

    Attributes:
        index: its number, from 0.
        image: uint8 (H, W, 3) BGR, as OpenCV reads and writes it; None where it could not be read.
        seconds: time in the video, or since the camera was opened.
        captured: ``time.perf_counter()`` when it was read.
        read_ms: milliseconds that reading it took; for a camera most of it is waiting for the next picture.
        path: the file, for images.
        error: why there is no image.
    """

    index: int
    image: np.ndarray | None
    seconds: float = 0.0
    captured: float = 0.0
    path: Path | None = None
    read_ms: float = 0.0
    error: SamkrError | None = None


class Capture(Protocol):
    """The part of ``cv2.VideoCapture`` that is used; tests have cameras that break."""

    def read(self, image: Any = None) -> tuple[bool, Any]: ...
    def get(self, property: int) -> float: ...
    def release(self) -> None: ...


class VideoSource:
    """Frames of a video file.

    Attributes:
        name: of the source, for messages, without passwords.
        place: for other programs: a file's path, else the name.
        fps: frames a second by the file; 30 if it does not say.
        frames: expected number; None for files that do not say.
        lasts: seconds that a file should last if ``frames`` is only an estimate from them; None if it is a count.
        sure: whether its pictures last as long as ``lasts``; else that may be the sound's time.
        cut: whether an end before ``lasts`` is an error although not ``sure``: bytes are missing in a file, or may be
            missing in one from a server. How many pictures that cost is unknown.
        excerpt: the frames that are wanted; the others are read and not given.
        read: frames read so far.
    """

    live = False

    def __init__(
        self,
        capture: Capture,
        name: str,
        *,
        fps: float = 30.0,
        frames: int | None = None,
        lasts: float | None = None,
        sure: bool = True,
        cut: bool = False,
        place: Path | None = None,
        ring: int = 0,
        excerpt: Excerpt | None = None,
    ) -> None:
        """``ring`` frames are reused in turn, for readers that hold fewer; with 0 each gets its own memory."""
        self.name = name
        self.place = place or name
        self.fps = usable_rate(fps)
        self.frames = frames
        self.lasts = lasts
        self.sure = sure
        self.cut = cut
        self.excerpt = excerpt or Excerpt()
        self.read = 0
        self._given = 0
        self._held: np.ndarray | None = None
        self._first: int | None = None  # number of the excerpt's first frame
        self._left = False  # at the excerpt's end
        self._failed = 0
        self._clock = VideoClock(self.fps)
        self._capture = capture
        self._ring: list[Any] = [None] * ring
        self._stopping = False

    def __iter__(self) -> Iterator[Frame]:
        misses = 0
        while not self._stopping:
            asked = time.perf_counter()
            if self._grab():
                index, seconds = self.read, self._file_time()
                if seconds >= self.excerpt.stop:
                    self._left = True
                    return
                wanted = self._wanted(index, seconds)
                image = self._retrieve() if wanted else None
                if image is not None or not wanted:
                    self._failed += misses
                    misses = 0
                    self.read += 1
                    if image is not None:
                        now = time.perf_counter()
                        self._given += 1
                        yield Frame(index, image, seconds, now, read_ms=1e3 * (now - asked))
                    continue
            misses += 1
            if not self._to_come or misses >= _TRIES:
                return

    def _wanted(self, index: int, seconds: float) -> bool:
        if seconds < self.excerpt.start:
            return False
        if self._first is None:
            self._first = index
        return (index - self._first) % self.excerpt.every == 0

    def _grab(self) -> bool:
        """Go on to the next frame; False if there is none or it is damaged.

        Of a whole video the frame is read at once, of an excerpt only when it is wanted.
        """
        grab = None if self.excerpt.whole else getattr(self._capture, "grab", None)
        try:
            if grab is not None:
                self._held = None
                return bool(grab())
            self._held = self._usable(*self._capture.read(*self._slot()))
        except cv2.error:
            return False
        return self._held is not None

    def _retrieve(self) -> np.ndarray | None:
        """The frame after ``_grab``; None if it is damaged."""
        if self._held is not None:
            return self._held
        try:
            return self._usable(*getattr(self._capture, "retrieve")(*self._slot()))  # noqa: B009 - as `grab`
        except cv2.error:
            return None

    def _slot(self) -> tuple[Any, ...]:
        return (self._ring[self._given % len(self._ring)],) if self._ring else ()

    def _usable(self, ok: bool, image: Any) -> np.ndarray | None:
        image = usable_image(image) if ok else None
        if image is not None and self._ring:
            self._ring[self._given % len(self._ring)] = image
        return image

    def _file_time(self) -> float:
        return self._clock.at(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3)

    @property
    def _to_come(self) -> int:
        """Frames missing after the last one, by the file's count, or by its clock if it has no count.

        A last frame may stand as long as any other has, and a sound track may go on for a moment.
        """
        if self._left:
            return 0
        if self.lasts is None:
            return max(0, (self.frames or 0) - self.read)
        short = self.lasts - self._clock.seconds if self.read else self.lasts
        allowed = max(0.5, 0.01 * self.lasts, 2 * self._clock.longest)
        return round(short * self.fps) if short > allowed else 0

    @property
    def missing(self) -> int:
        """Frames that are, or were, certainly in the file and were not read."""
        if self.lasts is None:
            return self._to_come
        return self._failed + (self._to_come if self.sure else 0)

    @property
    def note(self) -> str | None:
        """A remark on a file that may lack pictures; else None."""
        if self.lasts is None or not self.read or self._was_cut:  # counted, none, or in the error
            return None
        if not self.sure and self._to_come:
            return (
                f"{self.name}: its frames last {self._clock.seconds:.1f} s of the file's {self.lasts:.1f} s: "
                "a longer audio track, a later start, or frames missing at the end"
            )
        if self._clock.pause is not None:
            began, lasted = self._clock.pause
            reason = "a pause in the recording" if began else "a later start"
            return f"{self.name}: no picture for {lasted:.1f} s from {began:.1f} s on: {reason}, or damage"
        return None

    @property
    def broken(self) -> bool:
        """Whether a file had no frame, was cut, or lacks more frames than rounding by containers explains."""
        return self._given == 0 or self._was_cut or self.missing > max(2, (self.frames or 0) // 100)

    @property
    def _was_cut(self) -> bool:
        return self.cut and not self.sure and self.read > 0 and self._to_come > 0

    def ended_early(self) -> SamkrError:
        """The error for a broken file."""
        if self.read and not self._given:
            return self._outside()
        about = "" if self.lasts is None else "about "
        what = f"{self.missing or 'all'} of {about}{self.frames or 'its'} frames could not be read"
        usual = "a recording that was cut off, or a damaged disk"
        fix = f"ffmpeg -i {quoted(self.place)} -c:v libx264 repaired.mp4"
        if self._was_cut:
            what = f"pictures end at {self._clock.seconds:.1f} s of {self.lasts:.1f} s"
            if isinstance(self.place, Path):
                what = f"the file was cut off; {what}"
            else:
                usual = "the server or the network broke off; or its audio is longer than its video"
                fix = f"curl -fLO {quoted(self.place)}   # then name the file"
        return SamkrError(
            "SE-D96",
            f"{self.name}: {what}",
            {
                "read": f"{counted(self.read, 'frame')}, up to {self._clock.seconds:.1f} s, whose poses are kept",
                "usual": usual,
            },
            fix=fix,
        )

    def _outside(self) -> SamkrError:
        return SamkrError(
            "SE-D31",
            f"{self.name} has no frame in the part that was asked for",
            {
                "asked for": f"from {self.excerpt.start:g} s on"
                + ("" if self.excerpt.stop == inf else f", before {self.excerpt.stop:g} s"),
                "its last frame": f"number {self.read - 1}, at {self._clock.seconds:.2f} s",
            },
            fix="give a --from before the end of the video",
        )

    @property
    def expected(self) -> int | None:
        """Frames that it will give; None for files that do not say."""
        if self.frames is None or self.excerpt.whole:
            return self.frames
        return self.excerpt.frames(self.frames, self.fps)

    def stop(self) -> None:
        """End the iteration after the frame that is being read."""
        self._stopping = True

    def close(self) -> None:
        self._capture.release()


def usable_image(image: Any) -> np.ndarray | None:
    """A frame as OpenCV gave it -> uint8 (H, W, 3) BGR; None if there is none."""
    if image is None or image.size == 0:
        return None
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image


def usable_rate(fps: float) -> float:
    """The rate that a source announces, down to a frame an hour; 30 if it announces none."""
    return fps if 1 / 4000 < fps < 1000 else 30.0


def image_frames(paths: Sequence[Path], read: ReadImage = read_image) -> Iterator[Frame]:
    """Images as frames, turned upright by EXIF; one that cannot be read has an error instead."""
    for index, path in enumerate(paths):
        try:
            image = cv2.cvtColor(read(path, upright=True), cv2.COLOR_RGB2BGR)
        except SamkrError as error:
            yield Frame(index, None, path=path, error=error)
        else:
            yield Frame(index, image, captured=time.perf_counter(), path=path)
