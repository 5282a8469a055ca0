"""Sample predictions: a few evaluated images, every model's people in them, and the joints that moved.

The images are every n-th of the evaluated ones that show labelled people. Nobody picks them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from samkr_edge.errors import SamkrError, reason_of
from samkr_edge.files.artefact import read_json, replacing
from samkr_edge.fixes import quoted
from samkr_edge.pose.oks import box_area, joint_similarities, labelled_joints

if TYPE_CHECKING:
    from samkr_edge.dataset.keypoint_dataset import ImageRecord, KeypointDataset
    from samkr_edge.pose.poses import Poses
    from samkr_edge.pose_model import PoseModel

FOLDER = "samples"
_INDEX = "samples.json"
_LONGEST_SIDE = 480
_JPEG_QUALITY = 82
# People whose score is below this share of the best one in the image are not drawn: bottom-up networks keep many
# faint candidates, which the AP evaluation weighs by score and the eye cannot.
_SHOWN_SHARE = 0.3
# Below this the network does not believe in the person itself.
_SHOWN_SCORE = 0.05
_MOST_PEOPLE = 12
# A joint has moved when it went further than OKS forgives at this value, AP75's threshold.
MOVED_OKS = 0.75


class Person(BaseModel):
    """One predicted person: K joints (x, y, score) in pixels of the saved image."""

    model_config = ConfigDict(extra="forbid")
    score: float
    joints: list[tuple[float, float, float]]


class SampleImage(BaseModel):
    """One saved image and what each model sees in it."""

    model_config = ConfigDict(extra="forbid")
    file: str
    width: int
    height: int
    people: dict[str, list[Person]]


class Samples(BaseModel):
    """The index of a samples folder."""

    model_config = ConfigDict(extra="forbid")
    schema_version: int = 1
    edges: list[tuple[int, int]]
    sigmas: list[float]
    keypoints: list[str]
    images: list[SampleImage]


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
    from samkr_edge.dataset.keypoint_dataset import read_image

    images = []
    for number, record in enumerate(evenly_spaced(_with_people(dataset, records), count)):
        image = read_image(record.path)
        small, scale = _shrink(image)
        name = f"{number:02d}.jpg"
        _write_jpeg(folder / name, small)
        people = {key: _people(model(image), scale) for key, model in models.items()}
        images.append(SampleImage(file=name, width=small.shape[1], height=small.shape[0], people=people))
        if advance is not None:
            advance(1)
    skeleton = dataset.skeleton
    samples = Samples(
        edges=list(skeleton.edges),
        sigmas=list(skeleton.sigmas),
        keypoints=list(skeleton.keypoints),
        images=images,
    )
    with replacing(folder / _INDEX) as temporary:
        temporary.write_text(samples.model_dump_json(), encoding="utf-8")


def read_samples(folder: Path) -> Samples | None:
    """The samples beside a results file; None where there are none, for example because only the JSON was copied.

    Raises:
        SamkrError: SE-A63 the index is damaged.
    """
    path = folder / _INDEX
    if not path.is_file():
        return None
    content = read_json(path, "samples index")
    try:
        samples = Samples.model_validate(content)
    except ValueError as error:
        raise SamkrError(
            "SE-A63",
            f"{path} is not an index of samples that this version reads",
            {"reason": reason_of(error)},
            fix=f"measure again, or remove {quoted(folder)} to have a report without pictures",
        ) from error
    return samples.model_copy(
        update={"images": [image for image in samples.images if (folder / image.file).is_file()]}
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


def _people(poses: Poses, scale: float) -> list[Person]:
    if not len(poses):
        return []
    # `+ 0.5 ... - 0.5`: pixel centres, not corners, are scaled by the resize.
    points = (poses.keypoints + 0.5) * scale - 0.5
    threshold = max(_SHOWN_SCORE, _SHOWN_SHARE * float(poses.scores.max()))
    shown = [i for i in np.argsort(-poses.scores) if poses.scores[i] >= threshold]
    return [
        Person(
            score=round(float(poses.scores[i]), 4),
            joints=[
                (round(float(x), 1), round(float(y), 1), round(float(s), 3))
                for (x, y), s in zip(points[i], poses.joint_scores[i], strict=True)
            ],
        )
        for i in shown[:_MOST_PEOPLE]
    ]


@dataclass(frozen=True)
class Movement:
    """How one model's people differ from the baseline's in one image.

    Attributes:
        moved: (person of the model, joint) pairs that moved.
        extra: people of the model that the baseline does not see.
        missing: people of the baseline that the model does not see.
        joints: joints compared.
    """

    moved: frozenset[tuple[int, int]]
    extra: int
    missing: int
    joints: int


def compare(baseline: Sequence[Person], people: Sequence[Person], sigmas: Sequence[float]) -> Movement:
    """Match people by OKS over all joints, the best pair first; joints whose own term is below MOVED_OKS have moved."""
    if not baseline or not people:
        return Movement(frozenset(), len(people), len(baseline), 0)
    truth, others = (np.array([person.joints for person in each])[..., :2] for each in (baseline, people))
    areas = np.array([max(1.0, box_area(*joints)) for joints in np.ptp(truth, axis=1)])
    terms_of = joint_similarities(others, truth, areas, sigmas).tolist()  # [person][baseline's person][joint]
    pairs = sorted(
        (
            (-sum(terms) / len(terms), first, second, terms)
            for second, of_baseline in enumerate(terms_of)
            for first, terms in enumerate(of_baseline)
        ),
        key=lambda pair: pair[:3],
    )
    left, right = set(range(len(baseline))), set(range(len(people)))
    moved: set[tuple[int, int]] = set()
    joints = 0
    for similarity, first, second, terms in pairs:
        # Below this two poses are two people, not one that moved.
        if first not in left or second not in right or -similarity < 0.1:
            continue
        left.remove(first)
        right.remove(second)
        joints += len(terms)
        moved |= {(second, joint) for joint, term in enumerate(terms) if term < MOVED_OKS}
    return Movement(frozenset(moved), len(right), len(left), joints)
