"""Videos by PyAV, the extra `video`: codecs that OpenCV's own FFmpeg does not decode, and H.264 for browsers.

Files that OpenCV can read do not need it. With PyAV installed, overlays become H.264 with the exact times of their
frames, instead of MPEG-4 Part 2 at one rate.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np

# Time base of MP4: broadcast's, divisible by all usual rates.
_UNITS = 90_000
# Timeouts for a server's answer, and for more data.
_PATIENCE_S = (10.0, 5.0)
_ENCODERS = ("libx264", "libopenh264")
# Rotation by a display matrix, in degrees, and the rotation that makes a picture upright.
_TURNS = {
    -90: cv2.ROTATE_90_CLOCKWISE,
    90: cv2.ROTATE_90_COUNTERCLOCKWISE,
    180: cv2.ROTATE_180,
    -180: cv2.ROTATE_180,
}


def is_installed() -> bool:
    """Whether PyAV imports here."""
    try:
        import_module("av")
    except ImportError:
        return False
    return True


class AvCapture:
    """Frames of a file or an address, BGR and upright, with the parts of ``cv2.VideoCapture`` that are used.

    Raises:
        OSError, ValueError: not a video that this FFmpeg opens.
    """

    def __init__(self, source: Path | str) -> None:
        self._av: Any = import_module("av")
        name, patience = (source, _PATIENCE_S) if isinstance(source, str) else (str(source.absolute()), None)
        try:
            self._container = self._av.open(name, timeout=patience)
            self._stream = self._container.streams.video[0]
        except (self._av.FFmpegError, IndexError) as error:
            raise ValueError(str(error)) from error
        self._frames = self._container.decode(self._stream)
        self._seconds = 0.0

    def read(self, image: Any = None) -> tuple[bool, Any]:
        """The next frame, uint8 (H, W, 3); False at the end and for a damaged one. ``image`` is not used."""
        try:
            frame = next(self._frames)
        except StopIteration:
            return False, None
        except self._av.FFmpegError:
            self._frames = self._container.decode(self._stream)  # past the damage
            return False, None
        first = (self._stream.start_time or 0) * float(self._stream.time_base or 0)
        self._seconds = float("nan") if frame.time is None else frame.time - first
        picture = frame.to_ndarray(format="bgr24")
        turn = _TURNS.get(frame.rotation)
        return True, picture if turn is None else cv2.rotate(picture, turn)

    def get(self, property: int) -> float:
        """The properties in use: time, rate and number of frames."""
        rate = float(self._stream.average_rate or 0)
        if property == cv2.CAP_PROP_POS_MSEC:
            return 1e3 * self._seconds
        if property == cv2.CAP_PROP_FPS:
            return rate
        if property == cv2.CAP_PROP_FRAME_COUNT:
            return float(self._stream.frames or rate * (self._container.duration or 0) / self._av.time_base)
        raise ValueError(f"property {property} is not known")

    def release(self) -> None:
        self._container.close()


def h264_encoder() -> str | None:
    """The name of an H.264 encoder in PyAV; None if it has none or is not installed."""
    if not is_installed():
        return None
    available: set[str] = import_module("av").codecs_available
    return next((name for name in _ENCODERS if name in available), None)


class AvWriter:
    """An MP4 of H.264 whose frames are shown at their own times.

    PyAV works in its own thread, which Ctrl-C does not reach: an unfinished header would cost the whole video. A
    waiting caller may be interrupted; its requests are still carried out, in order.

    Raises:
        OSError: the file cannot be written, or the encoder refuses the size.
    """

    def __init__(self, path: Path, encoder: str, size: tuple[int, int], fps: float) -> None:
        """``size`` is width, height; ``fps`` the usual rate, from which the encoder plans its bits."""
        self._av: Any = import_module("av")
        self._last = -1
        self._worker = ThreadPoolExecutor(1, "video-writer")
        try:
            self._container = self._av.open(str(path.absolute()), "w", format="mp4")
            self._stream = self._container.add_stream(encoder, rate=Fraction(fps).limit_denominator(1001))
        except self._av.FFmpegError as error:
            raise _as_os_error(error) from error
        # 4:2:0, which browsers play, has one colour for 2 x 2 pixels.
        self._stream.width, self._stream.height = (side + side % 2 for side in size)
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _UNITS)
        # One thread: the network has the other cores. Without B-frames every player starts at time 0.
        self._stream.codec_context.thread_count = 1
        self._stream.codec_context.max_b_frames = 0
        if encoder == "libx264":
            self._stream.options = {"preset": "veryfast", "crf": "23"}

    def write(self, image: np.ndarray, seconds: float) -> None:
        """One frame, uint8 (H, W, 3) BGR."""
        height, width = image.shape[:2]
        if height % 2 or width % 2:
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
        self._last = max(round(seconds * _UNITS), self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, _UNITS)
        self._worker.submit(self._encode, frame).result()

    def _encode(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except self._av.FFmpegError as error:
            raise _as_os_error(error) from error

    def close(self) -> None:
        """Write what the encoder still holds, and the index."""
        with self._worker:
            self._worker.submit(self._finish).result()

    def _finish(self) -> None:
        try:
            self._encode(None)
        finally:
            try:
                self._container.close()
            except self._av.FFmpegError as error:
                raise _as_os_error(error) from error


def _as_os_error(error: Any) -> OSError:
    return OSError(error.errno, str(error.strerror))
