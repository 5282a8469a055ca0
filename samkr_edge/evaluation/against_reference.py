"""Accuracy without labels: the people that the FP32 network finds on photographs stand for labelled people.

They become a ``KeypointDataset``, so that AP, OKS and every bootstrap run on it unchanged. What they say is how closely
another precision follows FP32, mistakes of FP32 included: never call it AP alone, but ``KeypointDataset.metric``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samkr_edge.dataset.keypoint_dataset import ImageRecord, KeypointDataset
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.ap import MAX_DETECTIONS, paired_bootstrap, predict_dataset
from samkr_edge.evaluation.predictions import Predictions
from samkr_edge.fixes import quoted
from samkr_edge.images import ReadImage, read_image
from samkr_edge.pose.oks import pose_area
from samkr_edge.pose.pairs import pair_people
from samkr_edge.pose.placed_joints import placed_joints
from samkr_edge.pose.poses import SURE_JOINT, Poses
from samkr_edge.pose.sure_person import SURE_PERSON
from samkr_edge.printable import counted

if TYPE_CHECKING:
    from samkr_edge.model_card import ModelCard
    from samkr_edge.pose_model import PoseModel

PHOTOS = "photos"  # the name of the set, and of its only split


@dataclass(frozen=True)
class ReferencePeople:
    """What the FP32 network finds on the photographs.

    Attributes:
        dataset: its people as labels; AP of its own poses on them is 100.
        predictions: all its poses, the faint ones too.
        grouped: whether its people are found by grouping, see ``placed_joints``.
    """

    dataset: KeypointDataset
    predictions: Predictions
    grouped: bool = False

    def areas(self, poses: Poses) -> np.ndarray:
        """``pose_area`` (P,) of people of the network, by the joints that are in their place."""
        placed = placed_joints(poses.joint_scores, grouped=self.grouped)
        return np.array(
            [pose_area(joints[there]) for joints, there in zip(poses.keypoints, placed, strict=True)]
        )

    @property
    def sure_person(self) -> float:
        """The least score of a person who stands for a label."""
        return SURE_PERSON["grouping" if self.grouped else "offsets"]

    @property
    def people(self) -> int:
        """How many people stand for labels."""
        return sum(map(len, self.dataset.annotations.values()))


def reference_people(
    model: PoseModel,
    images: Sequence[ImageRecord],
    *,
    read: ReadImage = read_image,
    advance: Callable[..., None] | None = None,
) -> ReferencePeople:
    """The model's people on the images, as labels: those that `predict` shows, by the same threshold.

    Their sure joints are labelled, the others not. A person's area is ``pose_area`` of all joints in their place:
    COCO's outlines are not known, and rendered people cover about as much. At most the 20 best of an image, as many as
    are evaluated.

    Args:
        model: the FP32 network, opened from a file.
        images: the photographs.
        read: what reads them.
        advance: called after each image.

    Raises:
        SamkrError: SE-U09 the model is not FP32; SE-D58 it finds nobody; SE-D15 an image cannot be read.
    """
    require_fp32(model.card, model.path)
    unlabelled = KeypointDataset(
        root=Path(PHOTOS),
        split=PHOTOS,
        kind="coco",
        annotation_path=model.path,
        skeleton=model.card.skeleton,
        images=tuple(images),
        annotations={image.id: [] for image in images},
        labelled_by=model.card.precision.upper(),
    )
    predictions = predict_dataset(model, unlabelled, read=read, advance=advance)
    grouped, least = model.card.grouping is not None, model.card.sure_person
    annotations = {
        image.id: _as_labels(predictions.poses(image.id).above(least).best(MAX_DETECTIONS), image.id, grouped)
        for image in images
    }
    if not any(annotations.values()):
        raise _nobody(model, predictions, len(images))
    return ReferencePeople(replace(unlabelled, annotations=annotations), predictions, grouped)


def require_fp32(card: ModelCard, path: Path) -> None:
    """Refuse a reference that has itself lost accuracy.

    Raises:
        SamkrError: SE-U09.
    """
    if card.precision != "fp32":
        raise SamkrError(
            "SE-U09",
            f"{path} cannot stand for labels: its precision has cost accuracy already, so nothing was measured",
            {"expected": "an FP32 model", "found": f"{card.model} {card.precision.upper()}"},
            fix="samkr-edge export fp32.pt -o fp32.onnx   # then name it first, or as --baseline",
        )


def _as_labels(poses: Poses, image_id: int, grouped: bool) -> list[dict[str, Any]]:
    """Annotations as a reader of a file gives them; an unlabelled joint is 0, 0, 0 as in COCO."""
    sure = poses.joint_scores >= SURE_JOINT
    placed = placed_joints(poses.joint_scores, grouped=grouped)
    people = []
    for number, (joints, is_sure, there) in enumerate(
        zip(poses.keypoints.astype(float), sure, placed, strict=True)
    ):
        low, high = joints[there].min(axis=0), joints[there].max(axis=0)
        triples = np.concatenate([joints.round(3), np.full((len(joints), 1), 2.0)], axis=1)
        people.append(
            {
                "id": f"{image_id}.{number}",
                "image_id": image_id,
                "category_id": 1,
                "keypoints": np.where(is_sure[:, None], triples, 0.0).ravel().tolist(),
                "num_keypoints": int(is_sure.sum()),
                "iscrowd": 0,
                "bbox": [*low.tolist(), *(high - low).tolist()],
                "area": pose_area(joints[there]),
            }
        )
    return people


def _nobody(model: PoseModel, predictions: Predictions, images: int) -> SamkrError:
    best = max((float(poses.scores[0]) for _, poses in predictions.images() if len(poses)), default=0.0)
    return SamkrError(
        "SE-D58",
        f"{model.path.name} finds nobody on {counted(images, 'photo')}, so there is nothing to compare with",
        {"needed": f"a person of score {model.card.sure_person:g}", "best score": f"{best:.3f}"},
        fix=f"samkr-edge predict {quoted(model.path)} PHOTO   # look; then give photos of people, or train it longer",
    )


@dataclass(frozen=True)
class AgainstReference:
    """How another network's people differ from the reference's on the same photographs.

    Attributes:
        kept: people that both show. ``lost``: only the reference shows; ``new``: only the other.
        moved_px, moved_px_p95: pixels of the photograph within which 50 % and 95 % of the sure joints of the
            reference's people are found; those of people lost count as infinitely far. None: at no distance.
        oks, oks_p5: median and 5th percentile of the OKS of the reference's people, 0..1; that of people lost is 0.
        ap: AP of all its poses against the reference's people, 0..100.
        ap_low, ap_high: its 95 % interval, by a bootstrap over photographs.
    """

    kept: int
    lost: int
    new: int
    moved_px: float | None
    moved_px_p95: float | None
    oks: float
    oks_p5: float
    ap: float
    ap_low: float
    ap_high: float


def against(
    reference: ReferencePeople, predictions: Predictions, *, least: float | None = None, seed: int = 0
) -> AgainstReference:
    """Compare with poses of the same photographs by another network.

    Args:
        reference: the FP32 network's people.
        predictions: ``predict_dataset`` of the other network on ``reference.dataset``.
        least: score of its people, its card's ``sure_person``; the reference's if it is None.
        seed: of the bootstrap.
    """
    people = people_against(reference, predictions, least=least)
    drop = paired_bootstrap(reference.dataset, reference.predictions, predictions, seed=seed)
    return AgainstReference(
        people.kept,
        people.lost,
        people.new,
        moved_px=people.within(50),
        moved_px_p95=people.within(95),
        oks=people.oks_of(50),
        oks_p5=people.oks_of(5),
        ap=100 + drop.difference,
        ap_low=100 + drop.low,
        ap_high=100 + drop.high,
    )


@dataclass(frozen=True)
class PeopleAgainst:
    """The people of another network beside the reference's.

    Attributes:
        kept, lost, new: as in ``AgainstReference``.
        moved: float (J,), how far each sure joint of the people kept moved, pixels of the photograph.
        lost_joints: how many sure joints the people lost have.
        oks: float (kept,), of the people kept with the reference's.
    """

    kept: int
    lost: int
    new: int
    moved: np.ndarray
    lost_joints: int
    oks: np.ndarray

    def within(self, share: float) -> float | None:
        """Pixels within which ``share`` percent of the sure joints of the reference's people are found.

        Those of people lost count as infinitely far, so that losing the hardest people makes nothing better; None where
        that is at no distance.
        """
        far = np.concatenate([self.moved, np.full(self.lost_joints, np.inf)])
        # One of the distances: between the last finite one and infinity there is none.
        found = float(np.percentile(far, share, method="inverted_cdf")) if len(far) else np.inf
        return found if np.isfinite(found) else None

    def oks_of(self, share: float) -> float:
        """Percentile of the OKS of the reference's people, 0..1; that of people lost is 0."""
        everybody = np.concatenate([self.oks, np.zeros(self.lost)])
        return float(np.percentile(everybody, share)) if len(everybody) else 0.0


