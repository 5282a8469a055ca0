"""Keypoint data sets in COCO's format: found by layout, checked while reading, images read on demand.

Two layouts are recognised:

    ROOT/annotations/person_keypoints_{train,val}2017.json     COCO
    ROOT/images/{train,val}2017/  or  ROOT/{train,val}2017/  or  ROOT/images/
    ROOT/annotations/image_info_{test-dev,test}2017.json       its test images, whose labels only COCO's server has
    ROOT/images/test2017/  or  ROOT/test2017/

    ROOT/json/crowdpose_{train,val,trainval,test}.json         CrowdPose
    ROOT/images/

Any other annotation file can be given in place of a directory.

Convention: keypoints are (x, y, v) in image pixels, v = 0 not labelled, 1 labelled but hidden, 2 visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from samkr_edge.dataset.annotations import (
    Annotation,
    ImageRecord,
    Places,
    annotations_by_image,
    image_path,
    image_records,
    malformed,
)
from samkr_edge.dataset.categories import Categories, read_categories
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import read_json
from samkr_edge.files.named import missing_file
from samkr_edge.fixes import quoted
from samkr_edge.pose.skeleton import COCO17, Skeleton

_FOLDERS = {"coco": "annotations", "crowdpose": "json"}
_IMAGES_ONLY = "image_info_"


@dataclass(frozen=True)
class KeypointDataset:
    """One split of a data set, all its annotations checked; no image has been opened.

    Attributes:
        root: the data directory.
        split: ``train``, ``val``, ...
        kind: ``coco`` or ``crowdpose``: decides the evaluation protocol.
        annotation_path: the JSON file that was read.
        skeleton: the keypoints, in annotation order.
        images: all images of the split, including those without people, in file order.
        annotations: image id -> its annotations (possibly an empty list). Each has ``id``,
            ``image_id``, ``category_id``, ``keypoints`` (3K numbers), ``num_keypoints``, ``iscrowd``, ``bbox``
            (x, y, w, h: where the file has no size, that of the labelled keypoints) and ``area`` (where the file has
            none, 0.53 w h). Crowds and people without keypoints also have ``segmentation``: polygons or RLE that
            fit the image, or None.
        category_id: the file's id of the category, or of the first of several with the same keypoints, for results
            that are to be compared with the file.
        told: what was left out or filled in while reading, see ``samkr_edge.dataset.annotations``.
        image_folder: the folder that the images' file names are relative to.
        searched: the folders in which the images were looked for.
        labelled_by: the network whose poses stand for labels, with ``annotation_path`` its file; empty where people
            labelled.
        labelled: False for images whose labels are not public: nobody is annotated, and the keypoints are COCO's 17.
    """

    root: Path
    split: str
    kind: str
    annotation_path: Path
    skeleton: Skeleton
    images: tuple[ImageRecord, ...]
    annotations: dict[int, list[Annotation]]
    category_id: int = 1
    told: Places = field(default_factory=dict)
    image_folder: Path = Path()
    searched: tuple[Path, ...] = ()
    labelled: bool = True
    labelled_by: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def metric(self) -> str:
        """What AP on it is called wherever it is shown: ``AP``, or ``AP against FP32`` where FP32 labelled it."""
        return f"AP against {self.labelled_by}" if self.labelled_by else "AP"

    @property
    def named(self) -> Path:
        """What to pass as ``--data``: the directory, or the file if no layout has it there."""
        return self.root if self.annotation_path in _places(self.root, self.split) else self.annotation_path


def open_dataset(
    root: str | Path,
    split: str = "val",
    *,
    annotations: str | Path | None = None,
    images: str | Path | None = None,
) -> KeypointDataset:
    """Find and read one split.

    Args:
        root: the data directory, or an annotation file.
        split: ``train``, ``val``, or another one that the directory holds. For a file: the split that it counts as,
            unless it is a file of images without labels, which says so itself.
        annotations: annotation file to use in place of the one found.
        images: image folder to use in place of the one found.

    Raises:
        SamkrError: SE-A23 no such folder, SE-D10 no annotations in it, SE-D11 no such split,
            SE-D03 not JSON, SE-D12 wrong content, SE-D13 unknown keypoints, SE-D14 empty split.
    """
    root = Path(root)
    if annotations is None and root.is_file():
        annotations = root
        root = root.parent.parent if root.parent.name in _FOLDERS.values() else root.parent
    if annotations is not None:
        path = Path(annotations)
        kind = None
    else:
        kind, path = _find_annotations(root, split)
    payload = read_json(path, "annotation file")
    if not isinstance(payload, dict):
        raise malformed(path, [f"the file holds a {type(payload).__name__}, not an object"])
    image_entries = _list_of_objects(payload, "images", path)
    labelled = not path.name.startswith(_IMAGES_ONLY) or bool(payload.get("annotations"))
    annotation_entries = _list_of_objects(payload, "annotations", path) if labelled else []
    split = split if labelled else split_of(path)
    if not image_entries:
        raise SamkrError(
            "SE-D14",
            f"the split {split!r} has no images, so there is nothing to work on",
            {"file": path},
            fix="restore the annotation file, or choose another split",
        )
    if kind is None:
        is_crowdpose = path.name.startswith("crowdpose") or "crowdIndex" in image_entries[0]
        kind = "crowdpose" if is_crowdpose else "coco"
    described = _list_of_objects(payload, "categories", path) if payload.get("categories") else []
    # The test images' categories are those of object detection, without keypoints.
    categories = (
        read_categories(described, annotation_entries, kind, path)
        if labelled
        else Categories(COCO17, used=None, others={})
    )
    searched = (Path(images),) if images is not None else _image_folders(root, split, kind, path)
    folder = _image_folder(searched, image_entries)
    records = image_records(image_entries, folder, path)
    by_image, told = annotations_by_image(annotation_entries, records, categories, path)
    return KeypointDataset(
        root=root,
        split=split,
        kind=kind,
        annotation_path=path,
        skeleton=categories.skeleton,
        images=records,
        annotations=by_image,
        category_id=next((key for key in categories.used or () if isinstance(key, int)), 1),
        told=told,
        image_folder=folder,
        searched=searched,
        labelled=labelled,
    )


def available_splits(root: str | Path) -> list[str]:
    """Names of the labelled splits whose annotation files are in ``root``, in the layouts above."""
    return _splits_at(root, "annotations/person_keypoints_*2017.json", "json/crowdpose_*.json")


def unlabelled_splits(root: str | Path) -> list[str]:
    """Names of the splits in ``root`` that have images only."""
    return _splits_at(root, f"annotations/{_IMAGES_ONLY}*2017.json")


def _splits_at(root: str | Path, *patterns: str) -> list[str]:
    root = Path(root)
    if not root.is_dir():
        return []
    paths = (path for pattern in patterns for path in sorted(root.glob(pattern)))
    return list(dict.fromkeys(map(split_of, paths)))


def split_of(annotation_path: Path) -> str:
    """The split that an annotation file's name gives."""
    return _subset(annotation_path).removesuffix("2017").removeprefix("crowdpose_")


