"""Sources of frames: images, video files, cameras, network streams; and how much of them could be read."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import urlsplit

import cv2
import numpy as np

from samkr_edge.errors import SamkrError
from samkr_edge.files.named import missing_file
from samkr_edge.fixes import quoted
from samkr_edge.frames.av_video import AvCapture, is_installed
from samkr_edge.frames.cut_off import is_cut_off
from samkr_edge.frames.live_capture import is_device, is_live, open_live
from samkr_edge.frames.opencv_names import name_for_opencv
from samkr_edge.frames.video_clock import VideoClock, shown_seconds
from samkr_edge.images import ReadImage, read_image
from samkr_edge.printable import counted
from samkr_edge.stream_address import in_small_letters, is_stream_address, without_secrets

_CODECS = {"av01": "AV1", "av1": "AV1", "vvc1": "H.266", "vvi1": "H.266"}
_NO_LENGTH = {".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob", ".h264", ".h265"}
# After so many failed reads, at this interval, a live source counts as lost. A file's next frame is tried as often.
_LIVE_TRIES, _LIVE_PAUSE_S, _FILE_TRIES = 20, 0.1, 30


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


class _Begun:
    """A capture whose first frame was already grabbed to test decoding: an address may serve only once."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        self._read: Callable[..., tuple[bool, Any]] = capture.retrieve
        self.get, self.release = capture.get, capture.release

    def read(self, image: Any = None) -> tuple[bool, Any]:
        read, self._read = self._read, self._capture.read
        return read(image)


