"""Which frames of a video file are wanted: a part of its time, and every so many of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil, inf

# 90, 1.5, 1:30, 1:02:03.25
_TIME = re.compile(r"(?:(?:(\d+):)?([0-5]?\d):(?=[0-5]?\d(?:\.|$)))?(\d+(?:\.\d*)?)")


@dataclass(frozen=True)
class Excerpt:
    """Frames from ``start`` on and before ``stop``, in seconds of the video, and of these every ``every``-th."""

    every: int = 1
    start: float = 0.0
    stop: float = inf

    @property
    def whole(self) -> bool:
        """Whether it is the whole video."""
        return self == Excerpt()

    def frames(self, total: int, fps: float) -> int:
        """How many frames of a video of ``total`` it has, if all are shown equally long."""
        begin, end = (ceil(round(min(float(total), time * fps), 6)) for time in (self.start, self.stop))
        return max(0, ceil((end - begin) / self.every))


def seconds_of(text: str) -> float:
    """A time as people write it, ``90``, ``1:30`` or ``1:02:03.5``, in seconds.

    Raises:
        ValueError: it is none.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no time: seconds, or minutes and seconds as 1:30, or 1:02:03.5")
    hours, minutes, seconds = found.groups("0")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