def _subset(annotation_path: Path) -> str:
    return annotation_path.stem.removeprefix("person_keypoints_").removeprefix(_IMAGES_ONLY)


def annotation_place(root: Path, split: str, kind: str) -> Path:
    """The annotation file of a split in the layouts above."""
    name = f"crowdpose_{split}.json" if kind == "crowdpose" else f"person_keypoints_{split}2017.json"
    return root / _FOLDERS[kind] / name


def _places(root: Path, split: str) -> dict[Path, str]:
    """Possible paths of a split's file -> the kind of each; the first that exists counts."""
    places = {annotation_place(root, split, kind): kind for kind in _FOLDERS}
    return {**places, root / _FOLDERS["coco"] / f"{_IMAGES_ONLY}{split}2017.json": "coco"}


def _find_annotations(root: Path, split: str) -> tuple[str, Path]:
    if not root.is_dir():
        raise missing_file(
            root, "data directory", "samkr-edge data synth people   # or name the folder of your data set"
        )
    for path, kind in _places(root, split).items():
        if path.is_file():
            return kind, path
    splits, bare = available_splits(root), unlabelled_splits(root)
    known = {place for name in (*splits, *bare) for place in _places(root, name)}
    others = [str(path.relative_to(root)) for path in _json_files(root) if path not in known]
    offered = {"also here": f"{', '.join(others[:3])}{', ...' if len(others) > 3 else ''}"} if others else {}
    if splits or bare:
        raise SamkrError(
            "SE-D11",
            f"{root} has no split {split!r}",
            {
                "splits": ", ".join(splits) or None,
                "no labels": f"{', '.join(bare)}: images only, for eval" if bare else None,
                **offered,
            },
            fix=f"run the same command with --split {splits[0]}"
            if splits
            else f"samkr-edge eval MODEL --data {quoted(root)} --split {quoted(bare[0])}",
        )
    inside = sorted(entry.name for entry in root.iterdir())
    raise SamkrError(
        "SE-D10",
        f"{root} has no annotations where a data set keeps them",
        {
            **{kind: annotation_place(root, split, kind).relative_to(root) for kind in _FOLDERS},
            **(
                offered
                or {"found": f"{', '.join(inside[:6]) or 'an empty folder'}{' ...' * (len(inside) > 6)}"}
            ),
        },
        fix=f"name the file itself in place of the directory: {quoted(root / others[0])}"
        if others
        else "samkr-edge data synth people   # or move the files into one of these layouts",
    )


def _json_files(root: Path) -> list[Path]:
    """JSON files in the folder and one below; a few of them, since some sets have one per image."""
    return sorted(islice((path for pattern in ("*.json", "*/*.json") for path in root.glob(pattern)), 100))


def _image_folders(root: Path, split: str, kind: str, annotation_path: Path) -> tuple[Path, ...]:
    """Possible folders of a split's images, the likeliest first."""
    images = root / "images"
    # Tools give the file and the folder of a subset the same name.
    subset = _subset(annotation_path)
    # COCO's test-dev is a part of its test images.
    names = (subset, f"{split}2017", split, f"{split.removesuffix('-dev')}2017")
    by_name = [folder / name for name in names for folder in (images, root)]
    folders = [images, *by_name] if kind == "crowdpose" else [*by_name, images]
    return tuple(dict.fromkeys([*folders, root, annotation_path.parent]))


def _image_folder(folders: Sequence[Path], entries: Sequence[dict[str, Any]]) -> Path:
    """The first folder that holds one of the first images; if none does, the first that exists."""
    names = [entry["file_name"] for entry in entries[:5] if isinstance(entry.get("file_name"), str)]
    for folder in folders:
        if any(image_path(folder, name).is_file() for name in names if name and "\0" not in name):
            return folder
    return next((folder for folder in folders[:-2] if folder.is_dir()), folders[0])


def _list_of_objects(payload: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    entries = payload.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise malformed(path, [f"{key!r} is {'missing' if entries is None else 'not a list of objects'}"])
    return entries
