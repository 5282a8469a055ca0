"""Was a model trained, or calibrated, on the images that evaluate it? Then AP measures what it remembers.

A training run leaves on the card the hash of its annotation file and a sketch of its pictures, a calibration the hashes
of its pictures. They are recognised by these even where annotation files were edited or merged (CrowdPose's trainval
holds val) and pictures renamed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from samkr_edge.dataset.keypoint_dataset import ImageRecord, KeypointDataset, available_splits
from samkr_edge.dataset.picture_sketch import FirstPictures, Sketch
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import sha256_of
from samkr_edge.fixes import quoted
from samkr_edge.printable import counted

if TYPE_CHECKING:
    from samkr_edge.model_card import ModelCard

# Below this share AP does not change by more than between runs. Splits made in good faith have some common pictures,
# COCO's own too: a few of thousands are reported and allowed.
TOLERATED = 0.02


@dataclass(frozen=True)
class TrainedOn:
    """What a network learned from.

    Attributes:
        split: as the command had it; empty for cards that do not say.
        annotations_sha256: of the annotation file; None for a calibration, which reads no labels.
        pictures: None for cards that do not say.
    """

    split: str
    annotations_sha256: str | None
    pictures: Sketch | None = None

    @property
    def how(self) -> str:
        """The network was ``trained`` or ``calibrated`` on it."""
        return "calibrated" if self.annotations_sha256 is None else "trained"

    @classmethod
    def of(
        cls, dataset: KeypointDataset, images: Sequence[ImageRecord], annotations_sha256: str | None = None
    ) -> TrainedOn:
        """These images of a split; its annotation file (COCO's is 150 MB) is hashed unless its hash is given."""
        pictures = Sketch.of([image.path for image in images])
        return cls(dataset.split, annotations_sha256 or sha256_of(dataset.annotation_path), pictures)

    def to_dict(self) -> dict[str, Any]:
        """For a card."""
        pictures = self.pictures.to_dict() if self.pictures else None
        return {"split": self.split, "annotations_sha256": self.annotations_sha256, "pictures": pictures}

    @classmethod
    def from_dict(cls, data: Any) -> TrainedOn | None:
        """Inverse of ``to_dict``, without requiring what older cards lack; None for anything else."""
        annotations = data.get("annotations_sha256") if isinstance(data, dict) else None
        if not isinstance(annotations, str):
            return None
        split = data.get("split")
        return cls(
            split if isinstance(split, str) else "", annotations, Sketch.from_dict(data.get("pictures"))
        )

    @classmethod
    def of_calibration(cls, facts: Any) -> TrainedOn | None:
        """From the ``calibration`` of a card; None where it names no pictures, as for noise."""
        hashes = facts.get("sha256") if isinstance(facts, dict) else None
        sketch = Sketch.of_hashes(hashes) if isinstance(hashes, list) else None
        return None if sketch is None else cls("", None, sketch)

    def __str__(self) -> str:
        if self.annotations_sha256 is None:
            return counted(self.pictures.count if self.pictures else 0, "image")
        return ", ".join(
            [
                self.split or "a split that its card does not name",
                *([counted(self.pictures.count, "image")] if self.pictures else []),
                f"annotations {self.annotations_sha256[:8]}",
            ]
        )


def trainings_of(card: ModelCard) -> list[TrainedOn]:
    """Every training of its weights: the float one, QAT, and that of the weights that it started from; and its
    calibration."""
    found: list[TrainedOn] = []
    left: list[Any] = [card.provenance]
    while left:
        facts = left.pop(0)
        if isinstance(facts, dict):
            records = (TrainedOn.from_dict(facts), TrainedOn.of_calibration(facts.get("calibration")))
            found += [record for record in records if record is not None and record not in found]
            facts = list(facts.values())
        left += facts if isinstance(facts, list) else []
    return found


@dataclass(frozen=True)
class Evaluated:
    """The images to evaluate on, read once for all models."""

    dataset: KeypointDataset
    images: Sequence[ImageRecord]

    @cached_property
    def annotations_sha256(self) -> str:
        return sha256_of(self.dataset.annotation_path)

    @cached_property
    def pictures(self) -> FirstPictures:
        return FirstPictures.of([image.path for image in self.images])

    def __str__(self) -> str:
        return f"{counted(len(self.images), 'image')} of {self.dataset.split}"


@dataclass(frozen=True)
class Seen:
    """Which models are evaluated on images that they were trained on, and remarks."""

    models: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def require_unseen(
    models: Mapping[str, Iterable[TrainedOn]],
    dataset: KeypointDataset,
    images: Sequence[ImageRecord],
    *,
    anyway: bool = False,
) -> Seen:
    """Refuse such models before anything is measured.

    A model has seen the images if it learned from the same annotation file, or if it learned from more than
    ``TOLERATED`` of the compared pictures.

    Args:
        models: name -> what it was trained on, see ``trainings_of``.
        dataset: the split to evaluate on.
        images: of this split.
        anyway: measure all the same; the result is train-fit AP.

    Raises:
        SamkrError: SE-D45 a model was trained or calibrated on them, and ``anyway`` is not given.
    """
    evaluated = Evaluated(dataset, images)
    seen: dict[str, tuple[TrainedOn, str]] = {}
    notes: list[str] = []
    for name, trainings in models.items():
        for training in trainings:
            if training.annotations_sha256 == evaluated.annotations_sha256:
                what = f"{evaluated}, from the same annotation file"
            else:
                pictures = training.pictures
                compared, common = (0, 0) if pictures is None else evaluated.pictures.common_with(pictures)
                if not common:
                    continue
                what = f"{evaluated}: {common} of {compared} compared are among them"
                if common <= TOLERATED * compared:
                    notes.append(f"{name} was {training.how} on {training}; it is evaluated on {what}")
                    continue
            seen.setdefault(name, (training, what))
    if seen and not anyway:
        raise _refused(seen, dataset)
    told = (
        f"train-fit AP: {name} was {training.how} on {training}; it is evaluated on {what}"
        for name, (training, what) in seen.items()
    )
    return Seen(frozenset(seen), (*told, *notes))


def _refused(seen: Mapping[str, tuple[TrainedOn, str]], dataset: KeypointDataset) -> SamkrError:
    name, (training, what) = next(iter(seen.items()))
    if dataset.labelled_by:
        fix = "name other pictures with --photos   # on purpose: --anyway"
    elif (other := next(iter(_judging(dataset)), None)) is not None:
        fix = f"run the same command with --split {other}   "
        fix += "# on purpose: --anyway, for train-fit AP; a suite has both keys"
    else:
        fix = (
            "run the same command with --anyway   # for train-fit AP; for held-out images: "
            f"samkr-edge data split {quoted(dataset.named)} OUT"
        )
    return SamkrError(
        "SE-D45",
        f"{name} was {training.how} on images it would be evaluated on, so nothing was measured",
        {
            f"{training.how} on": training,
            "evaluated": what,
            "likewise": ", ".join(other for other in seen if other != name) or None,
        },
        fix=fix,
    )


def _judging(dataset: KeypointDataset) -> list[str]:
    """The other splits for evaluation, by their names: CrowdPose's train is part of its trainval."""
    splits = available_splits(dataset.root)
    return [split for split in splits if split != dataset.split and not split.startswith("train")]
