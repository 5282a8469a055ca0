"""The output of `predict` for a stream: overlays as a video, keypoints as one JSON line per frame.

Unlike other artefacts, an interrupted recording is kept: everything up to there is useful. It is written under a
temporary name and renamed when it is closed, for whatever reason.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import cv2
import numpy as np

from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import part_of
from samkr_edge.files.own_files import mark_mp4
from samkr_edge.fixes import quoted
from samkr_edge.frames.av_video import AvWriter, h264_encoder
from samkr_edge.frames.opencv_names import name_for_opencv
from samkr_edge.pose.poses import Poses
from samkr_edge.printable import counted

# A video without its index cannot be played: recording stops while there is room to finish.
LEAST_FREE_BYTES = 64 << 20
_LOOK_EVERY = 32
_BLOCK = 1 << 16
# Limit for repeating one frame.
_LONGEST_GAP = 3600
# OpenCV's writer does not open below this rate, frames a second.
_SLOWEST = 0.1


class Recording:
    """A context manager; ``NAME.mp4`` and ``NAME.jsonl`` in a folder.

    Attributes:
        frames, people: in the written lines.
        kept: the files, once it is closed.

    Raises:
        SamkrError: SE-D98 the disk is full or the files cannot be written; what was written before is kept.
    """

    def __init__(self, folder: Path, name: str, fps: float, begins: float = 0.0) -> None:
        """``fps`` is the usual rate of what is written; ``begins`` the time, in seconds, at which the video starts."""
        self.video = folder / f"{name}.mp4"
        self.lines = folder / f"{name}.jsonl"
        self.frames = 0
        self.people = 0
        self.kept: set[Path] = set()
        self._fps = fps
        self._begins = begins
        self._size = (0, 0)
        self._writer: _SteadyWriter | AvWriter | None = None
        self._stream: TextIO | None = None

    def __enter__(self) -> Recording:
        try:
            self.video.parent.mkdir(parents=True, exist_ok=True)
            self._stream = part_of(self.lines).open("w", encoding="utf-8")
        except OSError as error:
            raise self._full(error.strerror or str(error)) from error
        return self

    def write(self, index: int, seconds: float, poses: Poses, drawn: np.ndarray | None) -> None:
        """One frame; ``drawn`` is uint8 (H, W, 3) BGR, or None for no video.

        The video has the size of the first one: a camera that is opened again may give another.
        """
        assert self._stream is not None
        line = as_line(index, seconds, poses)
        try:
            if self.frames % _LOOK_EVERY == 0:
                free = shutil.disk_usage(self.video.parent).free
                if free < LEAST_FREE_BYTES:
                    raise OSError(
                        f"only {free >> 20} MB are free, {LEAST_FREE_BYTES >> 20} MB are needed to finish"
                    )
            if drawn is not None and self._writer is None:
                self._size = (drawn.shape[1], drawn.shape[0])
                self._writer = _writer(part_of(self.video), self._size, self._fps)
            self._stream.write(json.dumps(line) + "\n")
            # Counted here: an interrupt during encoding leaves the line, and the picture too.
            self.frames += 1
            self.people += len(poses)
            if self.frames % _LOOK_EVERY == 1:
                self._stream.flush()
            if drawn is not None:
                assert self._writer is not None
                self._writer.write(_of_size(drawn, self._size), seconds - self._begins)
        except OSError as error:
            raise self._full(error.strerror or str(error)) from error

    def _full(self, reason: str) -> SamkrError:
        if self.frames and self.lines not in self.kept and not part_of(self.lines).exists():
            return SamkrError(
                "SE-D98",
                f"{self.video.parent} was removed, and the recording of {counted(self.frames, 'frame')} with it",
                {"reason": reason},
                fix="choose another place with -o, one that nothing clears",
            )
        return SamkrError(
            "SE-D98",
            f"{self.video.parent} cannot hold more, so the recording ends after {counted(self.frames, 'frame')}"
            ", which it keeps"
            if self.frames
            else f"{self.video.parent} cannot hold a recording, so nothing was done",
            {"reason": reason},
            fix=f"free some space, or choose another place with -o; now: df -h {quoted(self.video.parent)}",
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failures: list[str] = []
        if self._stream is not None:
            with _noted(failures):
                self._stream.close()
            with _noted(failures):
                _cut_to_whole_lines(part_of(self.lines))
                self._keep(self.lines, self.frames > 0)
        if self._writer is not None:
            with _noted(failures):
                self._writer.close()
            with _noted(failures):
                # OpenCV does not report failed writes: check.
                plays = self.frames > 0 and _plays(part_of(self.video))
                if plays:
                    mark_mp4(part_of(self.video))
                elif self.frames:
                    failures.append("the video could not be finished")
                self._keep(self.video, plays)
        if failures and kind is None:
            raise self._full(", ".join(failures))

    def _keep(self, path: Path, whole: bool) -> None:
        if whole:
            os.replace(part_of(path), path)
            self.kept.add(path)
        else:
            part_of(path).unlink(missing_ok=True)


def as_line(index: int, seconds: float | None, poses: Poses) -> dict[str, Any]:
    """One frame as it stands in NAME.jsonl and in what ``--jsonl`` writes; ``seconds`` None for an image."""
    people = [
        {"keypoints": entry["keypoints"], "score": entry["score"], "id": entry.get("track_id")}
        for entry in poses.to_coco(index)
    ]
    return {"frame": index, "seconds": None if seconds is None else round(seconds, 4), "people": people}


def _of_size(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The image enlarged or reduced to fit into width, height, in the middle of black."""
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    scale = min(size[0] / width, size[1] / height)
    matrix = np.array(
        [[scale, 0, (size[0] - scale * width) / 2], [0, scale, (size[1] - scale * height) / 2]], np.float64
    )
    fitted: np.ndarray = cv2.warpAffine(image, matrix, size)
    return fitted


