"""When a frame of a file is shown, and how long the file lasts.

The number of frames and a rate are not enough: phones, screen recorders and network cameras write frames as they
come, and most containers hold no count, so that readers estimate one from the duration.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# A pause is reported from so many seconds on, if it is also so many usual steps.
_PAUSE_S, _PAUSE_STEPS = 1.0, 30
# If time jumps back by more than this, in seconds, a second recording follows the first.
_JOINED_S = 1.0
_UNKNOWN = (0, 2**32 - 1, 2**64 - 1)


class VideoClock:
    """The times of consecutive frames: the file's, but never backwards.

    Attributes:
        seconds: of the last frame.
        longest: the longest time from one frame to the next.
    """

    def __init__(self, fps: float) -> None:
        """``fps`` is used if the file has no times."""
        self.seconds = 0.0
        self.longest = 0.0
        self._before_longest = 0.0
        self._steps = 0
        self._step = 1 / fps
        self._said: float | None = None
        self._shift = 0.0

    def at(self, said: float) -> float:
        """Seconds of the next frame; ``said`` is the file's time, or any constant or NaN if it has none."""
        said = said if math.isfinite(said) else 0.0
        if self._said is None:
            self._shift = max(0.0, -said)
            now = said + self._shift
        else:
            now = said + self._shift
            if now <= self.seconds:
                now = self.seconds + self._step
                if said < self._said - _JOINED_S:
                    self._shift = now - said
            self._steps += 1
            if now - self.seconds > self.longest:
                self.longest, self._before_longest = now - self.seconds, self.seconds
        self._said, self.seconds = said, now
        return now

    @property
    def pause(self) -> tuple[float, float] | None:
        """The one step much longer than all others: its beginning and its length, in seconds."""
        usual = (self.seconds - self.longest) / max(self._steps - 1, 1)
        stands_out = self._steps > _PAUSE_STEPS and self.longest > max(_PAUSE_S, _PAUSE_STEPS * usual)
        return (self._before_longest, self.longest) if stands_out else None


def shown_seconds(path: Path) -> float | None:
    """How long the first video track of an MP4 or QuickTime file is shown; None for other files and fragmented ones.

    Shorter than its frames if an edit list hides those before a cut made without re-encoding.
    ISO/IEC 14496-12, boxes mvhd, tkhd, elst and hdlr.
    """
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            movie = next((inner for kind, *inner in _boxes(file, 0, end) if kind == b"moov"), None)
            return None if movie is None else _track_seconds(file, *movie)
    except (OSError, struct.error):
        return None


def _track_seconds(file: BinaryIO, start: int, end: int) -> float | None:
    scale = 0
    for kind, *inner in _boxes(file, start, end):
        if kind == b"mvhd":
            scale = _number(file, inner[0], (12, ">I"), (20, ">I"))
        elif kind == b"trak" and (found := _video_duration(file, *inner)):
            return found / scale if scale else None
    return None


def _video_duration(file: BinaryIO, start: int, end: int) -> int | None:
    """For how long a track is shown, in the movie's units; None if it is not a video or does not say.

    That is its duration without the empty edits, which make it wait for sound that began earlier.
    """
    duration, empty, video = 0, 0, False
    for kind, *inner in _boxes(file, start, end):
        if kind == b"tkhd":
            duration = _number(file, inner[0], (20, ">I"), (28, ">Q"))
        elif kind == b"edts":
            empty = sum(
                _empty_edits(file, *place) for what, *place in _boxes(file, *inner) if what == b"elst"
            )
        elif kind == b"mdia":
            for what, *place in _boxes(file, *inner):
                if what == b"hdlr":
                    file.seek(place[0] + 8)
                    video = file.read(4) == b"vide"
    return duration - empty if video and duration not in _UNKNOWN else None


def _empty_edits(file: BinaryIO, start: int, end: int) -> int:
    """How long an edit list shows nothing, in the movie's units."""
    file.seek(start)
    content = file.read(end - start)
    edits = struct.iter_unpack(">Qqi" if content[:1] == b"\x01" else ">Iii", content[8:])
    return sum(duration for duration, begin, _ in edits if begin == -1)


def _number(file: BinaryIO, start: int, *layouts: tuple[int, str]) -> int:
    """A field of a box: its offset and format in version 0 of the box, and in version 1."""
    file.seek(start)
    place, form = layouts[file.read(1) == b"\x01"]
    file.seek(start + place)
    number: int
    (number,) = struct.unpack(form, file.read(struct.calcsize(form)))
    return number


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, and where the content begins and ends, of the boxes in a part of a file."""
    while (box := box_at(file, start, end)) is not None:
        kind, content, start = box
        yield kind, content, min(start, end)


def box_at(file: BinaryIO, start: int, end: int) -> tuple[bytes, int, int] | None:
    """Kind, begin and stated end of the content of the box at ``start``; None if there is none.

    Raises:
        OSError, struct.error: the file ends before the box's header does.
    """
    if start + 8 > end:
        return None
    file.seek(start)
    size, kind = struct.unpack(">I4s", file.read(8))
    content = start + 8
    if size == 1:
        (size,) = struct.unpack(">Q", file.read(8))
        content += 8
    stop = end if size == 0 else start + size
    return None if stop < content else (kind, content, stop)
