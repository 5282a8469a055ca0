"""Was a model trained on the images it is to be evaluated on? Then AP says what it remembers, not what it can do.

A training run leaves on the card the hash of its annotation file and a sketch of its pictures, by which they are known
again where annotation files were edited or merged (CrowdPose's trainval holds val) and pictures renamed. It is a
bottom-k sketch (Broder 1997): pictures are ordered by a hash of their size in bytes, and those of one size by a hash
of their content; the first :data:`KEPT` stand for all. Only these are read, of all others the size is asked. Two sets
are compared where both sketches reach: the share of common pictures there is an estimate of the share in all.

A picture that was saved anew, by whatever tool, is another one.
"""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from samkr_edge.artefact import sha256_of
from samkr_edge.dataset import ImageRecord, KeypointDataset, available_splits
from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted
from samkr_edge.model_card import ModelCard

# Of 60,000 pictures one in 60: of all choices of 200 among them, 97 % share one with these.
KEPT = 1024
# Below this share AP does not move by more than it does between runs. Splits that were made in good faith have some
# common pictures, COCO's own too: a few of thousands are told and do not stand in the way.
TOLERATED = 0.02
_BYTES = 4  # of each hash: among a thousand pictures one in four million is taken for another


@dataclass(frozen=True)
class Sketch:
    """What the pictures that a network learned from are known by.

    Attributes:
        count: how many they are.
        contents: 4 bytes of the SHA-256 of each that stands for all.
        up_to: the last of these in the order above, 4 bytes by its size and 4 by its content; None: they are all.
    """

    count: int
    contents: frozenset[bytes]
    up_to: bytes | None

    @classmethod
    def of(cls, files: Sequence[Path]) -> Sketch:
        places, up_to = _first(files)
        return cls(len(files), frozenset(place[_BYTES:] for place in places), up_to)

    def to_dict(self) -> dict[str, Any]:
        """For a card: about 5 kB at most."""
        contents = base64.b64encode(b"".join(sorted(self.contents))).decode()
        return {"images": self.count, "sha256": contents, "up_to": self.up_to.hex() if self.up_to else None}

    @classmethod
    def from_dict(cls, data: Any) -> Sketch | None:
        """Inverse of :meth:`to_dict`; None where it is not one."""
        try:
            contents = base64.b64decode(data["sha256"], validate=True)
            up_to = None if data["up_to"] is None else bytes.fromhex(data["up_to"])
            count = int(data["images"])
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        hashes = (contents[at : at + _BYTES] for at in range(0, len(contents), _BYTES))
        return cls(count, frozenset(hashes), up_to)


def _first(files: Sequence[Path]) -> tuple[list[bytes], bytes | None]:
    """The places of the first :data:`KEPT` pictures, and the last of them where there are more.

    Asks the size of every file, and reads no more than are kept, except where many have one size.
    """
    by_size: dict[bytes, list[Path]] = defaultdict(list)
    for file in files:
        with suppress(OSError):  # who reads it tells more
            by_size[hashlib.sha256(str(file.stat().st_size).encode()).digest()[:_BYTES]].append(file)
    places: list[bytes] = []
    for size in sorted(by_size):
        if len(places) >= KEPT:
            return places[:KEPT], places[KEPT - 1]
        # All of one size: which of them come first, their content says.
        places += sorted({size + _content_hash(file) for file in by_size[size]})
    return places[:KEPT], places[KEPT - 1] if len(places) > KEPT else None


def _content_hash(file: Path) -> bytes:
    try:
        return bytes.fromhex(sha256_of(file))[:_BYTES]
    except OSError:
        return bytes(_BYTES)  # likewise


@dataclass(frozen=True)
class TrainedOn:
    """What a network learned from.

    Attributes:
        split: as the command had it; empty for cards that do not say.
        annotations_sha256: of the annotation file.
        pictures: None for cards that do not say.
    """

    split: str
    annotations_sha256: str
    pictures: Sketch | None = None

    @classmethod
    def of(cls, dataset: KeypointDataset, images: Sequence[ImageRecord]) -> TrainedOn:
        """These images of a split."""
        pictures = Sketch.of([image.path for image in images])
        return cls(dataset.split, sha256_of(dataset.annotation_path), pictures)

    def to_dict(self) -> dict[str, Any]:
        """What goes on a card."""
        pictures = self.pictures.to_dict() if self.pictures else None
        return {"split": self.split, "annotations_sha256": self.annotations_sha256, "pictures": pictures}

    @classmethod
    def from_dict(cls, data: Any) -> TrainedOn | None:
        """Inverse of :meth:`to_dict`, which forgives what older cards do not have; None where it is no record."""
        annotations = data.get("annotations_sha256") if isinstance(data, dict) else None
        if not isinstance(annotations, str):
            return None
        split = data.get("split")
        return cls(
            split if isinstance(split, str) else "", annotations, Sketch.from_dict(data.get("pictures"))
        )

    def __str__(self) -> str:
        return ", ".join(
            [
                self.split or "a split that its card does not name",
                *([f"{self.pictures.count} images"] if self.pictures else []),
                f"annotations {self.annotations_sha256[:8]}",
            ]
        )


