"""Whose file it is: a command replaces what the user named with -o; under any other name, only its own outputs.

Outputs of `predict` have a mark inside, and are never its input. The mark travels with a copied file, and a file that
somebody puts in place of one of ours does not have it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import json_in, json_of

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = len(_PNG) + 25  # and the image header, which must come first
_NAME = b"Software\0samkr-edge predict"
_TEXT = b"tEXt" + _NAME
_CHUNK = len(_NAME).to_bytes(4, "big") + _TEXT + zlib.crc32(_TEXT).to_bytes(4, "big")
# A box that players skip, at the end of an MP4.
_BOX = (26).to_bytes(4, "big") + b"freesamkr-edge predict"
_LINE_KEYS = {"frame", "seconds", "people"}
_ENTRY_KEYS = {"image_id", "category_id", "keypoints", "score", "file_name"}


def marked_png(data: bytes) -> bytes:
    """The bytes of a PNG with our mark in them."""
    return data[:_PNG_HEADER] + _CHUNK + data[_PNG_HEADER:]


def mark_mp4(path: Path) -> None:
    """Put our mark at the end of a finished MP4."""
    with open(path, "ab") as stream:
        stream.write(_BOX)


def made_by_predict(path: Path) -> bool:
    """Whether `predict` wrote this overlay, video or keypoints file; False for a file that cannot be read."""
    try:
        if path.suffix == ".json":
            entries = json_in(path)
            return isinstance(entries, list) and all(
                isinstance(entry, dict) and entry.keys() >= _ENTRY_KEYS for entry in entries
            )
        with open(path, "rb") as stream:
            if path.suffix == ".jsonl":
                line = json_of(stream.readline(1 << 20).decode())
                return isinstance(line, dict) and line.keys() >= _LINE_KEYS
            head = stream.read(_PNG_HEADER + len(_CHUNK))
            if head.startswith(_PNG):
                return head.endswith(_CHUNK)
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - len(_BOX)))
            return stream.read() == _BOX
    except (OSError, ValueError):
        return False


def refuse_foreign(
    paths: Iterable[Path],
    made: Callable[[Path], bool] = made_by_predict,
    fix: str = "choose another place with -o, or move these files",
) -> None:
    """Before anything is written: an existing file at an output's path must be an earlier output.

    Args:
        paths: names that the command chose, not the user.
        made: whether an existing file is an earlier output.
        fix: what the user can do.

    Raises:
        SamkrError: SE-D05 a file of other origin would be replaced.
    """
    foreign = [path for path in paths if path.exists() and not made(path)]
    if not foreign:
        return
    shown = foreign[:3]
    raise SamkrError(
        "SE-D05",
        f"{foreign[0].parent} holds files of other origin where results would go, so nothing was done",
        {"not ours": [path.name for path in shown], "and more": len(foreign) - len(shown) or None},
        fix=fix,
    )