class VideoSource:
    """Frames of a video file or a live source.

    Attributes:
        name: of the source, for messages, without passwords.
        place: for other programs: a file's path, else the name.
        live: a camera or network stream, which does not end and must not be kept waiting.
        fps: frames a second by the source; 30 if it does not say.
        frames: expected number; None for live sources and files that do not say.
        lasts: seconds that a file should last if ``frames`` is only an estimate from them; None if it is a count.
        sure: whether its pictures last as long as ``lasts``; else that may be the sound's time.
        cut: whether an end before ``lasts`` is an error although not ``sure``: bytes are missing in a file, or may be
            missing in one from a server. How many pictures that cost is unknown.
        read: frames read so far.
    """

    def __init__(
        self,
        capture: Capture,
        name: str,
        *,
        live: bool,
        fps: float = 30.0,
        frames: int | None = None,
        lasts: float | None = None,
        sure: bool = True,
        cut: bool = False,
        place: Path | None = None,
        ring: int = 0,
        pause: float = _LIVE_PAUSE_S,
    ) -> None:
        """``ring`` frames are reused in turn, for readers that hold fewer; with 0 each gets its own memory.

        If frames may be dropped (a live source in newest mode), use 0: it is unknown how long the others are held.
        """
        self.name = name
        self.place = place or name
        self.live = live
        self.fps = usable_rate(fps)
        self.frames = frames
        self.lasts = lasts
        self.sure = sure
        self.cut = cut
        self.read = 0
        self._failed = 0
        self._clock = VideoClock(self.fps)
        self._capture = capture
        self._ring: list[Any] = [None] * ring
        self._pause = pause

    def __iter__(self) -> Iterator[Frame]:
        started = time.perf_counter()
        misses = 0
        while True:
            asked = time.perf_counter()
            image = self._next()
            now = time.perf_counter()
            if image is not None:
                self._failed += misses
                misses = 0
                index = self.read
                self.read += 1
                seconds = now - started if self.live else self._file_time()
                yield Frame(index, image, seconds, now, read_ms=1e3 * (now - asked))
                continue
            misses += 1
            if self.live:
                if misses >= _LIVE_TRIES:
                    raise self._gone()
                time.sleep(self._pause)
            elif not self._to_come or misses >= _FILE_TRIES:
                return

    def _next(self) -> np.ndarray | None:
        """The next frame; None if there is none or it is damaged."""
        slot = self.read % len(self._ring) if self._ring else None
        try:
            ok, image = self._capture.read() if slot is None else self._capture.read(self._ring[slot])
        except cv2.error:
            return None
        if not ok or image is None or image.size == 0:
            return None
        if image.ndim == 2:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        if slot is not None:
            self._ring[slot] = image
        return image

    def _file_time(self) -> float:
        return self._clock.at(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3)

    @property
    def _to_come(self) -> int:
        """Frames missing after the last one, by the file's count, or by its clock if it has no count.

        A last frame may stand as long as any other has, and a sound track may go on for a moment.
        """
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
        return not self.live and (
            self.read == 0 or self._was_cut or self.missing > max(2, (self.frames or 0) // 100)
        )

    @property
    def _was_cut(self) -> bool:
        return self.cut and not self.sure and self.read > 0 and self._to_come > 0

    def ended_early(self) -> SamkrError:
        """The error for a broken file."""
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

    def _gone(self) -> SamkrError:
        return lost(self.name, self.read)

    def close(self) -> None:
        self._capture.release()


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


def open_video(source: str, *, ring: int = 0) -> VideoSource:
    """Open a video file, a camera's number, a stream's address, ``csi``, ``csi:1`` or a GStreamer pipeline.

    ``ring`` is for files: see ``VideoSource``.

    Raises:
        SamkrError: SE-D97 a file or pipe that is missing, not a video or of a codec that nothing here decodes, SE-V97 a
            camera or stream that does not open, SE-V98 this OpenCV was built without GStreamer.
    """
    path = Path(source)
    # By os.path: a pipeline may be longer than a file name may be.
    if os.path.isfile(source) and not is_device(source):
        with name_for_opencv(path) as name:
            capture = cv2.VideoCapture(name)
            if capture.isOpened() and capture.grab():
                return _file_source(_Begun(capture), path, ring)
        if not capture.isOpened():
            raise SamkrError(
                "SE-D97",
                f"{source} could not be opened as a video, so nothing was done",
                {"size": f"{path.stat().st_size} bytes", "usual": "cut off while it was being written"},
                fix=f"ffprobe {quoted(os.path.abspath(source))}",
            )
        return _file_source(_other_capture(path.absolute(), str(path), capture), path, ring)
    if not os.path.exists(source) and not is_live(source):
        raise missing_file(without_secrets(source), "video")
    capture, name = open_live(source)
    # The writer of a pipe waits: no frame is dropped, and its end is not a lost source.
    if os.path.exists(source) and path.is_fifo():
        if not (capture.isOpened() and capture.grab()):
            raise SamkrError(
                "SE-D97",
                f"no frame came through the pipe {name}, so nothing was done",
                {"usual": "no video was written into it: pipes are read as videos, whatever they are called"},
                fix="write a video into it; name an image by its own file",
            )
        return VideoSource(_Begun(capture), name, live=False, fps=capture.get(cv2.CAP_PROP_FPS), ring=ring)
    if not capture.isOpened():
        raise SamkrError(
            "SE-V97",
            f"{name} does not open, so nothing was done",
            {
                "asked for": without_secrets(source)[:100],
                "usual": "no such camera, in use by another program, or not reachable",
            },
            fix=f"ffprobe {quoted(name)}"
            if is_stream_address(source)
            else "ls /dev/video*   # cameras of this machine",
        )
    if source.lower().startswith("http") and (_announced(capture) or _names_bare_packets(source)):
        if capture.grab():
            return _file_source(_Begun(capture), name, ring)
        return _file_source(_other_capture(in_small_letters(source), name, capture), name, ring)
    return VideoSource(capture, name, live=True, fps=capture.get(cv2.CAP_PROP_FPS))


def _other_capture(source: Path | str, name: str, capture: cv2.VideoCapture) -> Capture:
    """A capture by PyAV for a file, local or on a server, that OpenCV cannot decode; ``name`` is for messages.

    Raises:
        SamkrError: SE-D97 nothing here decodes it.
    """
    tag = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True)
    codec = tag.decode("ascii", "replace").strip("\0 ").lower()
    codec = _CODECS.get(codec, codec) if codec.isprintable() and codec else "not named"
    installed = is_installed()
    if installed:
        with contextlib.suppress(ValueError, OSError):
            other = AvCapture(source)
            if other.read()[0]:
                other.release()
                return AvCapture(source)
            other.release()
    raise SamkrError(
        "SE-D97",
        f"no frame of {name} could be decoded, codec {codec}, so nothing was done",
        {
            "tried": f"OpenCV {cv2.__version__}{', PyAV' if installed else ''}",
            "usual": f"{'' if installed else 'a codec that this OpenCV lacks, '}cut off or damaged"
            + ("" if isinstance(source, Path) else ", or a server without range requests"),
        },
        fix=f"ffprobe {quoted(source if isinstance(source, Path) else name)}"
        if installed
        else 'pip install "samkr-edge[video]"',
    )


def _names_bare_packets(address: str) -> bool:
    """Whether an address names a file of a format whose beginning does not contain its length.

    A server that sends no parts of files leaves it unknown. In other formats only live streams lack a length.
    """
    return PurePosixPath(urlsplit(address).path).suffix.lower() in _NO_LENGTH


def _announced(capture: Capture) -> int | None:
    """The number of frames by the capture; None if it does not say."""
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if 0 < count < 1e9 else None


def _file_source(capture: Capture, place: Path | str, ring: int) -> VideoSource:
    """A file's frames. A count is trusted only if it fits the time for which the track is shown."""
    fps, frames = capture.get(cv2.CAP_PROP_FPS), _announced(capture)
    path = place if isinstance(place, Path) else None
    shown = None if path is None else shown_seconds(path)
    lasts = None if frames is None else frames / (fps if fps > 0 else usable_rate(fps))
    if lasts is not None and fps != usable_rate(fps):
        frames = max(1, round(lasts * usable_rate(fps)))
    if shown is not None and lasts is not None:
        lasts = None if abs(shown - lasts) <= max(0.1, 0.01 * shown) else shown
    return VideoSource(
        capture,
        str(place) if path is None else path.name,
        live=False,
        fps=fps,
        frames=frames,
        lasts=lasts,
        sure=shown is not None,
        cut=path is None or is_cut_off(path),
        place=path,
        ring=ring,
    )


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
