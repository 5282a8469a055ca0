"""How a source of frames is opened: a video file, a pipe, a camera, a stream's address."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import cv2

from samkr_edge.errors import SamkrError
from samkr_edge.files.named import missing_file
from samkr_edge.fixes import quoted
from samkr_edge.frames.av_video import AvCapture, is_installed
from samkr_edge.frames.cut_off import is_cut_off
from samkr_edge.frames.excerpt import Excerpt
from samkr_edge.frames.live_capture import is_device, is_live, open_live
from samkr_edge.frames.live_source import LiveSource
from samkr_edge.frames.opencv_names import name_for_opencv
from samkr_edge.frames.own_speed import OwnSpeed
from samkr_edge.frames.video import Capture, VideoSource, usable_rate
from samkr_edge.frames.video_clock import shown_seconds
from samkr_edge.stream_address import in_small_letters, is_stream_address, without_secrets

FrameSource = VideoSource | LiveSource | OwnSpeed

_CODECS = {"av01": "AV1", "av1": "AV1", "vvc1": "H.266", "vvi1": "H.266"}
_NO_LENGTH = {".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".vob", ".h264", ".h265"}


class _Begun:
    """A capture whose first frame was already grabbed to test decoding: an address may serve only once."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        self._read: Callable[..., tuple[bool, Any]] = capture.retrieve
        self.get, self.release, self.retrieve = capture.get, capture.release, capture.retrieve

    def grab(self) -> bool:
        if self._read == self._capture.read:
            return self._capture.grab()
        self._read = self._capture.read
        return True

    def read(self, image: Any = None) -> tuple[bool, Any]:
        read, self._read = self._read, self._capture.read
        return read(image)


def open_video(
    source: str, *, ring: int = 0, reconnect: bool = False, excerpt: Excerpt | None = None
) -> FrameSource:
    """Open a video file, a camera's number, a stream's address, ``csi``, ``csi:1`` or a GStreamer pipeline.

    ``ring`` and ``excerpt`` are for files: see ``VideoSource``. With ``reconnect`` a live source that drops is opened
    again; not a pipeline that reads a file, which has an end.

    Raises:
        SamkrError: SE-D97 a file or pipe that is missing, not a video or of a codec that nothing here decodes, SE-V97 a
            camera or stream that does not open, SE-V98 this OpenCV was built without GStreamer, SE-U11 an excerpt of
            a live source.
    """
    path = Path(source)
    if os.path.isdir(source):
        raise SamkrError(
            "SE-D97",
            f"{source} is a folder, not a video, so nothing was done",
            fix=f"ls {quoted(source)}   # then name one of its videos",
        )
    # By os.path: a pipeline may be longer than a file name may be.
    if os.path.isfile(source) and not is_device(source):
        with name_for_opencv(path) as name:
            capture = cv2.VideoCapture(name)
            if capture.isOpened() and capture.grab():
                return _file_source(_Begun(capture), path, ring, excerpt)
        if not capture.isOpened():
            raise SamkrError(
                "SE-D97",
                f"{source} could not be opened as a video, so nothing was done",
                {"size": f"{path.stat().st_size} bytes", "usual": "cut off while it was being written"},
                fix=f"ffprobe {quoted(os.path.abspath(source))}",
            )
        return _file_source(_other_capture(path.absolute(), str(path), capture), path, ring, excerpt)
    if not os.path.exists(source) and not is_live(source):
        raise missing_file(without_secrets(source), "video")
    capture, name = open_live(source)
    # The writer of a pipe waits: no frame is dropped, and its end is not a lost source.
    if os.path.exists(source) and path.is_fifo():
        return _pipe_source(capture, name, ring, excerpt)
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
            return _file_source(_Begun(capture), name, ring, excerpt)
        other = _other_capture(in_small_letters(source), name, capture)
        return _file_source(other, name, ring, excerpt)
    if excerpt is not None and not excerpt.whole:
        capture.release()
        raise no_excerpt_of(name)
    again = reconnect and "filesrc" not in source
    reopen = partial(_opened_again, source) if again else None
    return LiveSource(capture, name, fps=capture.get(cv2.CAP_PROP_FPS), reopen=reopen)


def _pipe_source(capture: cv2.VideoCapture, name: str, ring: int, excerpt: Excerpt | None) -> VideoSource:
    if not (capture.isOpened() and capture.grab()):
        raise SamkrError(
            "SE-D97",
            f"no frame came through the pipe {name}, so nothing was done",
            {"usual": "no video was written into it: pipes are read as videos, whatever they are called"},
            fix="write a video into it; name an image by its own file",
        )
    fps = capture.get(cv2.CAP_PROP_FPS)
    return VideoSource(_Begun(capture), name, fps=fps, ring=ring, excerpt=excerpt)


def no_excerpt_of(name: str) -> SamkrError:
    """SE-U11 for a camera or stream, which has neither a beginning nor frames that could be left out."""
    return SamkrError(
        "SE-U11",
        f"{name} is live, and --every, --from and --to choose frames of video files, so nothing was done",
        {"of a camera": "the newest frame is taken whenever the network is ready"},
        fix="leave --every, --from and --to out, or name the camera in a command of its own",
    )


def _opened_again(source: str) -> Capture | None:
    capture, _ = open_live(source)
    if capture.isOpened():
        return capture
    capture.release()
    return None


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


def _file_source(
    capture: Capture, place: Path | str, ring: int, excerpt: Excerpt | None = None
) -> VideoSource:
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
        fps=fps,
        frames=frames,
        lasts=lasts,
        sure=shown is not None,
        cut=path is None or is_cut_off(path),
        place=path,
        ring=ring,
        excerpt=excerpt,
    )
