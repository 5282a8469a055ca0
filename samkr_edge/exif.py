"""The EXIF orientation of an image file: how it asks to be turned before it is shown."""

from __future__ import annotations

import struct
from pathlib import Path

_ORIENTATION = 0x0112
_HEAD = 1 << 14  # bytes: cameras write the orientation into the first of them


def orientation(data: bytes) -> int:
    """1 as stored, 2 to 4 mirrored or upside down, 5 to 8 with width and height exchanged; 1 where nothing is said.

    Args:
        data: a JPEG, PNG or WebP file, or its beginning.
    """
    tiff = _exif(data)
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


def orientation_of(path: Path) -> int:
    """:func:`orientation` of a file, from its beginning; 1 where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return orientation(stream.read(_HEAD))
    except OSError:
        return 1


def _exif(data: bytes) -> bytes:
    if data[:2] == b"\xff\xd8":
        return _in_jpeg(data)
    for start, chunk in ((b"\x89PNG", b"eXIf"), (b"RIFF", b"EXIF")):
        if data.startswith(start) and chunk in data:
            block = data[data.index(chunk) + (4 if chunk == b"eXIf" else 8) :]
            return block.removeprefix(b"Exif\x00\x00")
    return b""


def _in_jpeg(data: bytes) -> bytes:
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != 0xDA:
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        segment = data[position + 4 : position + 2 + length]
        if data[position + 1] == 0xE1 and segment.startswith(b"Exif\x00\x00"):
            return segment[6:]
        position += 2 + length
    return b""
