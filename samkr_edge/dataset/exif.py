"""The EXIF orientation of an image file: how a viewer should turn it."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import BinaryIO

_ORIENTATION = 0x0112
_LONGEST = 1 << 16  # bytes of EXIF that are read: what a JPEG segment can hold


def orientation(data: bytes) -> int:
    """1 as stored, 2 to 4 mirrored or upside down, 5 to 8 with width and height exchanged; 1 if the file has none.

    Args:
        data: a JPEG, PNG or WebP file, or its beginning.
    """
    return _said_by(_exif(io.BytesIO(data)))


def orientation_of(path: Path) -> int:
    """``orientation`` of a file, reading little of it; 1 if it cannot be read.

    Cameras write it first, but a WebP keeps it after the picture, and a PNG may.
    """
    try:
        with path.open("rb", buffering=0) as stream:  # a buffer would read ahead at each of many small chunks
            return _said_by(_exif(stream))
    except OSError:
        return 1


def _said_by(tiff: bytes) -> int:
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, first)
        for entry in range(count):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, first + 2 + 12 * entry)
            if tag == _ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:  # cut off
        return 1
    return 1


def _exif(stream: BinaryIO) -> bytes:
    start = stream.read(12)
    if start.startswith(b"\xff\xd8"):
        return _in_jpeg(stream)
    if start.startswith(b"\x89PNG"):
        return _in_chunks(stream, 8, ">I4s", b"eXIf")
    if start.startswith(b"RIFF"):
        return _in_chunks(stream, 12, "<4sI", b"EXIF")
    return b""


def _in_chunks(stream: BinaryIO, position: int, header: str, wanted: bytes) -> bytes:
    stream.seek(position)
    while len(head := stream.read(8)) == 8:
        first, second = struct.unpack(header, head)
        name, length = (second, first) if isinstance(second, bytes) else (first, second)
        if name == wanted:
            return stream.read(min(length, _LONGEST)).removeprefix(b"Exif\x00\x00")
        # A PNG chunk ends with a checksum, a RIFF chunk on an even byte.
        stream.seek(length + 4 if header.startswith(">") else length + length % 2, io.SEEK_CUR)
    return b""


def _in_jpeg(stream: BinaryIO) -> bytes:
    stream.seek(2)
    while len(head := stream.read(4)) == 4 and head[0] == 0xFF and head[1] != 0xDA:
        length = int.from_bytes(head[2:], "big") - 2
        segment = stream.read(length) if head[1] == 0xE1 and length > 0 else b""
        if segment.startswith(b"Exif\x00\x00"):
            return segment[6:]
        stream.seek(max(0, length) - len(segment), io.SEEK_CUR)
    return b""
