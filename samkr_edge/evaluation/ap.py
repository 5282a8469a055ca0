"""AP by object keypoint similarity, the same for every stage of the pipeline, through pycocotools.

COCO: area from the annotation, ten numbers. CrowdPose: area = 0.53 x box width x box height, and AP on the easy,
medium and hard images by crowdIndex (< 0.2, < 0.8, the rest), as in the official evaluation code. At most 20 people
an image. All figures are in 0..100.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from samkr_edge.dataset.keypoint_dataset import ImageRecord, KeypointDataset
from samkr_edge.dataset.usable import refusal
from samkr_edge.evaluation.many_images import ahead, stream
from samkr_edge.evaluation.paper_protocol import predict, rescored
from samkr_edge.evaluation.predictions import Predictions
from samkr_edge.evaluation.protocol import Protocol
from samkr_edge.evaluation.scores import Interval, Scores
from samkr_edge.images import ReadImage, read_image
from samkr_edge.pose.oks import CrowdingLevel, crowding_level, person_area
from samkr_edge.pose.poses import Poses

if TYPE_CHECKING:
    from samkr_edge.pose_model import PoseModel

MAX_DETECTIONS = 20
_AT_ONCE = 250  # images per call of pycocotools' matching

# COCO results: kept by our own pass, or entries from elsewhere.
Results: TypeAlias = "Predictions | Sequence[dict[str, Any]]"


def predict_dataset(
    model: PoseModel,
    dataset: KeypointDataset,
    *,
    limit: int | None = None,
    protocol: Protocol | None = None,
    advance: Callable[..., None] | None = None,
    read: ReadImage = read_image,
) -> Predictions:
    """COCO results for the first ``limit`` images; reading and decoding overlap with the network.

    ``protocol`` says what is done beyond one pass.

    Raises:
        SamkrError: SE-D26 the model's keypoints are not the data set's; SE-D15 an image cannot be read.
    """
    model.card.skeleton.require_same(dataset.skeleton, "model", "data")
    protocol = protocol or Protocol()
    results = Predictions(len(dataset.skeleton), dataset.category_id)
    for record, poses in _poses(model, dataset.images[:limit], protocol, read):
        results.add(record.id, poses)
        if advance:
            advance()
    return results


def _poses(
    model: PoseModel, records: Sequence[ImageRecord], protocol: Protocol, read: ReadImage
) -> Iterator[tuple[ImageRecord, Poses]]:
    if protocol.deployment:
        for record, poses in stream(model, records, read):
            yield record, rescored(poses, protocol)
    else:
        for record, image in ahead(lambda record: read(record.path), records):
            yield record, predict(model, image, protocol)


def score(dataset: KeypointDataset, results: Results, image_ids: Sequence[int] | None = None) -> Scores:
    """AP and AR of COCO results on the data set, or on some of its images.

    Raises:
        SamkrError: SE-D27 none of these images shows a labelled person.
    """
    ids = list(image_ids) if image_ids is not None else [image.id for image in dataset.images]
    chosen_ids = set(ids)
    images = [image for image in dataset.images if image.id in chosen_ids]
    if (refused := refusal(dataset, "eval", images)) is not None:  # the image files are not needed
        raise refused
    matches = Matches.of(dataset, results, ids)
    numbers = _summary(matches.accumulated(ids))
    if dataset.kind == "crowdpose":
        for level, chosen in _by_crowding(dataset, ids).items():
            numbers[level] = _summary(matches.accumulated(chosen))["ap"] if chosen else None
        for name in ("apm", "apl", "arm", "arl"):
            numbers[name] = None
    return Scores(**numbers)  # type: ignore[arg-type]


def paired_bootstrap(
    dataset: KeypointDataset,
    baseline: Results,
    results: Results,
    *,
    image_ids: Sequence[int] | None = None,
    rounds: int = 1000,
    seed: int = 0,
) -> Interval:
    """AP difference to the baseline with a 95 % interval over images.

    Both models are scored on the same images drawn with replacement, so what the images share cancels out.
    """
    ids = list(image_ids) if image_ids is not None else [image.id for image in dataset.images]
    matches = [ImageMatches.of(dataset, found, ids) for found in (baseline, results)]
    random = np.random.default_rng(seed)
    differences = np.empty(rounds)
    for index in range(rounds):
        counts = np.bincount(random.integers(0, len(ids), len(ids)), minlength=len(ids))
        differences[index] = matches[1].ap(counts) - matches[0].ap(counts)
    ones = np.ones(len(ids), np.int64)
    low, high = np.percentile(differences, [2.5, 97.5])
    return Interval(matches[1].ap(ones) - matches[0].ap(ones), float(low), float(high))


@dataclass(frozen=True)
class ImageMatches:
    """pycocotools' matches of one model, for accumulating over any multiset of images.

    Attributes:
        image: int (D,), the image index of each detection; detections are in descending order of score.
        hit: bool (T, D), matched at each OKS threshold.
        counted: bool (T, D), not ignored.
        people: int (I,), people per image that count as missed if not found.
    """

    image: np.ndarray
    hit: np.ndarray
    counted: np.ndarray
    people: np.ndarray

    @classmethod
    def of(cls, dataset: KeypointDataset, results: Results, ids: Sequence[int]) -> ImageMatches:
        matches = Matches.of(dataset, results, ids)
        place = {image_id: index for index, image_id in enumerate(ids)}
        entries = [entry for entry in matches.of_area(0) if entry is not None]  # 0: people of any size
        people = np.zeros(len(ids), np.int64)
        for entry in entries:
            people[place[entry["image_id"]]] = int((np.asarray(entry["gtIgnore"]) == 0).sum())
        thresholds = len(matches.params.iouThrs)
        scores = np.concatenate([np.asarray(e["dtScores"], float) for e in entries] or [np.zeros(0)])
        image = np.concatenate(
            [np.full(len(e["dtScores"]), place[e["image_id"]]) for e in entries] or [np.zeros(0, int)]
        )
        empty = [np.zeros((thresholds, 0))]
        hit = np.concatenate([e["dtMatches"] for e in entries] or empty, axis=1) > 0
        ignored = np.concatenate([e["dtIgnore"] for e in entries] or empty, axis=1).astype(bool)
        order = np.argsort(-scores, kind="mergesort")
        return cls(image[order].astype(np.int64), hit[:, order], ~ignored[:, order], people)

    def ap(self, counts: np.ndarray) -> float:
        """AP in 0..100 when image i is counted ``counts[i]`` times; ``counts`` is int (I,)."""
        people = int((self.people * counts).sum())
        if people == 0:
            return 0.0
        times = counts[self.image]
        true = np.cumsum((self.hit & self.counted) * times, axis=1)
        false = np.cumsum((~self.hit & self.counted) * times, axis=1)
        recall = true / people
        precision = true / np.maximum(true + false, np.spacing(1))
        # The envelope: precision at a recall is the best one at this or any higher recall.
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        levels = np.linspace(0, 1, 101)
        total = 0.0
        for row_recall, row_precision in zip(recall, precision, strict=True):
            at = np.searchsorted(row_recall, levels, side="left")
            total += row_precision[at[at < len(row_precision)]].sum() / len(levels)
        return 100 * total / len(recall)


def _by_crowding(dataset: KeypointDataset, ids: list[int]) -> dict[CrowdingLevel, list[int]]:
    levels = {image.id: crowding_level(image.crowd_index) for image in dataset.images}
    groups: dict[CrowdingLevel, list[int]] = {"easy": [], "medium": [], "hard": []}
    for image_id in ids:
        groups[levels[image_id]].append(image_id)
    return groups


@dataclass(frozen=True)
class Matches:
    """pycocotools' matches, without its working data.

    Attributes:
        params: its settings, the images of all parts in their order.
        areas: for each range of areas (all, medium, large), one entry per image id, None for images with nobody.
    """

    params: Any
    areas: list[dict[int, dict[str, Any] | None]]

    @classmethod
    def of(cls, dataset: KeypointDataset, results: Results, ids: Sequence[int]) -> Matches:
        """Match a few hundred images at a time, since pycocotools makes dictionaries of every number of a result."""
        entries_of = results.of if isinstance(results, Predictions) else _by_image(results)
        # pycocotools sorts image ids, and equal scores keep the order of their images.
        ordered = sorted(set(ids))
        areas: list[dict[int, dict[str, Any] | None]] = []
        params: Any = None
        for start in range(0, max(1, len(ordered)), _AT_ONCE):
            part = ordered[start : start + _AT_ONCE]
            evaluation = _evaluate(dataset, entries_of(part), part)
            params = evaluation.params
            areas = areas or [{} for _ in params.areaRng]
            for area, found in enumerate(areas):
                rows = evaluation.evalImgs[area * len(part) : (area + 1) * len(part)]
                found.update(zip(part, map(_slim, rows), strict=True))
        return cls(params, areas)

    def of_area(self, area: int) -> list[dict[str, Any] | None]:
        """Entries of all images, in the order of their ids."""
        return list(self.areas[area].values())

    def accumulated(self, ids: Sequence[int]) -> dict[str, np.ndarray]:
        """pycocotools' arrays of precision (T, R, 1, A, 1) and recall (T, 1, A, 1) over some of the images."""
        from pycocotools.cocoeval import COCOeval

        evaluation = COCOeval(iouType="keypoints")
        evaluation.params = evaluation._paramsEval = self.params
        self.params.imgIds = sorted(set(ids))
        evaluation.evalImgs = [area[image_id] for area in self.areas for image_id in self.params.imgIds]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.accumulate()
        found: dict[str, np.ndarray] = evaluation.eval
        return found


