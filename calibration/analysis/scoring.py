"""Score networks in memory, on the same images and by the same evaluator as every other stage, and compare them.

Three signals, from blunt to sharp: AP; mean OKS over all labelled people (each with its best pose, 0 without one), as
it moves with every joint and not only where a threshold is crossed; and the relative error of the network's maps.
Differences are paired: both networks saw the same images, and a bootstrap over images says how much of a difference the
choice of images explains.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from samkr_edge.dataset.keypoint_dataset import ImageRecord, KeypointDataset
from samkr_edge.dataset.picture_digests import pictures_digest
from samkr_edge.dataset.trained_on import require_unseen, trainings_of
from samkr_edge.dataset.usable import require_usable
from samkr_edge.evaluation.against_reference import PeopleAgainst, ReferencePeople, people_against
from samkr_edge.evaluation.ap import (
    MAX_DETECTIONS,
    Results,
    paired_bootstrap,
    predict_dataset,
    score,
)
from samkr_edge.evaluation.scores import Interval
from samkr_edge.files.artefact import sha256_of
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.oks import is_labelled, is_labelled_person, oks, person_area
from samkr_edge.pose_model import PoseModel
from samkr_edge.printable import counted
from samkr_edge.runtime.runner import Runner
from samkr_edge.terminal import say

ROUNDS = 1000
# Enough for an error averaged over maps of thousands of values each; more would fill the memory.
MAP_IMAGES = 64
# The fields of an annotation that decide a score.
_JUDGED = ("keypoints", "num_keypoints", "area", "bbox", "iscrowd")
Maps = list[tuple[np.ndarray, np.ndarray]]  # the two maps of each image, as the card names them


class MapRecorder(Runner):
    """Passes a runner's maps on; can keep them, and compare them with those that another recorder kept.

    Maps of the first ``MAP_IMAGES`` images are kept: 3.4 MB an image of 512 x 512 with 17 keypoints. In float32,
    since float16 alone would be an error of 2e-4.

    Args:
        runner: any.
        reference: maps by image, (C, h, w), to compare with, in the order of the images.
        keep: fill ``kept``.
    """

    def __init__(self, runner: Runner, reference: Maps | None = None, *, keep: bool = False) -> None:
        self.runner = runner
        self.card = runner.card
        self.kind = runner.kind
        self.kept: Maps = []
        self._keep = keep
        self._reference = reference
        self._squares = np.zeros((2, 2))  # by map; of the difference, of the reference
        self._seen = 0

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        """The runner's output for uint8 (N, H, W, 3) RGB: maps (N, C, h, w), as ``card.maps`` names them."""
        maps = self.runner.run(batch)
        if self._keep and len(self.kept) < MAP_IMAGES:
            self.kept.append((np.array(maps[0], np.float32), np.array(maps[1], np.float32)))
        if self._reference is not None and self._seen < len(self._reference):
            for index, expected in enumerate(self._reference[self._seen]):
                self._squares[index] += (
                    float(((maps[index] - expected) ** 2).sum()),
                    float((expected**2).sum()),
                )
            self._seen += 1
        return maps

    @property
    def errors(self) -> dict[str, float]:
        """Relative L2 error of each of ``card.maps`` over the images compared so far; 0 with nothing to compare."""
        found = np.sqrt(self._squares[:, 0] / np.maximum(self._squares[:, 1], 1e-20))
        return {name: float(error) for name, error in zip(self.card.maps, found, strict=True)}

    def close(self) -> None:
        self.runner.close()


@dataclass(frozen=True)
class Followed:
    """How a network follows the people that the FP32 network finds.

    Attributes:
        people: of the FP32 network.
        lost: of these, the ones that the other does not show.
        new: people whom only the other shows.
        reach_px: pixels of the photographs within which it has 95 % of their sure joints, those of lost people counting
            as infinitely far; None where that is not so for any distance.
    """

    people: int
    lost: int
    new: int
    reach_px: float | None

    @classmethod
    def of(cls, found: PeopleAgainst) -> Followed:
        return cls(found.kept + found.lost, found.lost, found.new, found.within(95))

    def __str__(self) -> str:
        reach = "at no distance" if self.reach_px is None else f"within {self.reach_px:.1f} px"
        people = counted(self.people, "person", "people")
        return f"95 % of the joints {reach}, {self.lost} of {people} lost, {self.new} new"


@dataclass(frozen=True)
class Measured:
    """One network on the evaluated images.

    Attributes:
        ap: 0..100.
        oks: mean OKS, 0..1.
        results: COCO results.
        person_oks: float (P,), OKS of every labelled person.
        map_errors: relative L2 error of each map against the reference's; 0 for the reference.
        followed: how the network follows the people of the FP32 network; None on labelled images.
    """

    ap: float
    oks: float
    results: Results
    person_oks: np.ndarray
    map_errors: dict[str, float]
    followed: Followed | None = None


def error_fields(errors: Mapping[str, float | None]) -> dict[str, float | None]:
    """Errors by map as fields of a report: ``{"heatmap_error": ..., "offset_error": ...}``, or ``tag_error``."""
    return {f"{name}_error": error for name, error in errors.items()}