def people_against(
    reference: ReferencePeople,
    predictions: Predictions,
    images: Sequence[ImageRecord] | None = None,
    *,
    least: float | None = None,
) -> PeopleAgainst:
    """Pair the people of another network with the reference's, on all photographs or on these.

    Args:
        reference: the FP32 network's people.
        predictions: the other network's, of the same photographs.
        images: some of ``reference.dataset.images``.
        least: score of the other network's people; the reference's if it is None.
    """
    kept = lost = new = lost_joints = 0
    moved: list[np.ndarray] = []
    similar: list[float] = []
    sigmas = np.array(reference.dataset.skeleton.sigmas)
    for image in reference.dataset.images if images is None else images:
        truth = reference.predictions.poses(image.id).above(reference.sure_person)
        found = predictions.poses(image.id).above(reference.sure_person if least is None else least)
        sure = truth.joint_scores >= SURE_JOINT
        pairs = pair_people(truth.keypoints, found.keypoints, sigmas, sure, reference.areas(truth))
        kept, lost, new = kept + len(pairs.kept), lost + len(pairs.lost), new + len(pairs.new)
        lost_joints += int(sure[pairs.lost].sum())
        for first, second in pairs.kept:
            counts = sure[first]
            apart = np.linalg.norm(truth.keypoints[first] - found.keypoints[second], axis=1)
            moved.append(apart[counts])
            similar.append(float(pairs.similarities[second, first, counts].mean()))
    distances = np.concatenate(moved) if moved else np.zeros(0)
    return PeopleAgainst(kept, lost, new, distances, lost_joints, np.array(similar))
