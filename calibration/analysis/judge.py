"""What the analyses judge networks by: a labelled split, or photographs with the people that FP32 finds on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.analysis.scoring import Bench
from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.dataset.photos import Photos
from samkr_edge.evaluation.against_reference import ReferencePeople, reference_people
from samkr_edge.files.artefact import sha256_of
from samkr_edge.model_card import ModelCard
from samkr_edge.pose_model import PoseModel
from samkr_edge.progress import progress


@dataclass(frozen=True)
class Judge:
    """Images that networks are scored on.

    Attributes:
        bench: scores.
        metric: what AP is called wherever it is shown: ``AP``, ``train-fit AP``, ``AP against FP32``.
        facts: for a report.
    """

    bench: Bench
    metric: str
    facts: dict[str, Any]

    @property
    def against_fp32(self) -> bool:
        """Whether AP is against the people that FP32 finds, of whom it has 100 itself."""
        return self.bench.reference is not None

    def few(self, count: int) -> Bench:
        """The first ``count`` of the images, or all."""
        return Bench(self.bench.dataset, min(count, len(self.bench.images)), self.bench.reference)


def by_labels(
    data: Path, split: str, limit: int | None, cards: Mapping[str, ModelCard], *, anyway: bool = False
) -> Judge:
    """The first ``limit`` images of a labelled split.

    Raises:
        SamkrError: SE-D45 one of the models has seen them; whatever reading them raises.
    """
    dataset = open_dataset(data, split)
    return _judge(Bench(dataset, limit), {"data": dataset.root.resolve().name, "split": split}, cards, anyway)


def by_photos(
    fp32: PoseModel, photos: Photos, cards: Mapping[str, ModelCard], *, anyway: bool = False
) -> Judge:
    """Photographs with the people of the FP32 network in place of labels.

    Raises:
        SamkrError: SE-D45 one of the models has seen them; whatever ``reference_people`` raises.
    """
    with progress(f"people of {fp32.path.name}", len(photos), unit="photos") as advance:
        reference: ReferencePeople = reference_people(fp32, photos.records, advance=advance)
    of = {"model": fp32.path.name, "sha256": sha256_of(fp32.path), "people": reference.people}
    bench = Bench(reference.dataset, reference=reference)
    return _judge(bench, {"photos": photos.facts, "reference": of}, cards, anyway)


def _judge(bench: Bench, facts: dict[str, Any], cards: Mapping[str, ModelCard], anyway: bool) -> Judge:
    seen = bench.unseen_by(cards, anyway=anyway)
    learned = bench.reference is None and seen["trained_on"]
    metric = "train-fit AP" if learned else bench.dataset.metric
    return Judge(bench, metric, {**facts, "metric": metric, **bench.facts, **seen})
