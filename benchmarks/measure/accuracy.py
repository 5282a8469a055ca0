"""AP of each model, on the same images and by the same evaluator, and the difference to the baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.schema import DatasetFacts, ProtocolFacts, Results, Spread
from benchmarks.where_measured import what_computes
from samkr_edge import __version__
from samkr_edge.dataset.picture_digests import pictures_digest
from samkr_edge.files.artefact import sha256_of
from samkr_edge.pose.oks import labelled_joints

if TYPE_CHECKING:
    from samkr_edge.dataset.keypoint_dataset import ImageRecord, KeypointDataset
    from samkr_edge.evaluation.predictions import Predictions
    from samkr_edge.evaluation.protocol import Protocol
    from samkr_edge.pose.skeleton import Skeleton
    from samkr_edge.pose_model import PoseModel


@dataclass(frozen=True)
class Accuracy:
    """One model's numbers.

    Attributes:
        scores: ``ap``, ``ap50``, ... in 0..100.
        difference: AP minus the baseline's with a 95 % interval; None for the baseline.
        reused: taken from an earlier results file, not measured now.
    """

    scores: dict[str, float]
    difference: Spread | None
    reused: bool = False


def evaluated_images(dataset: KeypointDataset, limit: int | None) -> tuple[ImageRecord, ...]:
    """The first ``limit`` images of the split, in the order of the annotation file."""
    return dataset.images if limit is None else dataset.images[:limit]


def dataset_facts(dataset: KeypointDataset, limit: int | None) -> DatasetFacts:
    """A digest of the evaluated images, independent of paths.

    Raises:
        SamkrError: SE-D27 nobody is labelled in them.
    """
    from samkr_edge.dataset.usable import require_usable

    records = evaluated_images(dataset, limit)
    require_usable(dataset, "eval", records)
    people = sum(
        1
        for record in records
        for person in dataset.annotations.get(record.id, [])
        if labelled_joints(person["keypoints"])
    )
    return DatasetFacts(
        name=dataset.root.resolve().name,
        split=dataset.split,
        kind=dataset.kind,
        skeleton=dataset.skeleton.name,
        annotations_sha256=sha256_of(dataset.annotation_path),
        labelled_by=dataset.labelled_by,
        images=len(records),
        images_in_split=len(dataset),
        people=people,
        images_digest=pictures_digest(records),
    )


def open_protocol(
    protocol: Protocol, rescore: Path | None, models: Mapping[str, PoseModel], skeleton: Skeleton
) -> tuple[Protocol, ProtocolFacts]:
    """The protocol with its rescoring network, for models of one skeleton, and what is recorded of it.

    Raises:
        SamkrError: SE-U75 a model cannot follow it; SE-A82 the file rescores other poses.
    """
    from samkr_edge.evaluation.protocol import require_able
    from samkr_edge.evaluation.rescoring import with_rescoring

    for model in models.values():
        require_able(model, protocol)
    protocol = with_rescoring(protocol, rescore, skeleton)
    return protocol, ProtocolFacts(
        name="paper" if protocol.is_of_papers else "deployment",
        **protocol.to_dict(),
        rescoring_sha256=None if rescore is None else sha256_of(rescore),
    )


def measure_accuracy(
    models: Mapping[str, PoseModel],
    hashes: Mapping[str, str],
    baseline: str,
    dataset: KeypointDataset,
    facts: DatasetFacts,
    protocol: Protocol,
    measured_by: ProtocolFacts,
    *,
    limit: int | None = None,
    reuse: Results | None = None,
    advance: Callable[..., Any] | None = None,
) -> dict[str, Accuracy]:
    """Score every model; the baseline first.

    Args:
        models: name -> model.
        hashes: name -> SHA-256 of the model file.
        baseline: the name that the others are compared with.
        dataset: the split to evaluate; ``facts`` identify its images.
        protocol: what is done beyond one pass; ``measured_by`` are its facts.
        limit: evaluate only its first images.
        reuse: an earlier run. Its numbers stand in for a model whose file, baseline file, annotations and images
            have the same hashes and that was scored by the same protocol and version of samkr-edge with the same
            runtimes here.
        advance: called after each image, of each model.
    """
    from samkr_edge.evaluation import ap as evaluate

    known = _known(reuse, facts, measured_by, hashes[baseline])
    image_ids = [record.id for record in evaluated_images(dataset, limit)]
    found: dict[str, Accuracy] = {}
    # Only the baseline's predictions are kept; a model's are dropped before the next model's are made.
    kept: dict[str, Predictions] = {}

    def predict(name: str) -> Predictions:
        if name in kept:
            return kept[name]
        found = evaluate.predict_dataset(
            models[name], dataset, limit=limit, protocol=protocol, advance=advance
        )
        if name == baseline:
            kept[name] = found
        return found

    for name in [baseline, *(name for name in models if name != baseline)]:
        earlier = known.get(hashes[name])
        if earlier is not None and (name == baseline or earlier.difference is not None):
            found[name] = Accuracy(earlier.scores, None if name == baseline else earlier.difference, True)
            if advance is not None:
                advance(len(image_ids))
            continue
        results = predict(name)
        scores = evaluate.score(dataset, results, image_ids)
        difference = None
        if name != baseline:
            spread = evaluate.paired_bootstrap(dataset, predict(baseline), results, image_ids=image_ids)
            difference = Spread(value=spread.difference, low=spread.low, high=spread.high)
        found[name] = Accuracy(_numbers(scores.to_dict()), difference)
    return found


def _known(
    reuse: Results | None, facts: DatasetFacts, measured_by: ProtocolFacts, baseline_sha: str
) -> dict[str, Accuracy]:
    """Model SHA-256 -> numbers of an earlier run that are valid for this one."""
    from samkr_edge.doctor.environment import environment

    if reuse is None or reuse.dataset is None or reuse.version != __version__:
        return {}
    # Another device or runtime opens the same bundle as another model.
    if what_computes(reuse.environment) != what_computes(environment()):
        return {}
    if reuse.dataset.labelled_images != facts.labelled_images or reuse.protocol != measured_by:
        return {}
    same_baseline = reuse.baseline().sha256 == baseline_sha
    return {
        model.sha256: Accuracy(model.accuracy, model.difference if same_baseline else None, True)
        for model in reuse.models
        if model.accuracy is not None
    }


def _numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in scores.items() if isinstance(value, (int, float))}


def check_skeletons(models: Mapping[str, PoseModel], dataset: KeypointDataset) -> None:
    """Refuse models that predict other keypoints than the data has, before anything is measured.

    Raises:
        SamkrError: SE-D26.
    """
    for name, model in models.items():
        model.card.skeleton.require_same(
            dataset.skeleton,
            f"model {name}",
            "data",
            fix="give data with the model's keypoints, or leave --data out to measure latency only",
        )
