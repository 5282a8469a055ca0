"""Keypoint data sets in COCO's format: found by looking, checked while reading, images read on demand.

Two layouts are recognised::

    ROOT/annotations/person_keypoints_{train,val}2017.json     COCO
    ROOT/images/{train,val}2017/  or  ROOT/{train,val}2017/  or  ROOT/images/

    ROOT/json/crowdpose_{train,val,trainval,test}.json         CrowdPose
    ROOT/images/

Convention: keypoints are (x, y, v) in image pixels, v = 0 not labelled, 1 labelled but hidden, 2 visible.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samkr_edge.artefact import read_json
from samkr_edge.errors import SamkrError
from samkr_edge.file_kind import kind_of_bytes
from samkr_edge.skeleton import COCO17, CROWDPOSE14, Skeleton

# The CrowdPose evaluation API takes this share of a person's box as the person's area.
BOX_AREA_SHARE = 0.53
SKELETON_FILE = "skeleton.yaml"
_KEYPOINT_ALIASES = {"top_head": "head", "head_top": "head"}

Annotation = dict[str, Any]


@dataclass(frozen=True)
class ImageRecord:
    """One image of a split. ``crowd_index`` is CrowdPose's measure of crowding, None elsewhere."""

    id: int
    path: Path
    width: int
    height: int
    crowd_index: float | None = None


@dataclass(frozen=True)
class KeypointDataset:
    """One split of a data set, all its annotations checked; no image has been opened.

    Attributes:
        root: the data directory.
        split: ``train``, ``val``, ...
        kind: ``coco`` or ``crowdpose``: decides the evaluation protocol.
        annotation_path: the JSON file that was read.
        skeleton: the keypoints, in annotation order.
        images: all images of the split, those without people included, in file order.
        annotations: image id -> its annotations (an empty list where there are none). Each has ``id``,
            ``image_id``, ``category_id``, ``keypoints`` (3K numbers), ``num_keypoints``, ``iscrowd``, ``bbox``
            (x, y, w, h) and ``area`` (filled in as 0.53 w h where the file has none); ``segmentation`` is as in
            the file: polygons, RLE or absent.
        category_id: the file's id of the category, for results that are to be compared with the file.
    """

    root: Path
    split: str
    kind: str
    annotation_path: Path
    skeleton: Skeleton
    images: tuple[ImageRecord, ...]
    annotations: dict[int, list[Annotation]]
    category_id: int = 1

    def __len__(self) -> int:
        return len(self.images)


def open_dataset(
    root: str | Path,
    split: str = "val",
    *,
    annotations: str | Path | None = None,
    images: str | Path | None = None,
) -> KeypointDataset:
    """Find and read one split.

    Args:
        root: the data directory.
        split: ``train``, ``val``, or another one that the directory holds.
        annotations: annotation file to use in place of the one found.
        images: image folder to use in place of the one found.

    Raises:
        SamkrError: SE-D10 no such folder or no annotations in it, SE-D11 no such split, SE-D02 unreadable,
            SE-D03 not JSON, SE-D12 wrong content, SE-D13 unknown keypoints, SE-D14 empty split.
    """
    root = Path(root)
    if annotations is not None:
        path = Path(annotations)
        kind = None
    else:
        kind, path = _find_annotations(root, split)
    payload = read_json(path, "annotation file")
    if not isinstance(payload, dict):
        raise _malformed(path, f"the file holds a {type(payload).__name__}, not an object")
    image_entries = _list_of_objects(payload, "images", path)
    annotation_entries = _list_of_objects(payload, "annotations", path)
    if not image_entries:
        raise SamkrError(
            "SE-D14",
            f"the split {split!r} has no images, so there is nothing to work on",
            [f"file       {path}"],
            fix="restore the annotation file, or choose another split",
        )
    if kind is None:
        is_crowdpose = path.name.startswith("crowdpose") or "crowdIndex" in image_entries[0]
        kind = "crowdpose" if is_crowdpose else "coco"
    category_id, skeleton = _skeleton_of(payload, annotation_entries, kind, path)
    folder = Path(images) if images is not None else _image_folder(root, split, kind)
    records = _image_records(image_entries, folder, path)
    return KeypointDataset(
        root=root,
        split=split,
        kind=kind,
        annotation_path=path,
        skeleton=skeleton,
        images=records,
        annotations=_annotations_by_image(annotation_entries, records, category_id, skeleton, path),
        category_id=1 if category_id is None else category_id,
    )


