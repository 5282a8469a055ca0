"""The data set doctor: finds what would break training or flatter its figures."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from samkr_edge.dataset.annotations import LEFT_OUT, TOLD, ImageRecord, Places, found_line
from samkr_edge.dataset.decoder_messages import listening
from samkr_edge.dataset.exif import orientation
from samkr_edge.dataset.keypoint_dataset import KeypointDataset, available_splits, open_dataset, split_of
from samkr_edge.dataset.usable import Purpose, no_labels, place_of, refusal, smallest_area
from samkr_edge.errors import SamkrError
from samkr_edge.images import read_image
from samkr_edge.pose.oks import is_ignored, is_labelled, is_labelled_person

# A labelled keypoint on the border may be outside by a pixel of rounding.
_MARGIN = 1.0
# Images decoded in parallel; if a decoder prints something, each is decoded again alone.
_TOGETHER = 32
_TRAINED_ON = ("train", "trainval")

# Kind -> what it means. Problems make the check fail; notes are only reported.
PROBLEMS = {
    "missing": "missing image files",
    "corrupt": "image files that cannot be decoded or are cut off",
    "size": "images whose size is not the one in the annotations",
    "turned": "images of the annotated size only when rotated by EXIF, which is ignored",
    "shared": "images whose bytes are in another split too",
    "duplicate_id": "duplicate annotation ids",
    "no_area": "people with keypoints but without area or box",
    "uncounted": "people with labelled keypoints but num_keypoints 0, ignored",
    **LEFT_OUT,
}
NOTES = {
    "repeated": "images whose bytes are in the same split twice",
    "outside": "people with a labelled keypoint outside the image",
    "count": "people whose num_keypoints is not their number of labelled keypoints",
    "empty": "images without any annotation",
    "small": "people with keypoints but too small for training to give them a centre",
    "damaged": "images that are partly damaged, and read as far as possible",
    "exif": "images with an EXIF orientation, ignored: wrong if labelled as rotated",
    "swapped": "images with width and height swapped in the annotations; nothing depends on it",
    **TOLD,
}


@dataclass(frozen=True)
class SplitReport:
    """Findings of one split.

    Attributes:
        skeleton: its name.
        keypoints: their names, which all splits must share.
        found: kind (see ``PROBLEMS``, ``NOTES``) -> every place where it was found.
        refused: step of the pipeline that cannot use this split -> why.
        searched: folders in which the images were looked for.
    """

    split: str
    kind: str
    skeleton: str
    keypoints: tuple[str, ...]
    images: int
    people: int
    crowds: int
    found: Places = field(default_factory=dict)
    refused: dict[Purpose, SamkrError] = field(default_factory=dict)
    searched: tuple[Path, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "kind": self.kind,
            "skeleton": self.skeleton,
            "images": self.images,
            "people": self.people,
            "crowds": self.crowds,
            "problems": {kind: len(self.found.get(kind, [])) for kind in PROBLEMS},
            "notes": {kind: len(self.found.get(kind, [])) for kind in NOTES},
            "places": self.found,
            "refused": {step: error.to_dict() for step, error in self.refused.items()},
        }


def open_splits(root: str | Path) -> list[KeypointDataset]:
    """All labelled splits of a data directory, or the one of a file.

    Raises:
        SamkrError: what ``open_dataset`` raises for a split that cannot be read at all; SE-D81 the file is of images
            without labels.
    """
    root = Path(root)
    if root.is_file():
        dataset = open_dataset(root, split_of(root))
        if not dataset.labelled:
            raise no_labels(dataset)
        return [dataset]
    # Without any split the reader's error names the places that were searched.
    return [open_dataset(root, split) for split in available_splits(root) or ["train"]]


def check_splits(
    datasets: list[KeypointDataset], *, advance: Callable[[int], None] | None = None
) -> list[SplitReport]:
    """Check every annotation and decode every image.

    Args:
        datasets: the splits of one data set, which should have no image in common.
        advance: called with the number of images done since the last call.
    """
    found = [_check_annotations(dataset) for dataset in datasets]
    places: dict[str, list[tuple[int, ImageRecord]]] = defaultdict(list)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for index, dataset in enumerate(datasets):
            for first in range(0, len(dataset.images), _TOGETHER):
                records = dataset.images[first : first + _TOGETHER]
                with listening() as said:
                    results = [*pool.map(_check_image, records)]
                for record, (digest, kind) in zip(records, results, strict=True):
                    if kind is not None:
                        found[index][kind].append(place_of(record, dataset))
                    if said and kind != "corrupt" and (why := _complaint(record)):
                        found[index]["damaged"].append(f"{place_of(record, dataset)}: {why}")
                    if digest:
                        places[digest].append((index, record))
                if advance is not None:
                    advance(len(records))
    for copies in places.values():
        _compare_copies(copies, datasets, found)
    return [_summary(dataset, kinds) for dataset, kinds in zip(datasets, found, strict=True)]


def problems_error(root: str | Path, reports: list[SplitReport]) -> SamkrError | None:
    """SE-D16 with one fact for each kind of problem, or None without problems."""
    problems = [
        f"{step} refuses {report.split}: {error.sentence()}"
        for report in reports
        for step, error in report.refused.items()
    ]
    if len({report.keypoints for report in reports}) > 1:
        named = (f"{report.split} {len(report.keypoints)} ({report.skeleton})" for report in reports)
        problems.append(f"the splits have different keypoints: {', '.join(named)}")
    searched = None
    fixes = [error.fix for report in reports for error in report.refused.values() if error.fix]
    for kind, meaning in PROBLEMS.items():
        places = [place for report in reports for place in report.found.get(kind, [])]
        if places:
            problems.append(found_line(meaning, places))
        if places and kind == "missing":
            first = next(report for report in reports if kind in report.found)
            searched = ", ".join(map(str, first.searched))
    if not problems:
        return None
    return SamkrError(
        "SE-D16",
        f"{root} has problems that would stop training or distort its results",
        {"problem": problems, "looked in": searched},
        fix=fixes[0] if fixes else "restore these files, or correct the entries; then check again",
    )


def _check_image(record: ImageRecord) -> tuple[str, str | None]:
    """SHA-256 of the file ('' if unreadable) and the kind of problem or note."""
    try:
        data = record.path.read_bytes()
    except OSError:
        return "", "missing"
    digest = hashlib.sha256(data).hexdigest()
    try:
        image = read_image(record.path)
    except SamkrError:
        return digest, "corrupt"
    turn, size = orientation(data), (record.height, record.width)
    if image.shape[:2] == size:
        return digest, None if turn == 1 else "exif"
    if image.shape[1::-1] != size:
        return digest, "size"
    return digest, "turned" if turn > 4 else "swapped"


def _complaint(record: ImageRecord) -> str:
    """A decoder's message about this image; none for one that it cannot read."""
    with listening() as said, suppress(SamkrError):
        read_image(record.path)
    return said[0] if said else ""


