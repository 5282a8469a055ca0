"""Segmentations of an annotation file, checked, since wrong ones crash the library that draws them.

COCO's forms: polygons, a list of lists x, y, x, y, ...; or run lengths {"size": [h, w], "counts": ...} down the
columns. The counts are numbers, or numbers encoded in COCO's characters, where each after the third is a difference to
the one two before it.
"""

from __future__ import annotations

import math
from typing import Any


def checked_segmentation(value: Any, width: int, height: int) -> list[Any] | dict[str, Any] | None:
    """A segmentation that pycocotools can draw on an image of this size; None if the file has none.

    A polygon that is not in a list counts as a list of one; polygons of fewer than three points are left out.

    Raises:
        ValueError: it cannot be drawn; the text says why.
    """
    if not value:
        return None
    if isinstance(value, dict):
        return _run_lengths(value, width, height)
    if not isinstance(value, list):
        raise ValueError(f"a {type(value).__name__}")
    polygons = value if any(isinstance(part, (list, dict)) for part in value) else [value]
    return [_polygon(part, width, height) for part in polygons if not _is_short(part)] or None


def _is_short(polygon: Any) -> bool:
    return isinstance(polygon, list) and len(polygon) < 6


def _polygon(polygon: Any, width: int, height: int) -> list[float]:
    if not isinstance(polygon, list) or len(polygon) % 2:
        raise ValueError("a polygon that is not pairs of numbers")
    try:
        points = [float(number) for number in polygon]
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("a polygon that is not pairs of numbers") from error
    # pycocotools walks every side pixel by pixel: a point far away takes all memory.
    far = 2.0 * max(width, height)
    if not all(math.isfinite(number) and -far <= number <= far for number in points):
        raise ValueError("a polygon far outside its image")
    return points


def _run_lengths(value: dict[str, Any], width: int, height: int) -> dict[str, Any]:
    size, counts = value.get("size"), value.get("counts")
    if size != [height, width]:
        raise ValueError(f"run lengths of size {size} in an image of {[height, width]}")
    if isinstance(counts, str):
        runs = _decoded(counts)
    elif isinstance(counts, list) and all(type(run) is int for run in counts):
        runs = counts
    else:
        raise ValueError("run lengths without counts")
    if any(run < 0 for run in runs) or sum(runs) != width * height:
        raise ValueError(f"run lengths of {sum(runs)} pixels in an image of {width * height}")
    return {"size": [height, width], "counts": counts}


def _decoded(text: str) -> list[int]:
    """The numbers in COCO's characters: five bits each from chr(48) on, 32 marks that more follow, the last one's 16
    a negative number."""
    runs: list[int] = []
    number = bits = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or bits > 30:
            raise ValueError("run lengths in other characters than COCO's")
        number |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        if code & 16:
            number -= 1 << bits
        runs.append(number + (runs[-2] if len(runs) > 2 else 0))
        number = bits = 0
    if bits:
        raise ValueError("run lengths that are cut off")
    return runs
