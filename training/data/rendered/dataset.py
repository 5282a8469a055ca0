"""A data set of rendered people on disk, in COCO's or CrowdPose's layout.

The seed of an image is (seed, split, index): the same pixels come out of any number of processes, and no image of
one split can be in the other. The data set appears under its name only when it is complete.
"""

from __future__ import annotations

import glob
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import json_in, sha256_of, unwritable, write_json
from samkr_edge.pose.skeleton import COCO17, CROWDPOSE14, Skeleton
from training.data.rendered.scene import Scene, SceneSettings, annotation_of, crowd_index, render_scene

RECORD = "synth.json"
# Part of the settings, since a renderer that draws differently makes another data set.
RENDERER_VERSION = 1
SPLITS = ("train", "val")
JPEG_QUALITY = 92
_CHUNK = 64
# For fewer images, starting processes takes longer than rendering.
_POOL_FROM = 600


@dataclass(frozen=True)
class SynthSettings:
    """Everything that decides the bytes of the data set.

    Attributes:
        train, val: number of images.
        seed: any non-negative integer.
        keypoints: ``coco`` (17, COCO's layout) or ``crowdpose`` (14, CrowdPose's layout).
        scene: what the images look like.
        format: ``jpg`` (quality 92) or ``png``.
    """

    train: int = 6000
    val: int = 400
    seed: int = 0
    keypoints: str = "coco"
    scene: SceneSettings = field(default_factory=SceneSettings)
    format: str = "jpg"

    def __post_init__(self) -> None:
        if self.train < 1 or self.val < 1:
            raise ValueError("train and val must each have at least one image")
        if self.seed < 0:
            raise ValueError("seed must not be negative")
        if self.keypoints not in ("coco", "crowdpose"):
            raise ValueError("keypoints must be coco or crowdpose")
        if self.format not in ("jpg", "png"):
            raise ValueError("format must be jpg or png")

    @property
    def skeleton(self) -> Skeleton:
        return COCO17 if self.keypoints == "coco" else CROWDPOSE14

    def count(self, split: str) -> int:
        return self.train if split == "train" else self.val

    def to_dict(self) -> dict[str, Any]:
        # Through JSON, so that tuples compare equal to what is read back from the record.
        settings: dict[str, Any] = json.loads(json.dumps({**asdict(self), "renderer": RENDERER_VERSION}))
        if self.scene.aspect == 1:
            del settings["scene"]["aspect"]  # older records are of square images and have no aspect
        return settings


@dataclass(frozen=True)
class SynthResult:
    """The data set on disk. ``content_hash`` covers every image and annotation; ``reused`` if it existed before."""

    root: Path
    settings: SynthSettings
    content_hash: str
    people: dict[str, int]
    reused: bool


def scene_of(settings: SynthSettings, split: str, index: int) -> Scene:
    """Image ``index`` of a split, as the data set holds it before compression."""
    seed = np.random.SeedSequence([settings.seed, SPLITS.index(split), index])
    return render_scene(np.random.default_rng(seed), settings.scene, settings.skeleton)


