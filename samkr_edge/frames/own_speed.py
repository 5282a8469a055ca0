"""A video file at its own speed, as a camera gives it: for people who watch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from samkr_edge.frames.video import Frame, VideoSource

# Seconds for which a frame stands at most: a recording with a pause of an hour is not waited for.
_LONGEST_S = 2.0


def at_its_own_speed(video: VideoSource, again: Callable[[], VideoSource] | None = None) -> Iterator[Frame]:
    """The frames of a file, each not before its time; for a slower reader the video is slower.

    ``again`` opens the file once more at its end, for ever: numbers and times then go on.
    """
    due, frames, seconds = time.perf_counter(), 0, 0.0
    while True:
        read, before, passed = 0, frames, seconds
        for frame in video:
            read, shown = read + 1, passed + frame.seconds
            now = time.perf_counter()
            # A late frame is due now: those that follow do not hurry to make up for it.
            due = max(now, due + min(shown - seconds, _LONGEST_S))
            time.sleep(due - now)
            frames, seconds = before + frame.index + 1, shown
            yield replace(frame, index=frames - 1, seconds=shown, captured=due)
        if again is None or read == 0:
            return
        seconds += 1 / video.fps
        due += 1 / video.fps
        video.close()
        video = again()
