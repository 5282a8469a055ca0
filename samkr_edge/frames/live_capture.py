"""Cameras, network streams and pipelines: how they are named, and how OpenCV opens them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2

from samkr_edge.doctor.opencv_install import how_to_get_more
from samkr_edge.errors import SamkrError
from samkr_edge.stream_address import in_small_letters, is_stream_address, without_secrets

_CSI = re.compile(r"^csi(?::(\d+))?$")
# A Jetson's CSI camera: NVIDIA's source, converted for OpenCV. We drop old frames, so none are queued here.
_CSI_PIPELINE = (
    "nvarguscamerasrc sensor-id={id} ! video/x-raw(memory:NVMM), width=1280, height=720, framerate=30/1 ! "
    "nvvidconv ! video/x-raw, format=BGRx ! videoconvert ! video/x-raw, format=BGR ! "
    "appsink drop=true max-buffers=1"
)
_OPEN_MS, _READ_MS = 10_000, 5_000


def is_live(source: str) -> bool:
    """Whether a word that is not a file's name means a camera, a stream's address or a GStreamer pipeline."""
    return (
        source.isdecimal()
        or is_stream_address(source)
        or _CSI.match(source) is not None
        or " ! " in source
        or is_device(source)
    )


def is_device(source: str) -> bool:
    """Whether this is a camera's device file."""
    return re.fullmatch(r"/dev/video\d+", source) is not None


def open_live(source: str) -> tuple[Any, str]:
    """OpenCV's capture of a live source, which may not have opened, and a name for messages, without passwords.

    Raises:
        SamkrError: SE-V98 this OpenCV was built without GStreamer.
    """
    csi = _CSI.match(source)
    if csi or " ! " in source:
        if not has_gstreamer():
            raise SamkrError(
                "SE-V98",
                "this OpenCV was built without GStreamer, so the pipeline cannot run",
                {
                    "OpenCV": f"{cv2.__version__}, {Path(cv2.__file__).parent}",
                    "pip's": "wheels have no GStreamer",
                },
                fix=how_to_get_more(gstreamer=True),
            )
        number = (csi.group(1) or "0") if csi else ""
        pipeline = _CSI_PIPELINE.format(id=number) if csi else source
        return cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER), f"csi{number}" if csi else "gstreamer"
    if source.isdigit() or is_device(source):
        number = re.sub(r"\D", "", source)
        capture = cv2.VideoCapture(int(number))
        # One frame in the driver's queue: a longer queue only makes the picture older.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return capture, f"camera{number}"
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_MS]
    return cv2.VideoCapture(in_small_letters(source), cv2.CAP_FFMPEG, limits), without_secrets(source)


def has_gstreamer() -> bool:
    """Whether OpenCV can run GStreamer pipelines."""
    return re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is not None
