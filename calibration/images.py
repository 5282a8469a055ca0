"""Which images to calibrate on: a reproducible choice from the training split that covers what the split holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from samkr_edge.dataset.decoder_messages import ListeningReader
from samkr_edge.dataset.keypoint_dataset import ImageRecord, KeypointDataset
from samkr_edge.dataset.photos import Photos
from samkr_edge.dataset.usable import require_usable
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import sha256_of
from samkr_edge.fixes import quoted
from samkr_edge.images import read_image, unreadable_image
from samkr_edge.pose.geometry import fit_matrix, warp
from samkr_edge.pose.oks import crowding_level, is_labelled, is_labelled_person
from samkr_edge.pose_model import PoseModel
from samkr_edge.terminal import say

# A person is small below this share of the image.
_SMALL = 0.3
# Photographs in which a float network looks for people.
_ASKED = 32


@dataclass(frozen=True)
class Selection:
    """The chosen images, SHA-256 of their files, and per stratum how many were taken out of how many."""

    images: tuple[ImageRecord, ...]
    hashes: tuple[str, ...]
    coverage: dict[str, tuple[int, int]]


def select_images(
    train: KeypointDataset, evaluation: KeypointDataset | None, count: int, seed: int = 0
) -> Selection:
    """Choose up to ``count`` images, each stratum by its share of the split and at least one of each.

    Strata: number of people (1, 2-3, 4+), median person size relative to the image (small, medium, large), and
    CrowdPose's crowding (easy, medium, hard).

    Raises:
        SamkrError: SE-D40 no image of the split shows people, SE-D41 an image is also in the evaluation split,
            SE-D15 an image is not there.
    """
    require_usable(train, "quantize")
    strata: dict[str, list[ImageRecord]] = defaultdict(list)
    for image in train.images:
        name = _stratum(train, image)
        if name is not None:
            strata[name].append(image)
    total = sum(len(images) for images in strata.values())
    random = np.random.default_rng(seed)
    queues = {
        name: [images[i] for i in random.permutation(len(images))] for name, images in sorted(strata.items())
    }
    chosen: list[ImageRecord] = []
    taken = dict.fromkeys(queues, 0)
    while len(chosen) < min(count, total):
        # The next image comes from the stratum furthest behind its share.
        open_strata = [name for name in queues if taken[name] < len(queues[name])]
        name = min(open_strata, key=lambda n: (taken[n] / len(queues[n]), n))
        chosen.append(queues[name][taken[name]])
        taken[name] += 1
    hashes = tuple(_digest(image, train) for image in chosen)
    if evaluation is not None:
        _refuse_overlap(chosen, hashes, evaluation)
    return Selection(tuple(chosen), hashes, {name: (taken[name], len(queues[name])) for name in queues})


def load_batches(
    images: tuple[ImageRecord, ...], input_size: tuple[int, int], batch: int
) -> Iterator[np.ndarray]:
    """uint8 (N, H, W, 3), preprocessed exactly as for inference; images that decoders complained about are reported."""
    reader = ListeningReader()
    for start in range(0, len(images), batch):
        part = []
        for record in images[start : start + batch]:
            image = reader.read(record.path)
            part.append(warp(image, fit_matrix((image.shape[0], image.shape[1]), input_size), input_size))
        yield np.stack(part)
    if (damaged := reader.note()) is not None:
        say(damaged)


def probe_images(train: KeypointDataset, images: Sequence[ImageRecord], count: int) -> list[np.ndarray]:
    """Chosen images, uint8 (H, W, 3) RGB, that still show people when shrunk: few people, and nobody tiny."""

    def hard_to_see(image: ImageRecord) -> tuple[bool, bool]:
        sizes = _person_sizes(train, image)
        return min(sizes) < _SMALL, len(sizes) > 3

    # Stable: the first chosen are of different strata.
    return [read_image(image.path) for image in sorted(images, key=hard_to_see)[:count]]


def photo_probe(model: PoseModel, photos: Photos, count: int) -> list[np.ndarray]:
    """Images, uint8 (H, W, 3) RGB, of photographs in which the model finds few people, none of them tiny, if there are.

    Args:
        model: the float network.
        photos: of which the first ``_ASKED`` are looked at.
        count: how many are wanted; all of them where there are fewer.
    """
    ranked: list[tuple[tuple[bool, bool, bool], int]] = []
    records = photos.records[:_ASKED]
    for number, record in enumerate(records):
        boxes = model(read_image(record.path)).boxes
        sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / max(record.width, record.height)
        ranked.append(((len(sides) == 0, bool((sides < _SMALL).any()), len(sides) > 3), number))
        if sum(not any(hard) for hard, _ in ranked) == count:
            break
    return [read_image(records[number].path) for _, number in sorted(ranked)[:count]]


def _digest(image: ImageRecord, dataset: KeypointDataset) -> str:
    try:
        return sha256_of(image.path)
    except OSError as error:
        raise unreadable_image(
            image.path,
            {"named in": dataset.annotation_path, "reason": error.strerror or error},
            f"samkr-edge data check {quoted(dataset.named)}   # lists all such images",
        ) from error


def _person_sizes(dataset: KeypointDataset, image: ImageRecord) -> list[float]:
    """Each person's size as a share of the image's longer side: that of the labelled joints' box, or of the person's
    box if a single joint is labelled.
    """
    sizes = []
    for annotation in dataset.annotations.get(image.id, []):
        if is_labelled_person(annotation):
            points = np.array(annotation["keypoints"], float).reshape(-1, 3)
            points = points[is_labelled(points), :2]
            extent = np.ptp(points, axis=0) if len(points) > 1 else annotation["bbox"][2:]
            sizes.append(float(max(extent)) / max(image.width, image.height))
    return sizes


def _stratum(dataset: KeypointDataset, image: ImageRecord) -> str | None:
    sizes = _person_sizes(dataset, image)
    if not sizes:
        return None
    people = "1 person" if len(sizes) == 1 else "2-3 people" if len(sizes) < 4 else "4+ people"
    middle = float(np.median(sizes))
    size = "small" if middle < _SMALL else "medium" if middle < 0.6 else "large"
    if dataset.kind != "crowdpose":
        return f"{people}, {size}"
    return f"{people}, {size}, {crowding_level(image.crowd_index)}"


def _refuse_overlap(chosen: list[ImageRecord], hashes: tuple[str, ...], evaluation: KeypointDataset) -> None:
    """Refuse an image that would be both calibrated on and scored; only files of equal length are hashed."""
    by_length: dict[int, list[ImageRecord]] = defaultdict(list)
    for image in evaluation.images:
        if image.path.is_file():
            by_length[image.path.stat().st_size].append(image)
    for record, digest in zip(chosen, hashes, strict=True):
        for other in by_length.get(record.path.stat().st_size, ()):
            if sha256_of(other.path) == digest:
                raise SamkrError(
                    "SE-D41",
                    "a calibration image is also in the evaluation split, so nothing was quantized",
                    {
                        "train": record.path.name,
                        evaluation.split: other.path.name,
                        "sha256": digest[:16],
                    },
                    fix="remove these images from one of the splits; full list: "
                    f"samkr-edge data check {quoted(evaluation.named)}",
                )