def _slim(entry: dict[str, Any] | None) -> dict[str, Any] | None:
    """The parts of an image's matches that accumulating needs, in few bytes; pycocotools' ids above 0 are matches."""
    if entry is None:
        return None
    return {
        "image_id": entry["image_id"],
        "dtScores": np.asarray(entry["dtScores"], float),
        "dtMatches": np.asarray(entry["dtMatches"]) > 0,
        "dtIgnore": np.asarray(entry["dtIgnore"], bool),
        "gtIgnore": np.asarray(entry["gtIgnore"], bool),
    }


def _by_image(results: Sequence[dict[str, Any]]) -> Callable[[Sequence[int]], list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for entry in results:
        found.setdefault(entry["image_id"], []).append(entry)
    return lambda ids: [entry for image_id in ids for entry in found.get(image_id, ())]


def _evaluate(dataset: KeypointDataset, results: list[dict[str, Any]], ids: list[int]) -> Any:
    """pycocotools, after matching the results of these images."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = _truth(dataset, set(ids))
        truth.createIndex()
        # Copies: pycocotools writes into what it is given.
        wanted = [{**result, "category_id": 1} for result in results]
        found = truth.loadRes(wanted) if wanted else _nothing(truth)
        evaluation = COCOeval(truth, found, "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(dataset.skeleton.sigmas)
        evaluation.params.imgIds = ids
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
    return evaluation


def _nothing(truth: Any) -> Any:
    """An empty result set: pycocotools refuses to load an empty list."""
    from pycocotools.coco import COCO

    found = COCO()
    found.dataset = {
        "images": truth.dataset["images"],
        "categories": truth.dataset["categories"],
        "annotations": [],
    }
    found.createIndex()
    return found


def _truth(dataset: KeypointDataset, ids: set[int]) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for image_id in ids:
        for annotation in dataset.annotations.get(image_id, []):
            entry = {
                # pycocotools treats a match with id 0 as none, and loses all but one of equal ids.
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": 1,
                "keypoints": annotation["keypoints"],
                "num_keypoints": annotation["num_keypoints"],
                "iscrowd": annotation["iscrowd"],
                "bbox": annotation["bbox"],
                "area": person_area(annotation, dataset.kind),
            }
            annotations.append(entry)
    return {
        "images": [{"id": i.id, "width": i.width, "height": i.height} for i in dataset.images if i.id in ids],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }


def _summary(accumulated: dict[str, np.ndarray]) -> dict[str, float | None]:
    """The ten numbers from pycocotools' arrays; its own summary is tied to one number of detections."""
    precision, recall = accumulated["precision"], accumulated["recall"]

    def mean(values: np.ndarray) -> float | None:
        values = values[values > -1]
        return float(100 * values.mean()) if values.size else None

    return {
        "ap": mean(precision[:, :, 0, 0]),
        "ap50": mean(precision[0, :, 0, 0]),
        "ap75": mean(precision[5, :, 0, 0]),
        "apm": mean(precision[:, :, 0, 1]),
        "apl": mean(precision[:, :, 0, 2]),
        "ar": mean(recall[:, 0, 0]),
        "ar50": mean(recall[0, 0, 0]),
        "ar75": mean(recall[5, 0, 0]),
        "arm": mean(recall[:, 0, 1]),
        "arl": mean(recall[:, 0, 2]),
    }