def available_splits(root: str | Path) -> list[str]:
    """Names of the splits whose annotation files lie in ``root``, in the layouts above."""
    root = Path(root)
    coco = [
        path.stem.removeprefix("person_keypoints_").removesuffix("2017")
        for path in sorted(root.glob("annotations/person_keypoints_*2017.json"))
    ]
    crowdpose = [path.stem.removeprefix("crowdpose_") for path in sorted(root.glob("json/crowdpose_*.json"))]
    return list(dict.fromkeys([*coco, *crowdpose]))


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
        raise _unreadable(path, f"reason     {error.strerror or error}") from error
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
        if whole and kind is not None and kind.format:
            reason = f"{kind.format}, which OpenCV {cv2.__version__} could not decode"
        raise _unreadable(path, f"reason     {reason}", f"size       {len(data)} bytes")
    rgb: npt.NDArray[np.uint8] = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return rgb


def _unreadable(path: str | Path, *facts: str) -> SamkrError:
    return SamkrError(
        "SE-D15",
        f"the image {path} could not be read",
        facts,
        fix="restore the file from its source, or leave it out; if annotations name it, out of them too",
    )


def _is_whole(data: bytes) -> bool:
    """False for an empty file and for a JPEG or PNG that ends early: OpenCV fills such images with gray."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return b"IEND" in data[-64:] or b"IEND" in data
    if data[:2] != b"\xff\xd8":
        return bool(data)
    # Walk the segments up to the scan: a thumbnail within a segment has an end marker of its own.
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return True  # not as the standard has it: the decoder shall say
        marker = data[position + 1]
        if marker == 0xDA:
            return data.find(b"\xff\xd9", position) != -1
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 1 if marker == 0xFF else 2
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


def _find_annotations(root: Path, split: str) -> tuple[str, Path]:
    if not root.is_dir():
        raise SamkrError(
            "SE-D10",
            f"the data directory {root} {'is not a folder' if root.exists() else 'does not exist'}",
            fix="samkr-edge data synth people   # or name the folder of your data set",
        )
    candidates = [
        ("coco", root / "annotations" / f"person_keypoints_{split}2017.json"),
        ("crowdpose", root / "json" / f"crowdpose_{split}.json"),
    ]
    for kind, path in candidates:
        if path.is_file():
            return kind, path
    splits = available_splits(root)
    if splits:
        raise SamkrError(
            "SE-D11",
            f"{root} has no split {split!r}",
            [f"splits     {', '.join(splits)}"],
            fix=f"give the same command with --split {splits[0]}",
        )
    inside = sorted(entry.name for entry in root.iterdir())
    raise SamkrError(
        "SE-D10",
        f"{root} has no annotations where a data set has them",
        [
            *(f"{kind:<10} {path.relative_to(root)}" for kind, path in candidates),
            f"found      {', '.join(inside[:6]) or 'an empty folder'}{' ...' if len(inside) > 6 else ''}",
        ],
        fix="samkr-edge data synth people   # or move the files to where one of these layouts has them",
    )


def _image_folder(root: Path, split: str, kind: str) -> Path:
    if kind == "crowdpose":
        return root / "images"
    for folder in (root / "images" / f"{split}2017", root / f"{split}2017"):
        if folder.is_dir():
            return folder
    # Where none exists the first read fails and names the path that was expected.
    flat = root / "images"
    has_files = flat.is_dir() and any(entry.is_file() for entry in flat.iterdir())
    return flat if has_files else flat / f"{split}2017"


def _list_of_objects(payload: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    entries = payload.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _malformed(path, f"{key!r} is {'missing' if entries is None else 'not a list of objects'}")
    return entries


def _image_records(entries: Sequence[dict[str, Any]], folder: Path, path: Path) -> tuple[ImageRecord, ...]:
    records = []
    seen: set[int] = set()
    for entry in entries:
        try:
            crowd_index = entry.get("crowdIndex")
            record = ImageRecord(
                id=int(entry["id"]),
                path=folder / str(entry["file_name"]),
                width=int(entry["width"]),
                height=int(entry["height"]),
                crowd_index=None if crowd_index is None else float(crowd_index),
            )
        except (KeyError, TypeError, ValueError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise _malformed(path, f"image {entry.get('id', '?')}: {reason}") from error
        if record.width <= 0 or record.height <= 0:
            raise _malformed(path, f"image {record.id}: size {record.width} x {record.height}")
        if record.id in seen:
            raise _malformed(path, f"image {record.id}: the id is given twice")
        seen.add(record.id)
        records.append(record)
    return tuple(records)


def _annotations_by_image(
    entries: Sequence[dict[str, Any]],
    records: Sequence[ImageRecord],
    category_id: int | None,
    skeleton: Skeleton,
    path: Path,
) -> dict[int, list[Annotation]]:
    by_image: dict[int, list[Annotation]] = {record.id: [] for record in records}
    expected = 3 * len(skeleton)
    for number, entry in enumerate(entries, 1):
        if category_id is not None and entry.get("category_id", category_id) != category_id:
            continue
        name = f"annotation {entry.get('id', f'number {number}')}"
        image_id = entry.get("image_id")
        if not isinstance(image_id, int) or image_id not in by_image:
            raise _malformed(path, f"{name}: its image {image_id} is not in the file")
        keypoints = entry.get("keypoints") or [0] * expected
        if not isinstance(keypoints, list) or len(keypoints) != expected:
            found = len(keypoints) if isinstance(keypoints, list) else type(keypoints).__name__
            raise _malformed(
                path,
                f"{name} (image {image_id}): wrong number of keypoint values",
                f"expected   {expected}, three for each keypoint of {skeleton.name}",
                f"found      {found}",
            )
        try:
            if not all(map(math.isfinite, keypoints)):
                raise _malformed(path, f"{name} (image {image_id}): a keypoint is NaN or infinite")
            labelled = sum(value > 0 for value in keypoints[2::3])
            box = [float(value) for value in entry.get("bbox") or _box_of(keypoints)]
            area = float(entry.get("area", BOX_AREA_SHARE * box[2] * box[3]))
            num_keypoints, crowd = int(entry.get("num_keypoints", labelled)), int(entry.get("iscrowd", 0))
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            raise _malformed(path, f"{name} (image {image_id}): a value is not a number") from error
        if len(box) != 4 or not all(map(math.isfinite, (*box, area))):
            raise _malformed(path, f"{name} (image {image_id}): its box or area is not usable: {box}, {area}")
        by_image[image_id].append(
            {
                **entry,
                "id": entry.get("id", number),
                "category_id": entry.get("category_id", 1),
                "keypoints": keypoints,
                "num_keypoints": num_keypoints,
                "iscrowd": crowd,
                "bbox": box,
                "area": area,
            }
        )
    return by_image


def _box_of(keypoints: Sequence[float]) -> list[float]:
    points = np.asarray(keypoints, dtype=np.float64).reshape(-1, 3)
    points = points[points[:, 2] > 0]
    if len(points) == 0:
        return [0.0, 0.0, 0.0, 0.0]
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    return [*low.tolist(), *(high - low).tolist()]


def _skeleton_of(
    payload: dict[str, Any], annotations: Iterable[dict[str, Any]], kind: str, path: Path
) -> tuple[int | None, Skeleton]:
    """The id of the person category (None: take all annotations) and its keypoints."""
    categories = payload.get("categories") or []
    if not isinstance(categories, list) or not all(isinstance(entry, dict) for entry in categories):
        raise _malformed(path, "'categories' is not a list of objects")
    with_keypoints = [entry for entry in categories if entry.get("keypoints")]
    category = next(
        (entry for entry in with_keypoints if entry.get("name") == "person"),
        with_keypoints[0] if with_keypoints else {},
    )
    names = tuple(str(name) for name in category.get("keypoints", ()))
    lengths = (len(a["keypoints"]) for a in annotations if isinstance(a.get("keypoints"), list))
    count = len(names) or next((length // 3 for length in lengths if length), 0)
    category_id = category.get("id")

    file = path.parent / SKELETON_FILE
    if file.exists():  # a folder of that name is a mistake to name, not to pass over
        return category_id, _skeleton_from_file(file, count)
    normal = tuple(_normal_name(name) for name in names)
    for known in (COCO17, CROWDPOSE14):
        if normal == known.keypoints:
            return category_id, known
    if not names:
        # CrowdPose files are met without their category: kind and count leave no doubt.
        if kind == "crowdpose" and count in (0, len(CROWDPOSE14)):
            return None, CROWDPOSE14
        if kind == "coco" and count == len(COCO17):
            return None, COCO17
    missing = [key for key in ("flip_pairs", "sigmas") if key not in category]
    if names and not missing:
        return category_id, _own_skeleton(category, path)
    what = ", ".join(missing) if names else "the category with its keypoint names"
    raise SamkrError(
        "SE-D13",
        f"the keypoints of {path} are neither COCO's 17 nor CrowdPose's 14, and more must be known about them",
        [
            f"found      {count} keypoints{': ' if names else ''}{', '.join(names[:6])}"
            f"{', ...' if len(names) > 6 else ''}",
            f"missing    {what}",
        ],
        fix=f"write {file} with the keys keypoints, flip_pairs, edges and sigmas",
    )


def _normal_name(name: str) -> str:
    name = name.strip().lower().replace(" ", "_").replace("-", "_")
    return _KEYPOINT_ALIASES.get(name, name)


def _edges_of(category: dict[str, Any]) -> list[list[int]]:
    """COCO's ``skeleton`` counts keypoints from one."""
    return [[int(first) - 1, int(second) - 1] for first, second in category.get("skeleton", [])]


