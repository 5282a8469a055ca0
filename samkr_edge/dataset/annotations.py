"""The images and people of an annotation file, checked entry by entry; everything that is wrong is counted.

Files of many tools are read. What cannot be read is an error (SE-D12); what is left out or filled in is reported.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from samkr_edge.dataset.categories import Categories, category_key, whole_number
from samkr_edge.dataset.segmentation import checked_segmentation
from samkr_edge.errors import SamkrError
from samkr_edge.pose.oks import box_area, is_ignored, is_labelled, labelled_joints

_FARTHEST = 1e9  # pixels; the squares of larger numbers overflow in the evaluation

Annotation: TypeAlias = dict[str, Any]
# What was found -> every place where it was found.
Places: TypeAlias = dict[str, list[str]]

# What reading leaves out or fills in. With the first two, people of the file are missing.
LEFT_OUT = {
    "category": "annotations of a category that the file does not describe, skipped",
    "segmentation": "segmentations of crowds or unlabelled people that cannot be drawn, skipped",
}
TOLD = {
    "others": "annotations of categories with other keypoints or none, skipped",
    "several": "categories with the same keypoints, taken for one",
    "filled": "people without a size, taken from their box or keypoints",
}


@dataclass(frozen=True)
class ImageRecord:
    """One image of a split. ``crowd_index`` is CrowdPose's measure of crowding, None elsewhere."""

    id: int
    path: Path
    width: int
    height: int
    crowd_index: float | None = None


def listed(places: Sequence[str], most: int = 3) -> str:
    """The first places of many, for one line."""
    return ", ".join(places[:most]) + (", ..." if len(places) > most else "")


def found_line(words: str, places: Sequence[str]) -> str:
    """What was found, how often, and where first; ``words`` are a plural, so the number stands behind them."""
    return f"{words} ({len(places)}): {listed(places)}"


def malformed(path: Path, problems: Sequence[str]) -> SamkrError:
    """SE-D12."""
    return SamkrError(
        "SE-D12",
        f"the annotation file {path} is not usable",
        {"problem": problems[:4]},
        fix="correct these entries, or restore the file from its source",
    )


def image_records(entries: Sequence[dict[str, Any]], folder: Path, path: Path) -> tuple[ImageRecord, ...]:
    """The images of a file, in its order, whether they exist or not.

    Raises:
        SamkrError: SE-D12.
    """
    records: dict[int, ImageRecord] = {}
    faults: Places = defaultdict(list)
    for number, entry in enumerate(entries, 1):
        place = f"image {entry.get('id', f'number {number}')}"
        image_id, name = whole_number(entry.get("id")), entry.get("file_name")
        width, height = whole_number(entry.get("width")), whole_number(entry.get("height"))
        crowd_index = entry.get("crowdIndex")
        if image_id is None:
            faults["have an id that is not a 63-bit integer"].append(place)
        elif image_id in records:
            faults["have a duplicate id"].append(place)
        elif not isinstance(name, str) or not name or "\0" in name:
            faults["have no file_name"].append(f"{place}: {name!r}")
        elif not width or not height or min(width, height) <= 0:
            shown = f"{entry.get('width', 'none')} x {entry.get('height', 'none')}"
            faults["have no width and height in pixels"].append(f"{place}: {shown}")
        elif not isinstance(crowd_index, (int, float, type(None))):
            faults["have a crowdIndex that is not a number"].append(f"{place}: {crowd_index!r}")
        else:
            index = None if crowd_index is None else float(crowd_index)
            records[image_id] = ImageRecord(image_id, image_path(folder, name), width, height, index)
    if faults:
        raise malformed(path, _problems(faults, len(entries), "images"))
    return tuple(records.values())


def image_path(folder: Path, name: str) -> Path:
    """The path of an image; backslashes of a name written on Windows separate folders."""
    if "\\" in name and os.sep != "\\" and not (folder / name).exists():
        name = name.replace("\\", "/")
    return folder / name