@contextmanager
def _noted(failures: list[str]) -> Iterator[None]:
    """What follows is done all the same."""
    try:
        yield
    except OSError as error:
        failures.append(error.strerror or str(error))


class _SteadyWriter:
    """OpenCV's writer, with one fixed rate: MPEG-4 Part 2, which players play and few browsers.

    Gaps are filled with the next frame, and frames that come faster are dropped, so that the video keeps time.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float) -> None:
        self._fps = max(fps, _SLOWEST)
        self._drawn = 0
        with name_for_opencv(path) as name:
            self._writer = cv2.VideoWriter(name, cv2.VideoWriter.fourcc(*"mp4v"), self._fps, size)
        if not self._writer.isOpened():
            raise OSError(f"OpenCV cannot write an mp4 of {size[0]}x{size[1]} here")

    def write(self, image: np.ndarray, seconds: float) -> None:
        due = round(seconds * self._fps) + 1 - self._drawn
        for _ in range(min(due, _LONGEST_GAP)):
            self._writer.write(image)
        self._drawn += max(due, 0)

    def close(self) -> None:
        self._writer.release()


def _writer(path: Path, size: tuple[int, int], fps: float) -> _SteadyWriter | AvWriter:
    """The better of the available writers; ``size`` is width, height."""
    encoder = h264_encoder()
    return AvWriter(path, encoder, size, fps) if encoder else _SteadyWriter(path, size, fps)


def _cut_to_whole_lines(path: Path) -> None:
    """Drop a last line that a full disk cut off."""
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - _BLOCK)
            file.seek(begin)
            if (last := file.read(end - begin).rfind(b"\n")) >= 0:
                end = begin + last + 1
                break
            end = begin
        file.truncate(end)


def _plays(path: Path) -> bool:
    with name_for_opencv(path) as name:
        capture = cv2.VideoCapture(name)
    try:
        return bool(capture.isOpened() and capture.read()[0])
    finally:
        capture.release()