def _skeleton_from_file(file: Path, count: int) -> Skeleton:
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _bad_skeleton(file, " ".join(str(error).split())[:160]) from error
    skeleton = _own_skeleton(content, file)
    if count and len(skeleton) != count:
        raise _bad_skeleton(file, f"{len(skeleton)} keypoints, but the annotations have {count}")
    return skeleton


def _own_skeleton(content: Any, path: Path) -> Skeleton:
    if not isinstance(content, dict):
        raise _bad_skeleton(path, f"it holds a {type(content).__name__}, not names with values")
    try:
        return Skeleton.from_dict({"name": "custom", "edges": _edges_of(content), **content})
    except KeyError as error:
        raise _bad_skeleton(path, f"no {error}") from error
    except (TypeError, ValueError) as error:
        raise _bad_skeleton(path, str(error)) from error


def _bad_skeleton(path: Path, reason: str) -> SamkrError:
    return SamkrError(
        "SE-D13",
        f"the keypoints described in {path} cannot be used",
        [f"reason     {reason}"],
        fix="give keypoints (K names), flip_pairs and edges (pairs counted from 0), sigmas (K numbers)",
    )


def _malformed(path: Path, *facts: str) -> SamkrError:
    return SamkrError(
        "SE-D12",
        f"the annotation file {path} is not usable",
        facts,
        fix="correct the entry, or restore the file from its source",
    )