@dataclass(frozen=True)
class Difference:
    """A network minus its baseline: AP points and mean OKS, each with a 95 % interval over images."""

    ap: Interval
    oks: Interval

    @property
    def worse(self) -> bool:
        """Whether AP or mean OKS is lower by more than the choice of images explains."""
        return self.ap.high < 0 or self.oks.high < 0

    def to_dict(self) -> dict[str, list[float]]:
        """``[difference, low, high]`` of each."""
        return {
            name: [interval.difference, interval.low, interval.high]
            for name, interval in (("ap", self.ap), ("oks", self.oks))
        }

    @classmethod
    def from_dict(cls, data: dict[str, list[float]]) -> Difference:
        return cls(Interval(*data["ap"]), Interval(*data["oks"]))


class Bench:
    """Fixed images of a split, on which anything can be scored.

    Args:
        dataset: the split.
        limit: use its first images only.
        reference: where ``dataset`` is made of a network's people.

    Raises:
        SamkrError: SE-D27 nobody is labelled in them.
    """

    def __init__(
        self, dataset: KeypointDataset, limit: int | None = None, reference: ReferencePeople | None = None
    ) -> None:
        self.dataset = dataset
        self.reference = reference
        self.images: tuple[ImageRecord, ...] = dataset.images[:limit]
        require_usable(dataset, "eval", self.images)
        self.ids = [image.id for image in self.images]
        self.limit = limit
        self._people = [
            (number, person)
            for number, image in enumerate(self.images)
            for person in dataset.annotations[image.id]
            if is_labelled_person(person)
        ]
        self._image_of_person = np.array([number for number, _ in self._people], np.int64)

    @cached_property
    def digest(self) -> str:
        """A digest of the images and their annotations, independent of paths."""
        digest = hashlib.sha256(pictures_digest(self.images).encode())
        digest.update(f"{self.dataset.kind} {self.dataset.skeleton}\n".encode())
        for image in self.images:
            people = [[p[name] for name in _JUDGED] for p in self.dataset.annotations[image.id]]
            digest.update(f"{image.id} {people}\n".encode())
        return digest.hexdigest()

    def unseen_by(self, models: Mapping[str, ModelCard], *, anyway: bool = False) -> dict[str, bool]:
        """For a report: which models learned from these images; without ``anyway`` there are none.

        Raises:
            SamkrError: SE-D45 one of the models was trained on them.
        """
        trainings = {name: trainings_of(card) for name, card in models.items()}
        seen = require_unseen(trainings, self.dataset, self.images, anyway=anyway)
        for note in seen.notes:
            say(note)
        return {"trained_on": bool(seen.models)}

    @property
    def facts(self) -> dict[str, Any]:
        """For a report: the images that were scored."""
        return {
            "annotations_sha256": sha256_of(self.dataset.annotation_path),
            "images": len(self.images),
            "images_digest": self.digest,
        }

    def run(self, runner: Runner, *, advance: Callable[..., None] | None = None) -> Measured:
        """Predict, decode and score; a ``MapRecorder`` adds the errors of the maps."""
        model = PoseModel(runner, Path(runner.kind))
        results = predict_dataset(model, self.dataset, limit=self.limit, advance=advance)
        person = self.person_oks(results)
        errors = runner.errors if isinstance(runner, MapRecorder) else dict.fromkeys(runner.card.maps, 0.0)
        followed = None
        if self.reference is not None:
            followed = Followed.of(people_against(self.reference, results, self.images))
        return Measured(
            score(self.dataset, results, self.ids).ap,
            float(person.mean()) if len(person) else 0.0,
            results,
            person,
            errors,
            followed,
        )

    def person_oks(self, results: Results) -> np.ndarray:
        """OKS (P,) of each labelled person with the best pose of its image; 0 without one."""
        poses: dict[int, list[dict[str, Any]]] = {}
        for result in results:
            poses.setdefault(result["image_id"], []).append(result)
        found = np.zeros(len(self._people))
        for index, (number, person) in enumerate(self._people):
            candidates = sorted(poses.get(self.ids[number], ()), key=lambda r: -r["score"])[:MAX_DETECTIONS]
            if candidates:
                keypoints = np.array([c["keypoints"] for c in candidates], float)
                found[index] = self._oks(person, keypoints.reshape(len(candidates), -1, 3)).max()
        return found

    def _oks(self, person: dict[str, Any], poses: np.ndarray) -> np.ndarray:
        """OKS (P,) of poses (P, K, 3) with a labelled person."""
        truth = np.array(person["keypoints"], float).reshape(1, -1, 3)
        area = np.array([person_area(person, self.dataset.kind)])
        sigmas = self.dataset.skeleton.sigmas
        return oks(poses[..., :2], truth[..., :2], area, sigmas, is_labelled(truth))[:, 0]

    def compare(self, baseline: Measured, other: Measured, *, seed: int = 0) -> Difference:
        """``other`` minus ``baseline``, both scored on the same bootstrap samples of the images."""
        ap = paired_bootstrap(
            self.dataset, baseline.results, other.results, image_ids=self.ids, rounds=ROUNDS, seed=seed
        )
        return Difference(ap, self._compare_oks(baseline.person_oks, other.person_oks, seed))

    def _compare_oks(self, baseline: np.ndarray, other: np.ndarray, seed: int) -> Interval:
        gain = np.bincount(self._image_of_person, other - baseline, len(self.images))
        people = np.bincount(self._image_of_person, minlength=len(self.images))
        random = np.random.default_rng(seed)
        drawn = random.integers(0, len(self.images), (ROUNDS, len(self.images)))
        means = gain[drawn].sum(1) / np.maximum(people[drawn].sum(1), 1)
        low, high = np.percentile(means, [2.5, 97.5])
        return Interval(float(gain.sum() / max(people.sum(), 1)), float(low), float(high))
