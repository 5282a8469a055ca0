"""Read a keypoint data set in COCO's or CrowdPose's own layout.

COCO:      DIR/annotations/person_keypoints_{split}2017.json, images in DIR/images/{split}2017 or DIR/{split}2017
CrowdPose: DIR/json/crowdpose_{split}.json, images in DIR/images
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samkr_edge.artefact import read_json
from samkr_edge.errors import SamkrError
from samkr_edge.skeleton import COCO17, CROWDPOSE14, Skeleton

SPLITS = ("train", "val", "trainval", "test")


@dataclass(frozen=True)
class ImageRecord:
    """One image of a data set; ``crowd_index`` is CrowdPose's measure of overlap, 0..1."""

    id: int
    path: Path
    width: int
    height: int
    crowd_index: float | None = None


@dataclass(frozen=True)
class KeypointDataset:
    """One split. ``annotations`` maps an image id to its people, as they stand in the file."""

    root: Path
    split: str
    kind: str
    annotation_path: Path
    skeleton: Skeleton
    images: tuple[ImageRecord, ...]
    annotations: dict[int, list[dict[str, Any]]]

    def __len__(self) -> int:
        return len(self.images)


def open_dataset(root: str | Path, split: str = "val") -> KeypointDataset:
    """Open one split of a data directory; its layout is recognised by looking.

    Raises:
        SamkrError: SE-D10 no such folder, SE-D11 no annotations for this split, SE-D12 the file is not in COCO's
            format, SE-D13 a wrong number of keypoints or a coordinate that is no number, SE-D14 no image in it,
            SE-D15 an unknown skeleton; SE-D02 and SE-D03 unreadable or cut off.
    """
    root = Path(root)
    if not root.is_dir():
        raise SamkrError("SE-D10", f"there is no data directory {root}", fix="samkr-edge data synth people")
    kind, path = _find_annotations(root, split)
    content = read_json(path, "annotation file")
    if not isinstance(content, dict) or not all(
        isinstance(content.get(k), list) for k in ("images", "annotations")
    ):
        raise SamkrError(
            "SE-D12",
            f"{path} is not a COCO keypoint file",
            ['expected   an object with lists "images" and "annotations"'],
        )
    skeleton = _skeleton_of(content, path)
    images = _images_of(content, path, root, kind, split)
    annotations: dict[int, list[dict[str, Any]]] = {image.id: [] for image in images}
    for annotation in content["annotations"]:
        _check_annotation(annotation, len(skeleton), path)
        if annotation["image_id"] in annotations:
            annotations[annotation["image_id"]].append(annotation)
    return KeypointDataset(root, split, kind, path, skeleton, images, annotations)


def _find_annotations(root: Path, split: str) -> tuple[str, Path]:
    places = {
        "coco": lambda name: root / "annotations" / f"person_keypoints_{name}2017.json",
        "crowdpose": lambda name: root / "json" / f"crowdpose_{name}.json",
    }
    for kind, place in places.items():
        if place(split).is_file():
            return kind, place(split)
    present = sorted({name for name in SPLITS for place in places.values() if place(name).is_file()})
    raise SamkrError(
        "SE-D11",
        f"{root} has no annotations for the split {split!r}",
        [
            *(f"looked for {place(split)}" for place in places.values()),
            f"splits     {', '.join(present) or 'none found'}",
        ],
        fix=f"samkr-edge data check {root}"
        if present
        else "samkr-edge data synth people   # a data set to begin with",
    )


def _skeleton_of(content: dict[str, Any], path: Path) -> Skeleton:
    """From the category; else from ``skeleton.yaml`` beside the annotations; else by CrowdPose's keypoint count."""
    beside = path.with_name("skeleton.yaml")
    if beside.is_file():
        import yaml

        try:
            return Skeleton.from_dict({"name": path.stem, "edges": [], **yaml.safe_load(beside.read_text())})
        except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            raise SamkrError(
                "SE-D15",
                f"{beside} does not describe a skeleton",
                [f"reason     {error}", "needed     keypoints, flip_pairs, sigmas; optional edges"],
            ) from error
    category = next(
        (c for c in content.get("categories", []) if isinstance(c, dict) and c.get("keypoints")), {}
    )
    names = tuple(category.get("keypoints", ()))
    for known in (COCO17, CROWDPOSE14):
        if names == known.keypoints:
            return known
    if {"flip_pairs", "sigmas"} <= set(category):
        edges = [[a - 1, b - 1] for a, b in category.get("skeleton", [])]
        return Skeleton.from_dict({"edges": edges, **category, "name": str(category.get("name", path.stem))})
    counts = {len(a.get("keypoints", ())) for a in content["annotations"][:100] if isinstance(a, dict)}
    if path.parent.name == "json" and counts == {3 * len(CROWDPOSE14)}:
        return CROWDPOSE14
    if counts == {3 * len(COCO17)} and len(names) in (0, len(COCO17)):
        return COCO17
    raise SamkrError(
        "SE-D15",
        f"the skeleton of {path} is not known",
        [
            f"found      {len(names)} keypoint names in the category",
            "missing    which keypoints mirror, and sigmas",
        ],
        fix=f"write {beside} with keypoints, flip_pairs and sigmas",
    )


def _images_of(
    content: dict[str, Any], path: Path, root: Path, kind: str, split: str
) -> tuple[ImageRecord, ...]:
    folder = root / "images"
    if kind == "coco":
        folder = next((f for f in (folder / f"{split}2017", root / f"{split}2017") if f.is_dir()), folder)
    try:
        images = tuple(
            ImageRecord(
                int(image["id"]),
                folder / Path(image["file_name"]).name,
                int(image["width"]),
                int(image["height"]),
                float(image["crowdIndex"]) if "crowdIndex" in image else None,
            )
            for image in content["images"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SamkrError(
            "SE-D12",
            f"{path} has an image entry that cannot be read",
            [f"reason     {type(error).__name__} {error}", "needed     id, file_name, width, height"],
        ) from error
    if not images:
        raise SamkrError("SE-D14", f"{path} names no image", [f"split      {split}"])
    return images


def _check_annotation(annotation: Any, keypoints: int, path: Path) -> None:
    name = annotation.get("id", "?") if isinstance(annotation, dict) else "?"
    values = annotation.get("keypoints") if isinstance(annotation, dict) else None
    if not isinstance(values, list) or "image_id" not in annotation:
        raise SamkrError("SE-D12", f"annotation {name} of {path} has no keypoints or no image_id")
    if len(values) != 3 * keypoints:
        raise SamkrError(
            "SE-D13",
            f"annotation {name} of {path} has the wrong number of keypoints",
            [
                f"expected   {3 * keypoints} numbers ({keypoints} x (x, y, visibility))",
                f"found      {len(values)}",
            ],
        )
    if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values):
        raise SamkrError("SE-D13", f"annotation {name} of {path} has a coordinate that is no finite number")


def read_image(path: str | Path) -> np.ndarray:
    """Decode an image file to uint8 (H, W, 3) RGB.

    The EXIF rotation is ignored, as the annotations of COCO refer to the stored pixels. Gray, 16-bit, CMYK and
    transparent images are converted.

    Raises:
        SamkrError: SE-D16 missing, SE-D17 not an image or corrupt.
    """
    import cv2

    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise SamkrError(
            "SE-D16", f"image {path} could not be read", [f"reason     {error.strerror}"]
        ) from error
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(data, flags) if data.size else None
    if image is None:
        raise SamkrError(
            "SE-D17",
            f"image {path} is empty, corrupt or of an unknown format",
            [f"size       {data.size} bytes"],
        )
    return np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