def trainings_of(card: ModelCard) -> list[TrainedOn]:
    """Every training that its weights went through: the float one, QAT, that of the weights it started from."""
    found: list[TrainedOn] = []
    left: list[Any] = [card.provenance]
    while left:
        facts = left.pop(0)
        if isinstance(facts, dict):
            record = TrainedOn.from_dict(facts)
            if record is not None and record not in found:
                found.append(record)
            facts = list(facts.values())
        left += facts if isinstance(facts, list) else []
    return found


@dataclass(frozen=True)
class Evaluated:
    """The images that are to be evaluated, read once for however many models."""

    dataset: KeypointDataset
    images: Sequence[ImageRecord]

    @cached_property
    def annotations_sha256(self) -> str:
        return sha256_of(self.dataset.annotation_path)

    @cached_property
    def _places(self) -> tuple[list[bytes], bytes | None]:
        return _first([image.path for image in self.images])

    def common_with(self, pictures: Sketch) -> tuple[int, int]:
        """(how many of the images were compared with these pictures, how many of them are among them)."""
        places, up_to = self._places
        reach = [last for last in (up_to, pictures.up_to) if last is not None]
        compared = [place for place in places if all(place <= last for last in reach)]
        return len(compared), sum(place[_BYTES:] in pictures.contents for place in compared)

    def __str__(self) -> str:
        return f"{len(self.images)} images of {self.dataset.split}"


@dataclass(frozen=True)
class Seen:
    """Which models are evaluated on what they were trained on, and what is to be told."""

    models: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def require_unseen(
    models: Mapping[str, Iterable[TrainedOn]],
    dataset: KeypointDataset,
    images: Sequence[ImageRecord],
    *,
    anyway: bool = False,
) -> Seen:
    """Ask it before anything is measured.

    A model has seen the images where its annotation file is the one that is evaluated, or where more than
    :data:`TOLERATED` of the compared pictures are its own.

    Args:
        models: name -> what it was trained on, see :func:`trainings_of`.
        dataset, images: what is to be evaluated.
        anyway: measure all the same, train-fit AP then.

    Raises:
        SamkrError: SE-D45 a model was trained on them, and ``anyway`` is not given.
    """
    evaluated = Evaluated(dataset, images)
    seen: dict[str, tuple[TrainedOn, str]] = {}
    notes: list[str] = []
    for name, trainings in models.items():
        for training in trainings:
            if training.annotations_sha256 == evaluated.annotations_sha256:
                what = f"{evaluated}, by the same annotation file"
            else:
                pictures = training.pictures
                compared, common = (0, 0) if pictures is None else evaluated.common_with(pictures)
                if not common:
                    continue
                what = f"{evaluated}, {common} of {compared} compared were trained on"
                if common <= TOLERATED * compared:
                    notes.append(f"{name} was trained on {training}; evaluated are {what}")
                    continue
            seen.setdefault(name, (training, what))
    if seen and not anyway:
        raise _refused(seen, dataset)
    told = (
        f"train-fit AP: {name} was trained on {training}; evaluated are {what}"
        for name, (training, what) in seen.items()
    )
    return Seen(frozenset(seen), (*told, *notes))


def _refused(seen: Mapping[str, tuple[TrainedOn, str]], dataset: KeypointDataset) -> SamkrError:
    name, (training, what) = next(iter(seen.items()))
    more = [f"likewise   {', '.join(other for other in seen if other != name)}"] if len(seen) > 1 else []
    other = next(iter(_judging(dataset)), None)
    fix = (
        f"give the same command with --split {other}   # on purpose: --anyway, train-fit AP; keys of a suite, too"
        if other is not None
        else "give the same command with --anyway   # train-fit AP; images to be judged by: "
        f"samkr-edge data split {quoted(dataset.named)} OUT"
    )
    return SamkrError(
        "SE-D45",
        f"{name} was trained on images that it is to be evaluated on, so nothing was measured",
        [f"trained on {training}", f"evaluated  {what}", *more],
        fix=fix,
    )


def _judging(dataset: KeypointDataset) -> list[str]:
    """The other splits that are for judging, by their names: CrowdPose's train is part of its trainval."""
    splits = available_splits(dataset.root)
    return [split for split in splits if split != dataset.split and not split.startswith("train")]
