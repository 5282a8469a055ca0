"""Frames spread over a video file, without decoding all of it where it can be searched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from samkr_edge.files.temporary import temporary_folder
from samkr_edge.frames.opencv_names import name_for_opencv
from samkr_edge.frames.opening import open_video
from samkr_edge.images import read_image

_KEPT = 128  # frames on disk, of a video that cannot be searched


def spread_frames(path: Path, count: int, start: float = 0.0) -> Iterator[tuple[int, np.ndarray]]:
    """(number, frame uint8 (H, W, 3) BGR) of at most ``count`` frames; any first part of them is spread over the video.

    The places are a van der Corput sequence (1935), shifted by ``start``, 0..1 of the video. Frames that cannot be
    decoded are left out.
    """
    source = open_video(str(path))
    total = source.frames
    source.close()
    with name_for_opencv(path) as name:
        capture = cv2.VideoCapture(name)
    try:
        if total is None or not _can_be_searched(capture):
            yield from _read_through(path, min(count, _KEPT), start)
            return
        for number in dict.fromkeys(_places(total, count, start)):
            capture.set(cv2.CAP_PROP_POS_FRAMES, number)
            ok, frame = capture.read()
            if ok and frame is not None and frame.size:
                yield number, frame if frame.ndim == 3 else cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)
    finally:
        capture.release()


def _can_be_searched(capture: cv2.VideoCapture) -> bool:
    """Whether OpenCV decodes it: what PyAV decodes is read from its beginning to its end."""
    return bool(capture.isOpened() and capture.grab())


def _read_through(path: Path, count: int, start: float) -> Iterator[tuple[int, np.ndarray]]:
    """The same for a video that cannot be searched or does not say how long it is: every so many frames go to disk."""
    source, kept, every = open_video(str(path)), dict[int, Path](), 1
    with temporary_folder() as folder:
        try:
            for frame in source:
                if frame.image is None or frame.index % every:
                    continue
                kept[frame.index] = folder / f"{frame.index}.png"
                cv2.imwrite(str(kept[frame.index]), frame.image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
                if len(kept) == 2 * count:
                    every *= 2
                    for number in [number for number in kept if number % every]:
                        kept.pop(number).unlink()
        finally:
            source.close()
        numbers = list(kept)
        for place in dict.fromkeys(_places(len(numbers), count, start)) if numbers else ():
            yield numbers[place], cv2.cvtColor(read_image(kept[numbers[place]]), cv2.COLOR_RGB2BGR)


def _places(total: int, count: int, start: float) -> list[int]:
    return [int(total * ((_van_der_corput(index) + start) % 1)) for index in range(count)]


def _van_der_corput(index: int) -> float:
    """The bits of ``index`` behind the binary point in reverse order: 0, 1/2, 1/4, 3/4, 1/8, ..."""
    place, value = 0.5, 0.0
    while index:
        value += place * (index & 1)
        index >>= 1
        place /= 2
    return value
