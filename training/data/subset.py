"""A small data set cut out of a large one: a seed-stable choice of images with people, copied in the same layout.

For trying things quickly, and for fitting a network to a handful of images on purpose (the AP on images that were
trained on is train-fit AP, never to be taken for accuracy).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samkr_edge.artefact import read_json, replacing, write_json
from samkr_edge.categories import SKELETON_FILE
from samkr_edge.dataset import ImageRecord, KeypointDataset
from samkr_edge.errors import SamkrError


@dataclass(frozen=True)
class Subset:
    """What was written: the annotation file, and how many images and annotations it has."""

    annotation_path: Path
    images: int
    annotations: int


def write_subset(source: KeypointDataset, out: Path, count: int, seed: int = 0) -> Subset:
    """Copy ``count`` images that show people, with all annotations of these images, to ``out``.

    The split keeps its name; other splits in ``out`` stay as they are. Categories, licences and whatever else the
    annotation file holds are copied as they are.

    Raises:
        SamkrError: SE-D47 fewer images with people than asked for, SE-D48 ``out`` is the source itself; SE-D01 the
            disk refuses.
    """
    if out.resolve() == source.root.resolve():
        raise SamkrError(
            "SE-D48", f"{out} is the data set itself, so nothing was copied", fix="name another folder"
        )
    shown = [
        image
        for image in source.images
        if any(a["num_keypoints"] > 0 and not a["iscrowd"] for a in source.annotations[image.id])
    ]
    if len(shown) < count:
        raise SamkrError(
            "SE-D47",
            f"the split {source.split!r} has fewer images with people than asked for, so nothing was copied",
            [
                f"asked      {count}",
                f"found      {len(shown)} that show a labelled person, of {len(source)} images",
            ],
            fix=f"samkr-edge data subset {source.root} {out} --split {source.split} --images {len(shown)}"
            if shown
            else f"samkr-edge data check {source.root}",
        )
    chosen = [shown[i] for i in sorted(np.random.default_rng(seed).permutation(len(shown))[:count].tolist())]
    for image in chosen:
        with replacing(out / image.path.relative_to(source.root)) as temporary:
            shutil.copyfile(image.path, temporary)
    skeleton = source.annotation_path.parent / SKELETON_FILE
    target = out / source.annotation_path.relative_to(source.root)
    if skeleton.is_file():
        with replacing(target.parent / SKELETON_FILE) as temporary:
            shutil.copyfile(skeleton, temporary)
    # The annotations last: a subset that was interrupted is not one yet.
    return _write_annotations(source.annotation_path, target, chosen)


def _write_annotations(source: Path, target: Path, chosen: list[ImageRecord]) -> Subset:
    payload = read_json(source, "annotation file")
    ids = {image.id for image in chosen}
    images = [entry for entry in payload["images"] if entry["id"] in ids]
    annotations = [entry for entry in payload["annotations"] if entry["image_id"] in ids]
    write_json(target, {**payload, "images": images, "annotations": annotations})
    return Subset(target, len(images), len(annotations))
