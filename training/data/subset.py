"""A data set cut out of another, copied in the same layout: some images with people, or one split made two.

The choice is stable for a seed. A few images are for trying things quickly, and for fitting a network to a handful of
images on purpose (the AP on images that were trained on is train-fit AP, never to be taken for accuracy).
"""

from __future__ import annotations

import filecmp
import os
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from samkr_edge.dataset.annotations import ImageRecord
from samkr_edge.dataset.categories import SKELETON_FILE, whole_number
from samkr_edge.dataset.keypoint_dataset import KeypointDataset, annotation_place
from samkr_edge.dataset.usable import no_labels
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import json_in, read_json, replacing, write_json
from samkr_edge.files.one_file import is_same_place
from samkr_edge.files.own_files import refuse_foreign
from samkr_edge.fixes import quoted
from samkr_edge.pose.oks import is_ignored
from samkr_edge.printable import counted

# A key of the annotation file, by which a later run recognises a subset.
MARK = "samkr_edge_subset"


@dataclass(frozen=True)
class Subset:
    """What was written: the annotation file, and how many images and annotations it has."""

    annotation_path: Path
    images: int
    annotations: int


def write_subset(source: KeypointDataset, out: Path, count: int, seed: int = 0) -> Subset:
    """Copy ``count`` images that show people, with all annotations of these images, to ``out``.

    An earlier subset in ``out`` is replaced, anything else is not. The split keeps its name; other splits in ``out``
    stay as they are. Categories, licences and whatever else the annotation file holds are copied as they are, but for
    file names that lead out of the folder of the images.

    Raises:
        SamkrError: SE-D47 fewer images with people than asked for, SE-D48 ``out`` is the source itself, SE-D49 an
            image is missing, SE-D05 ``out`` holds files of other origin; SE-D01 the disk refuses.
    """
    _refuse_itself(source, out)
    shown = _shown(source)
    if len(shown) < count:
        raise SamkrError(
            "SE-D47",
            f"the split {source.split!r} has fewer images with people than asked for, so nothing was copied",
            {
                "asked": count,
                "found": f"{len(shown)} that show a labelled person, of {counted(len(source), 'image')}",
            },
            fix=f"samkr-edge data subset {quoted(source.named)} {quoted(out)} "
            f"--split {quoted(source.split)} --images {len(shown)}"
            if shown
            else f"samkr-edge data check {quoted(source.named)}",
        )
    return _copy_images(source, out, _drawn(shown, count, seed), source.split)


def write_split(source: KeypointDataset, out: Path, share: float, seed: int = 0) -> dict[str, Subset]:
    """Copy all images of a split to ``out``, this share of them as ``val`` and the others as ``train``.

    Both get their share of the images with people, and of those without. Images that belong together, such as the
    frames of one video, are not known here, and may end on both sides.

    Raises:
        SamkrError: SE-D47 fewer than two images show people; else as ``write_subset``.
    """
    _refuse_itself(source, out)
    shown = _shown(source)
    if len(shown) < 2:
        raise SamkrError(
            "SE-D47",
            f"the split {source.split!r} has too few images with people to divide in two",
            {
                "needed": "2",
                "found": f"{len(shown)} that show a labelled person, of {counted(len(source), 'image')}",
            },
            fix=f"samkr-edge data check {quoted(source.named)}",
        )
    numbers = {image.id for image in shown}
    others = [image for image in source.images if image.id not in numbers]
    count = min(max(1, round(share * len(shown))), len(shown) - 1)
    held_out = [*_drawn(shown, count, seed), *_drawn(others, round(share * len(others)), seed)]
    numbers = {image.id for image in held_out}
    parts = {"train": [image for image in source.images if image.id not in numbers], "val": held_out}
    return {split: _copy_images(source, out, images, split) for split, images in parts.items()}


def _refuse_itself(source: KeypointDataset, out: Path) -> None:
    if is_same_place(out, source.root):
        raise SamkrError(
            "SE-D48", f"{out} is the data set itself, so nothing was copied", fix="name another folder"
        )


def _shown(source: KeypointDataset) -> list[ImageRecord]:
    """Images that show a labelled person; SE-D81 where the split has no labels at all."""
    if not source.labelled:
        raise no_labels(source)
    return [image for image in source.images if not all(is_ignored(a) for a in source.annotations[image.id])]


def _drawn(images: list[ImageRecord], count: int, seed: int) -> list[ImageRecord]:
    """``count`` of them, in their order."""
    return [images[i] for i in sorted(np.random.default_rng(seed).permutation(len(images))[:count].tolist())]


def _copy_images(source: KeypointDataset, out: Path, chosen: list[ImageRecord], split: str) -> Subset:
    folder = out / "images" / ("" if source.kind == "crowdpose" else f"{split}2017")
    names = _names(source, chosen)
    target = annotation_place(out, split, source.kind)
    copies = {folder / names[image.id]: image.path for image in chosen}
    skeleton = source.annotation_path.parent / SKELETON_FILE
    if skeleton.is_file():
        copies[target.parent / SKELETON_FILE] = skeleton
    refuse_foreign([target], made=_is_subset, fix="name another folder")
    if not target.exists():
        same = partial(filecmp.cmp, shallow=False)
        refuse_foreign(copies, made=lambda copy: same(copy, copies[copy]), fix="name another folder")
    for copy, original in copies.items():
        with replacing(copy) as temporary:
            _copy(original, temporary, source)
    # The annotations last, so that an interrupted subset is not taken for a complete one.
    return _write_annotations(source.annotation_path, target, names)


def _is_subset(annotations: Path) -> bool:
    payload = json_in(annotations)
    return isinstance(payload, dict) and bool(payload.get(MARK))


def _names(source: KeypointDataset, chosen: list[ImageRecord]) -> dict[int, str]:
    """Image id -> its file name in the subset: as in the source, but never out of the folder it is written to."""
    names: dict[int, str] = {}
    taken: set[str] = set()
    for image in chosen:
        within = Path(os.path.relpath(image.path, source.image_folder))
        if not within.parts or ".." in within.parts or within.as_posix() in taken:
            within = Path(f"{image.id}_{image.path.name}")
        names[image.id] = within.as_posix()
        taken.add(names[image.id])
    return names


def _copy(image: Path, target: Path, source: KeypointDataset) -> None:
    try:
        shutil.copyfile(image, target)
    except OSError as error:
        if error.filename != str(image):
            raise  # an error of the output disk
        raise SamkrError(
            "SE-D49",
            f"the image {image} could not be copied, so there is no subset",
            {"named in": source.annotation_path, "reason": error.strerror or error},
            fix=f"samkr-edge data check {quoted(source.named)}   # lists all such images",
        ) from error


def _write_annotations(source: Path, target: Path, names: dict[int, str]) -> Subset:
    payload = read_json(source, "annotation file")
    images = [
        {**entry, "file_name": names[number]}
        for entry in payload["images"]
        if (number := whole_number(entry["id"])) in names
    ]
    annotations = [entry for entry in payload["annotations"] if whole_number(entry["image_id"]) in names]
    write_json(target, {**payload, MARK: True, "images": images, "annotations": annotations})
    return Subset(target, len(images), len(annotations))
