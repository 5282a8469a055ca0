"""What a file is by its first bytes: an image, a video or neither. Its name counts only if they do not tell."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_LOOKED_AT = 4096
# How formats begin. A container that may hold sound only counts as a video; opening it shows.
_IMAGE_STARTS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "BigTIFF",
    b"\0\0\0\x0cjP  \r\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"#?RADIANCE": "HDR",
    b"v/1\x01": "OpenEXR",
    b"\x59\xa6\x6a\x95": "Sun raster",
}
_VIDEO_STARTS = {
    b"\x1aE\xdf\xa3": "Matroska or WebM",
    b"FLV\x01": "FLV",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "ASF",
    b"OggS": "Ogg",
    b".RMF": "RealMedia",
    b"\0\0\x01\xba": "MPEG",
    b"\0\0\x01\xb3": "MPEG",
    b"YUV4MPEG2": "Y4M",
    b"\x06\x0e\x2b\x34": "MXF",
    b"DKIF": "IVF",
}
# ISO media files: the brand distinguishes a phone's photograph from a video.
_IMAGE_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    b"crx ": "CR3",
}
_SOUND_BRANDS = {b"M4A ", b"M4B ", b"M4P "}
_ATOMS = {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}
# H.264 and H.265 without a container: a start code, then a parameter set or a delimiter.
_BARE_STREAM = re.compile(rb"\0\0\0\x01[\x67\x27\x47\x09\x40\x42\x46]")
_PNM = re.compile(rb"P[1-7]\s")
# For files whose bytes do not tell: empty, damaged, or not what their name says. Their reader will report that.
_IMAGE_ENDINGS = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif", ".heic", ".heif",
        ".avif", ".jp2", ".jxl",
    }
)  # fmt: skip
_VIDEO_ENDINGS = frozenset(
    {
        ".mp4", ".avi", ".mkv", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv",
        ".3gp", ".3g2", ".ogv", ".vob", ".mxf", ".h264", ".h265",
    }
)  # fmt: skip


@dataclass(frozen=True)
class FileKind:
    """An image or a video, and the name of its format; ``format`` is empty if only the file's name tells."""

    medium: Literal["image", "video"]
    format: str = ""


def file_kind(path: str | os.PathLike[str]) -> FileKind | None:
    """What a file is, by its content, else by its suffix; None for anything but images and videos.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as stream:
        head = stream.read(_LOOKED_AT)
    if is_resource_fork(head):
        return None
    return kind_of_bytes(head) or kind_by_ending(path)


def kind_by_ending(path: str | os.PathLike[str]) -> FileKind | None:
    """The kind by the name alone."""
    ending = Path(path).suffix.lower()
    if ending in _IMAGE_ENDINGS:
        return FileKind("image")
    return FileKind("video") if ending in _VIDEO_ENDINGS else None


def kind_of_bytes(head: bytes) -> FileKind | None:
    """The kind by the first bytes; 1 kB distinguishes all formats."""
    if head[:4] == b"GIF8" and b"NETSCAPE2.0" in head:  # more than one frame
        return FileKind("video", "GIF")
    for start, name in _IMAGE_STARTS.items():
        if head.startswith(start):
            return FileKind("image", name)
    for start, name in _VIDEO_STARTS.items():
        if head.startswith(start):
            return FileKind("video", name)
    if head[:4] == b"RIFF":
        return {b"WEBP": FileKind("image", "WebP"), b"AVI ": FileKind("video", "AVI")}.get(head[8:12])
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return FileKind("image", "BMP")
    if _PNM.match(head):
        return FileKind("image", "PNM")
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in _SOUND_BRANDS:
            return None
        if brand in _IMAGE_BRANDS:
            return FileKind("image", _IMAGE_BRANDS[brand])
        return FileKind("video", "MP4")
    if head[4:8] in _ATOMS:
        return FileKind("video", "QuickTime")
    if _BARE_STREAM.match(head):
        return FileKind("video", "H.264 or H.265")
    # Packets of a transport stream begin with the same byte; some cameras put a four-byte time before each.
    for first, packet in ((0, 188), (4, 192), (0, 204)):
        if len(head) > first + 3 * packet and set(head[first : first + 4 * packet : packet]) == {0x47}:
            return FileKind("video", "MPEG-TS")
    return None


def is_resource_fork(head: bytes) -> bool:
    """Whether this is what macOS leaves next to a file on a foreign disk: ``._a.png`` next to ``a.png``."""
    return head[:4] == b"\x00\x05\x16\x07"
