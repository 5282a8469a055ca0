"""Whether a video file was cut off: it has fewer bytes than its container says.

This is certain. A duration is not: in most containers it is that of the longest track, which may be the sound.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from samkr_edge.frames.video_clock import box_at

_EBML, _SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"
_MP4 = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def is_cut_off(path: Path) -> bool:
    """Whether bytes are missing at the end of an MP4, Matroska, AVI or FLV file; False if unknown."""
    try:
        with path.open("rb") as file:
            there = file.seek(0, 2)
            return there < _announced(file, there)
    except (OSError, struct.error, IndexError):
        return False


def _announced(file: BinaryIO, there: int) -> int:
    """Bytes that the container says it has; 0 if it does not say."""
    file.seek(0)
    head = file.read(1024)
    if head[:4] == b"RIFF":  # of a longer AVI this is the first part
        size = int.from_bytes(head[4:8], "little")
        return 0 if size == 2**32 - 1 else 8 + size
    if head[:4] == _EBML:
        content, size = _element(head, 4)
        start = content + size
        if head[start : start + 4] != _SEGMENT:
            return 0
        content, size = _element(head, start + 4)
        return content + size
    if head[:3] == b"FLV":
        _, said, number = head.partition(b"\0\x08filesize\0")
        return int(struct.unpack(">d", number[:8])[0]) if said else 0
    return _end_of_boxes(file, there) if head[4:8] in _MP4 else 0


def _element(data: bytes, at: int) -> tuple[int, int]:
    """Where the content of a Matroska element begins, and its size, read at ``at``; 0 if unknown."""
    length = 9 - data[at].bit_length()
    bits = 7 * length
    size = int.from_bytes(data[at : at + length], "big") & ((1 << bits) - 1)
    return at + length, 0 if size == (1 << bits) - 1 else size


def _end_of_boxes(file: BinaryIO, there: int) -> int:
    """Where the last box of an MP4 ends, ISO/IEC 14496-12."""
    end = 0
    while (box := box_at(file, end, there)) is not None:
        *_, end = box
    return end