def annotations_by_image(
    entries: Sequence[dict[str, Any]],
    records: Sequence[ImageRecord],
    categories: Categories,
    path: Path,
) -> tuple[dict[int, list[Annotation]], Places]:
    """Image id -> its annotations, completed; and what was left out or filled in, see ``LEFT_OUT`` and ``TOLD``.

    Raises:
        SamkrError: SE-D12.
    """
    by_image: dict[int, list[Annotation]] = {record.id: [] for record in records}
    images = {record.id: record for record in records}
    faults: Places = defaultdict(list)
    told: Places = defaultdict(list)
    taken: Counter[str] = Counter()
    for number, entry in enumerate(entries, 1):
        raw_image = entry.get("image_id")
        place = f"annotation {entry.get('id', f'number {number}')} (image {raw_image})"
        if categories.used is not None and entry.get("category_id") is not None:
            category = category_key(entry["category_id"])
            if category not in categories.used:
                kind = "others" if category in categories.others else "category"
                told[kind].append(f"{place}: {entry['category_id']!r}")
                continue
            taken[categories.used[category]] += 1
        image_id = whole_number(raw_image)
        if image_id not in by_image:
            faults["have an image that is not in the file"].append(place)
            continue
        try:
            person, filled = _completed(entry, number, len(categories.skeleton))
        except _Unusable as error:
            faults[error.words].append(f"{place}{error.found}")
            continue
        if filled:
            told["filled"].append(place)
        if is_ignored(person):
            record = images[image_id]
            try:
                outline = checked_segmentation(entry.get("segmentation"), record.width, record.height)
            except ValueError as error:
                told["segmentation"].append(f"{place}: {error}")
                outline = None
            person["segmentation"] = outline
        by_image[image_id].append({**person, "image_id": image_id})
    if faults:
        raise malformed(path, _problems(faults, len(entries), "annotations"))
    if len(taken) > 1:
        told["several"] = [f"{name} ({count})" for name, count in taken.most_common()]
    return by_image, dict(told)


class _Unusable(Exception):
    """Words that follow "annotations", and what was found."""

    def __init__(self, words: str, found: str = "") -> None:
        super().__init__(words)
        self.words, self.found = words, found


def _completed(entry: dict[str, Any], number: int, joints: int) -> tuple[Annotation, bool]:
    """The entry with all keys and checked numbers, and whether its size was filled in.

    Raises:
        _Unusable: for anything that is not a number or not as many.
    """
    keypoints = entry.get("keypoints") or [0] * (3 * joints)
    if not isinstance(keypoints, list) or len(keypoints) != 3 * joints:
        found = len(keypoints) if isinstance(keypoints, list) else type(keypoints).__name__
        raise _Unusable(f"do not have {3 * joints} keypoint values, three for each keypoint", f": {found}")
    try:
        sane = all(abs(value) <= _FARTHEST for value in keypoints)  # False for NaN
        labelled = labelled_joints(keypoints)
        box = [float(value) for value in entry.get("bbox") or ()]
        area = float(entry.get("area") or 0)
        num_keypoints, crowd = int(entry.get("num_keypoints", labelled)), int(entry.get("iscrowd") or 0)
    except (TypeError, ValueError, OverflowError) as error:
        raise _Unusable("have a value that is not a number") from error
    if not sane:
        raise _Unusable("have a keypoint that is NaN or beyond any image")
    if len(box) not in (0, 4) or not all(abs(v) <= _FARTHEST for v in box) or not abs(area) <= _FARTHEST**2:
        raise _Unusable("have a box or area that is not usable", f": {box}, {area}")
    # Tools that know only keypoints write 0 as the size, with which neither OKS nor training can work.
    filled = False
    if not box or min(box[2:]) <= 0:
        extent = _extent(keypoints)
        filled = min(extent[2:]) > 0 and (bool(box) or area <= 0)
        box = extent if min(extent[2:]) > 0 or not box else box
    if area <= 0 and min(box[2:]) > 0:
        filled = filled or entry.get("area") is not None
        area = box_area(*box[2:])
    own_id = entry.get("id")
    person = {
        **{key: value for key, value in entry.items() if key != "segmentation"},
        "id": own_id if isinstance(own_id, (int, str)) else number,
        "category_id": entry.get("category_id", 1),
        "keypoints": keypoints,
        "num_keypoints": num_keypoints,
        "iscrowd": crowd,
        "bbox": box,
        "area": max(area, 0.0),
    }
    return person, filled


def _extent(keypoints: Sequence[float]) -> list[float]:
    """The box x, y, w, h of the labelled keypoints; all 0 without any."""
    points = np.asarray(keypoints, dtype=np.float64).reshape(-1, 3)
    points = points[is_labelled(points)]
    if len(points) == 0:
        return [0.0, 0.0, 0.0, 0.0]
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    return [*low.tolist(), *(high - low).tolist()]


def _problems(faults: Places, count: int, what: str) -> list[str]:
    return [f"{len(places)} of {count} {what} {words}: {listed(places)}" for words, places in faults.items()]