def write_dataset(
    out: str | Path,
    settings: SynthSettings,
    *,
    force: bool = False,
    processes: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> SynthResult:
    """Render ``settings`` into the folder ``out``.

    A complete data set of the same settings is reused. Nothing is ever half written: all goes to a hidden folder next
    to ``out`` that is renamed at the end, and deleted on any failure, Ctrl-C included.

    Args:
        force: replace a rendered data set of other settings. A folder with anything else in it is never touched.
        processes: 1 renders in this process; default: up to four, where there are enough images.
        advance: called with the number of images finished since the last call.

    Raises:
        SamkrError: SE-D05 ``out`` holds something else, SE-D17 people of other settings, SE-D01 it cannot be written.
    """
    out = Path(out)
    record = _read_record(out)
    if record is not None and record.get("settings") == settings.to_dict() and _is_complete(out, record):
        if advance is not None:
            advance(settings.train + settings.val)
        return SynthResult(out, settings, record["content_hash"], record["people"], reused=True)
    same = record is not None and record.get("settings") == settings.to_dict()
    if record is None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SamkrError(
            "SE-D05",
            f"{out} holds something that `data synth` did not make, so nothing was written",
            fix="choose another folder",
        )
    if record is not None and not same and not force:
        raise SamkrError(
            "SE-D17",
            f"{out} holds rendered people of other settings, so nothing was written",
            _differences(record.get("settings", {}), settings.to_dict()),
            fix="choose another folder, or add --force to replace them",
        )
    try:
        return _write(out, settings, processes, advance)
    except OSError as error:
        raise unwritable(out, error) from error


def _write(
    out: Path, settings: SynthSettings, processes: int | None, advance: Callable[[int], None] | None
) -> SynthResult:
    with _replacing_folder(out) as folder:
        digest = hashlib.sha256()
        people, annotation_files = {}, {}
        if processes is None:
            enough = settings.train + settings.val >= _POOL_FROM
            processes = min(4, os.cpu_count() or 1) if enough else 1
        for split in SPLITS:
            image_folder, annotation_path = _layout(folder, settings.keypoints, split)
            image_folder.mkdir(parents=True, exist_ok=True)
            annotation_path.parent.mkdir(parents=True, exist_ok=True)
            images: list[dict[str, Any]] = []
            annotations: list[dict[str, Any]] = []
            tasks = [
                (settings, split, first, min(first + _CHUNK, settings.count(split)), image_folder)
                for first in range(0, settings.count(split), _CHUNK)
            ]
            for chunk in _run(tasks, processes):
                for image, found, file_hash in chunk:
                    images.append(image)
                    annotations.extend(found)
                    digest.update(file_hash)
                if advance is not None:
                    advance(len(chunk))
            for number, annotation in enumerate(annotations, 1):
                annotation["id"] = _first_id(split) + number
            payload = {
                "info": {"description": "rendered people, made by samkr-edge data synth"},
                "images": images,
                "annotations": annotations,
                "categories": [_category(settings.skeleton)],
            }
            annotation_path.write_text(json.dumps(payload, separators=(",", ":")), encoding="utf-8")
            name = annotation_path.relative_to(folder).as_posix()
            annotation_files[name] = sha256_of(annotation_path)
            digest.update(bytes.fromhex(annotation_files[name]))
            people[split] = len(annotations)
        content_hash = digest.hexdigest()
        write_json(
            folder / RECORD,
            {
                "settings": settings.to_dict(),
                "content_hash": content_hash,
                "people": people,
                "annotation_files": annotation_files,
            },
        )
    return SynthResult(out, settings, content_hash, people, reused=False)


_Rendered = tuple[dict[str, Any], list[dict[str, Any]], bytes]
_Task = tuple[SynthSettings, str, int, int, Path]


def _run(tasks: list[_Task], processes: int) -> Iterator[list[_Rendered]]:
    """Chunks in order."""
    if processes <= 1 or len(tasks) == 1:
        yield from map(_render_chunk, tasks)
        return
    # Fresh processes: a fork would inherit locks held by this process's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(tasks)), context, _ignore_interrupts) as pool:
        try:
            yield from pool.map(_render_chunk, tasks)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _ignore_interrupts() -> None:
    """Ignore Ctrl-C and a lost terminal, which reach every process: only the parent decides."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _render_chunk(task: _Task) -> list[_Rendered]:
    from samkr_edge.machine.opencv_threads import opencv_threads

    settings, split, first, last, folder = task
    with opencv_threads(1):
        return [_render_image(settings, split, index, folder) for index in range(first, last)]


def _render_image(settings: SynthSettings, split: str, index: int, folder: Path) -> _Rendered:
    import cv2

    scene = scene_of(settings, split, index)
    image_id = _first_id(split) + index + 1
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if settings.format == "jpg" else []
    _, encoded = cv2.imencode(f".{settings.format}", cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR), options)
    data = encoded.tobytes()
    name = _name(split, index, settings.format)
    (folder / name).write_bytes(data)
    image: dict[str, Any] = {
        "id": image_id,
        "file_name": name,
        "width": settings.scene.image_hw[1],
        "height": settings.scene.image_hw[0],
    }
    if settings.keypoints == "crowdpose":
        image["crowdIndex"] = round(crowd_index(scene.people), 4)
    annotations = [annotation_of(person, 0, image_id) for person in scene.people]
    return image, annotations, hashlib.sha256(data).digest()


def _first_id(split: str) -> int:
    """Ids differ between splits, since CrowdPose keeps all images in one folder."""
    return SPLITS.index(split) * 500_000_000


def _name(split: str, index: int, suffix: str) -> str:
    return f"{_first_id(split) + index + 1:012d}.{suffix}"


def _layout(root: Path, keypoints: str, split: str) -> tuple[Path, Path]:
    """Image folder and annotation file."""
    if keypoints == "crowdpose":
        return root / "images", root / "json" / f"crowdpose_{split}.json"
    return root / "images" / f"{split}2017", root / "annotations" / f"person_keypoints_{split}2017.json"


def _category(skeleton: Skeleton) -> dict[str, Any]:
    return {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(skeleton.keypoints),
        "skeleton": [[first + 1, second + 1] for first, second in skeleton.edges],
    }


def _read_record(out: Path) -> dict[str, Any] | None:
    record = json_in(out / RECORD)
    return record if isinstance(record, dict) and "settings" in record else None


def _is_complete(out: Path, record: dict[str, Any]) -> bool:
    """Whether every file has the bytes that were written; reading them is far less work than rendering."""
    settings = record["settings"]
    try:
        digest = hashlib.sha256()
        for split in SPLITS:
            folder, annotations = _layout(out, settings["keypoints"], split)
            for index in range(settings[split]):
                digest.update(bytes.fromhex(sha256_of(folder / _name(split, index, settings["format"]))))
            digest.update(bytes.fromhex(sha256_of(annotations)))
        complete: bool = digest.hexdigest() == record["content_hash"]
        return complete
    except (OSError, KeyError, AttributeError, TypeError):
        return False


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, str]:
    different = [name for name in wanted if found.get(name) != wanted[name]]
    return {name: f"there {found.get(name)}, asked for {wanted[name]}" for name in different[:4]}


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def _replacing_folder(out: Path) -> Iterator[Path]:
    """A hidden folder next to ``out``, renamed on success and deleted on failure."""
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    for leftover in out.parent.glob(f".{glob.escape(out.name)}.*.part"):
        owner = leftover.name.split(".")[-2]
        if owner.isdigit() and not _is_running(int(owner)):
            shutil.rmtree(leftover, ignore_errors=True)
    temporary = out.parent / f".{out.name}.{os.getpid()}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        previous = out.parent / f".{out.name}.{os.getpid()}.old"
        if out.exists():
            out.rename(previous)
        temporary.rename(out)
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