def _check_annotations(dataset: KeypointDataset) -> Places:
    found: Places = defaultdict(list, dataset.told)
    ids = Counter(a["id"] for people in dataset.annotations.values() for a in people)
    found["duplicate_id"] = [f"annotation {number}" for number, count in ids.items() if count > 1]
    for record in dataset.images:
        people = dataset.annotations[record.id]
        if not people:
            found["empty"].append(place_of(record, dataset))
        smallest = smallest_area(record, dataset.kind)
        for person in people:
            place = f"annotation {person['id']} (image {record.id})"
            joints = np.asarray(person["keypoints"], np.float64).reshape(-1, 3)
            (x, y, _), labelled = joints.T, is_labelled(joints)
            outside = (
                (x < -_MARGIN)
                | (y < -_MARGIN)
                | (x > record.width - 1 + _MARGIN)
                | (y > record.height - 1 + _MARGIN)
            )
            if (labelled & outside).any():
                found["outside"].append(place)
            if is_labelled_person(person) and is_ignored(person):
                found["uncounted"].append(place)
            elif int(labelled.sum()) != person["num_keypoints"]:
                found["count"].append(place)
            flat = person["area"] <= 0 or person["bbox"][2] <= 0 or person["bbox"][3] <= 0
            if flat and is_labelled_person(person):
                found["no_area"].append(place)
            elif is_labelled_person(person) and person["area"] < smallest:
                found["small"].append(place)
    return found


def _compare_copies(
    copies: list[tuple[int, ImageRecord]],
    datasets: list[KeypointDataset],
    found: list[Places],
) -> None:
    """Record the copies of one image: in another split a problem, in the same one a note."""
    if len(copies) < 2:
        return
    # A joint split (trainval) consists of the others on purpose.
    counted = [(index, record) for index, record in copies if datasets[index].split != "trainval"]
    for index, record in counted:
        others = sorted({datasets[other].split for other, _ in counted if other != index})
        if others:
            found[index]["shared"].append(f"{record.path.name} (also in {', '.join(others)})")
    for index, count in Counter(index for index, _ in copies).items():
        if count > 1:
            names = [record.path.name for other, record in copies if other == index]
            found[index]["repeated"].append(" = ".join(names))


def _summary(dataset: KeypointDataset, found: Places) -> SplitReport:
    annotations = [a for people in dataset.annotations.values() for a in people]
    crowds = sum(bool(a["iscrowd"]) for a in annotations)
    steps: tuple[Purpose, ...] = ("train", "quantize") if dataset.split in _TRAINED_ON else ("eval",)
    return SplitReport(
        split=dataset.split,
        kind=dataset.kind,
        skeleton=dataset.skeleton.name,
        keypoints=dataset.skeleton.keypoints,
        images=len(dataset.images),
        people=len(annotations) - crowds,
        crowds=crowds,
        found={kind: places for kind, places in found.items() if places},
        refused={step: error for step in steps if (error := refusal(dataset, step)) is not None},
        searched=dataset.searched,
    )
