"""Sample predictions: a few evaluated images, and every model's people in them.

The images are every n-th of the evaluated ones that show labelled people. Nobody picks them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.sample_pictures import INDEX, SampleImage, SamplePerson, Samples
from samkr_edge.files.artefact import replacing
from samkr_edge.pose.oks import labelled_joints

if TYPE_CHECKING:
    from samkr_edge.dataset.keypoint_dataset import ImageRecord, KeypointDataset
    from samkr_edge.model_card import ModelCard
    from samkr_edge.pose.poses import Poses
    from samkr_edge.pose_model import PoseModel

_LONGEST_SIDE = 480
_JPEG_QUALITY = 82
# People whose score is below this share of the best one in the image are not drawn: bottom-up networks keep many
# faint candidates, which the AP evaluation weighs by score and the eye cannot.
_SHOWN_SHARE = 0.3
# Below this score the network itself doubts the person.
_SHOWN_SCORE = 0.05
_MOST_PEOPLE = 12


def write_samples(
    folder: Path,
    dataset: KeypointDataset,
    records: Sequence[ImageRecord],
    models: Mapping[str, PoseModel],
    count: int,
    advance: Callable[..., Any] | None = None,
) -> None:
    """Save ``count`` images with the people that every model finds in them.

    Args:
        folder: gets ``samples.json`` and one JPEG an image.
        dataset: where the images come from.
        records: the evaluated images.
        models: name -> model.
        count: most images to save.
        advance: called after each image.
    """
    from samkr_edge.images import read_image

    images = []
    for number, record in enumerate(evenly_spaced(_with_people(dataset, records), count)):
        image = read_image(record.path)
        small, scale = _shrink(image)
        name = f"{number:02d}.jpg"
        _write_jpeg(folder / name, small)
        people = {
            key: _people(
                model(image) if dataset.labelled_by else _shown(model(image, None), model.card), scale
            )
            for key, model in models.items()
        }
        images.append(SampleImage(file=name, width=small.shape[1], height=small.shape[0], people=people))
        if advance is not None:
            advance(1)
    skeleton = dataset.skeleton
    grouped = [key for key, model in models.items() if model.card.grouping is not None]
    samples = Samples(
        grouped=grouped,
        edges=list(skeleton.edges),
        sigmas=list(skeleton.sigmas),
        keypoints=list(skeleton.keypoints),
        images=images,
    )
    with replacing(folder / INDEX) as temporary:
        temporary.write_text(
            samples.model_dump_json(exclude=None if grouped else {"grouped"}), encoding="utf-8"
        )


def evenly_spaced(items: Sequence[Any], count: int) -> list[Any]:
    """At most ``count`` items, spread over the whole sequence."""
    if len(items) <= count:
        return list(items)
    return [items[int((number + 0.5) * len(items) / count)] for number in range(count)]


def _with_people(dataset: KeypointDataset, records: Sequence[ImageRecord]) -> list[ImageRecord]:
    return [
        record
        for record in records
        if any(labelled_joints(person["keypoints"]) for person in dataset.annotations.get(record.id, []))
    ]


def _shrink(image: np.ndarray) -> tuple[np.ndarray, float]:
    import cv2

    scale = min(1.0, _LONGEST_SIDE / max(image.shape[:2]))
    if scale == 1.0:
        return image, 1.0
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), scale


def _write_jpeg(path: Path, image: np.ndarray) -> None:
    import cv2

    encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    with replacing(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def _shown(poses: Poses, card: ModelCard) -> Poses:
    if not len(poses):
        return poses
    # With offsets those of a network that learned for minutes, too.
    least = _SHOWN_SCORE if card.grouping is None else card.sure_person
    return poses.above(max(least, _SHOWN_SHARE * float(poses.scores.max())))


def _people(poses: Poses, scale: float) -> list[SamplePerson]:
    # `+ 0.5 ... - 0.5`: pixel centres, not corners, are scaled by the resize.
    points = (poses.keypoints + 0.5) * scale - 0.5
    return [
        SamplePerson(
            score=round(float(poses.scores[i]), 4),
            joints=[
                (round(float(x), 1), round(float(y), 1), round(float(s), 3))
                for (x, y), s in zip(points[i], poses.joint_scores[i], strict=True)
            ],
        )
        for i in np.argsort(-poses.scores)[:_MOST_PEOPLE]
    ]
