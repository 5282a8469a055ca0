"""Edits of the index of an MP4 that OpenCV has written: times of frames, hidden beginnings, another codec's name."""

import itertools
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"}


def edit(path: Path, changes: dict[bytes, Callable[[bytes], bytes]]) -> Path:
    """Give the content of each box of a kind to a function. The index is at the file's end, so that it may grow."""

    def boxes(data: bytes) -> bytes:
        made, at = b"", 0
        while at < len(data):
            size, kind = struct.unpack(">I4s", data[at : at + 8])
            content = data[at + 8 : at + size]
            content = boxes(content) if kind in _PARENTS else changes.get(kind, lambda c: c)(content)
            made += struct.pack(">I4s", len(content) + 8, kind) + content
            at += size
        return made

    path.write_bytes(boxes(path.read_bytes()))
    return path


def set_times(path: Path, seconds: Sequence[float]) -> Path:
    """Show frame i of a video without B-frames at ``seconds[i]``; the last one as long as the one before."""
    steps = [b - a for a, b in itertools.pairwise(seconds)]
    lasts = seconds[-1] + steps[-1]
    scales: list[int] = []

    def durations(content: bytes) -> bytes:
        entries = [round(step * scales[-1]) for step in [*steps, steps[-1]]]
        return struct.pack(">II", 0, len(entries)) + b"".join(
            struct.pack(">II", 1, entry) for entry in entries
        )

    def media(content: bytes) -> bytes:
        scales.append(struct.unpack(">I", content[12:16])[0])
        return content[:16] + struct.pack(">I", round(lasts * scales[-1])) + content[20:]

    return _show_for(edit(path, {b"mdhd": media, b"stts": durations}), lasts)


def hide_beginning(path: Path, seconds: float, lasts: float) -> Path:
    """An edit list as of `ffmpeg -ss SECONDS -c copy`: the frames before are in the file and are not shown."""
    scales: list[int] = []

    def scale(content: bytes) -> bytes:
        scales.append(struct.unpack(">I", content[12:16])[0])
        return content

    edit(path, {b"mdhd": scale})
    start = round(seconds * scales[0])
    return edit(
        _show_for(path, lasts), {b"elst": lambda c: c[:8] + c[8:12] + struct.pack(">i", start) + c[16:20]}
    )


def begin_late(path: Path, seconds: float) -> Path:
    """An empty edit in front, as of a picture that begins after its sound; OpenCV's movie scale is 1000."""
    wait = round(1000 * seconds)
    longer: Callable[[bytes], bytes] = lambda c: struct.pack(">I", struct.unpack(">I", c)[0] + wait)  # noqa: E731
    return edit(
        path,
        {
            b"tkhd": lambda c: c[:20] + longer(c[20:24]) + c[24:],
            b"elst": lambda c: c[:4] + struct.pack(">IIii", 2, wait, -1, 1 << 16) + c[8:],
        },
    )


def _show_for(path: Path, lasts: float) -> Path:
    """Set the duration of the movie, its track and its edit; OpenCV's movie scale is 1000."""
    units = struct.pack(">I", round(1000 * lasts))
    return edit(
        path,
        {
            b"mvhd": lambda c: c[:16] + units + c[20:],
            b"tkhd": lambda c: c[:20] + units + c[24:],
            b"elst": lambda c: c[:8] + units + c[12:],
        },
    )
