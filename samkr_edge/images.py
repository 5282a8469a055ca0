"""One image file as pixels, or the reason why it cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from samkr_edge.errors import SamkrError
from samkr_edge.files.file_kind import kind_of_bytes
from samkr_edge.fixes import quoted

# ``read_image``, or a function that does the same and more.
ReadImage: TypeAlias = Callable[..., npt.NDArray[np.uint8]]

_RESTORE = "restore the file from its source, or remove it, from the annotations too if they name it"
# OpenCV reads these only if built with them: a failure does not mean that the file is damaged.
_NOT_EVERYWHERE = {"HEIC", "AVIF", "CR3", "JPEG 2000", "JPEG XL", "BigTIFF", "OpenEXR"}


def read_image(path: str | Path, *, upright: bool = False) -> npt.NDArray[np.uint8]:
    """Read an image as uint8 (H, W, 3) RGB.

    The EXIF orientation is ignored, since annotations refer to the stored pixels; ``upright`` follows it, for
    photographs without annotations. Gray is repeated, 16 bits are reduced to 8, alpha is dropped, CMYK is converted.

    Raises:
        SamkrError: SE-D15 missing, not an image, or cut off.
    """
    import cv2

    try:
        data = Path(path).read_bytes()
    except OSError as error:
        refused = not isinstance(error, FileNotFoundError)
        fix = f"ls -l {quoted(path)}" if refused else _RESTORE
        reason = f"{error.strerror or error}"
        if not refused and os.path.islink(path):
            # The end of a chain of links, which is what is missing.
            reason = f"a link to a file that is not there: {os.path.realpath(path)}"
            fix = f"restore that file, or remove the link: rm {quoted(path)}"
        raise unreadable_image(path, {"reason": reason}, fix) from error
    whole = _is_whole(data)
    pixels = None
    if whole:
        try:
            flags = cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:
            pixels = None
    if pixels is None:
        kind = kind_of_bytes(data)
        reason = "cut off before its end" if data and not whole else "not an image that can be decoded"
        fix = _RESTORE
        if whole and kind is not None and kind.format:
            reason = f"{kind.format}, which OpenCV {cv2.__version__} could not decode"
            if kind.format in _NOT_EVERYWHERE:
                fix = f"magick {quoted(path)} {quoted(Path(path).with_suffix('.png'))}   # ImageMagick 6: convert"
        raise unreadable_image(path, {"reason": reason, "size": f"{len(data)} bytes"}, fix)
    rgb: npt.NDArray[np.uint8] = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return rgb


def unreadable_image(path: str | Path, facts: Mapping[str, object], fix: str) -> SamkrError:
    """SE-D15."""
    return SamkrError("SE-D15", f"the image {path} could not be read", facts, fix)


def _is_whole(data: bytes) -> bool:
    """False for an empty file and for a JPEG or PNG that ends early: OpenCV fills such images with gray."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return b"IEND" in data[-64:] or b"IEND" in data
    if data[:2] != b"\xff\xd8":
        return bool(data)
    # Walk the segments up to the scan: a thumbnail inside a segment has its own end marker.
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return True  # not as in the standard: leave it to the decoder
        marker = data[position + 1]
        if marker == 0xDA:
            return data.find(b"\xff\xd9", position) != -1
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 1 if marker == 0xFF else 2
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False
