"""DEKR's rescoring network: a small MLP that predicts a pose's OKS from its shape and joint scores.

It runs in NumPy, so that evaluation needs no torch; `samkr-edge rescore` trains it. The file (.npz) holds the weights
under DEKR's names (``l1.weight`` ...), the definition of its features (the links, and the two links that give the
scale), and which poses it learned from.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from samkr_edge.dataset.trained_on import TrainedOn
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.protocol import Protocol
from samkr_edge.files.artefact import json_of, replacing
from samkr_edge.files.refused import not_opened
from samkr_edge.pose.poses import Poses
from samkr_edge.pose.skeleton import COCO17, CROWDPOSE14, Skeleton

LAYERS = ("l1", "l2", "l3")

# DEKR's links, first joint - second joint, so that its weights fit.
_COCO_LINKS = (
    (0, 1), (0, 2), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 6), (5, 7), (5, 11), (6, 8), (6, 12), (7, 9),
    (8, 10), (11, 12), (11, 13), (12, 14), (13, 15), (14, 16),
)  # fmt: skip
_CROWDPOSE_LINKS = (
    (12, 13), (13, 0), (13, 1), (0, 2), (1, 3), (2, 4), (3, 5), (0, 6), (1, 7), (6, 8), (7, 9), (8, 10), (9, 11),
    (6, 7), (0, 1),
)  # fmt: skip
# The links whose mean length is the pose's size: 9 and 11 in DEKR's table for COCO, the sides of the torso (joints 5-11
# and 6-12). In CrowdPose's table these numbers are hip-knee and knee-ankle; kept, since the weights depend on it.
_SCALE_LINKS = (9, 11)


@dataclass(frozen=True)
class PoseFeatures:
    """The network's input for a pose: 3 L + K numbers.

    Attributes:
        links: (L, 2) joint indices.
        scale_links: indices into ``links``; their mean length (at least 1 pixel) is the unit of length.
    """

    links: tuple[tuple[int, int], ...]
    scale_links: tuple[int, ...]

    @classmethod
    def of(cls, skeleton: Skeleton) -> PoseFeatures:
        """DEKR's for COCO and CrowdPose; for others the skeleton's edges, which all give the scale."""
        if skeleton.keypoints == COCO17.keypoints:
            return cls(_COCO_LINKS, _SCALE_LINKS)
        if skeleton.keypoints == CROWDPOSE14.keypoints:
            return cls(_CROWDPOSE_LINKS, _SCALE_LINKS)
        if not skeleton.edges:
            raise SamkrError(
                "SE-D77",
                f"the skeleton {skeleton.name} has no edges, so poses have no shape to rescore by",
                fix="add edges (pairs of keypoints) to the data set's skeleton.yaml"
                if len(skeleton) > 1
                else "leave rescoring out: a single keypoint has no shape",
            )
        return cls(skeleton.edges, tuple(range(len(skeleton.edges))))

    def __call__(self, keypoints: np.ndarray, joint_scores: np.ndarray) -> np.ndarray:
        """Features float32 (P, 3 L + K) of keypoints (P, K, 2) in image pixels and joint scores (P, K)."""
        first, second = np.array(self.links).T
        relative = keypoints[:, first] - keypoints[:, second]  # (P, L, 2)
        length = np.linalg.norm(relative, axis=2)
        unit = np.maximum(length[:, list(self.scale_links)].mean(axis=1), 1.0)[:, None]
        parts = [relative.reshape(len(relative), -1) / unit, length / unit, joint_scores]
        return np.concatenate(parts, axis=1).astype(np.float32)


@dataclass(frozen=True)
class Lesson:
    """The poses that a rescoring network learned from.

    Attributes:
        protocol: of their prediction, without rescoring.
        trained_on: the images.
    """

    protocol: Protocol
    trained_on: TrainedOn

    def to_json(self) -> str:
        by = self.protocol
        protocol = {"flip": by.flip, "scales": by.scales, "match": by.match, "paper_resize": by.paper_resize}
        return json.dumps({"protocol": protocol, "trained_on": self.trained_on.to_dict()})

    @classmethod
    def from_json(cls, text: str) -> Lesson:
        """Inverse of ``to_json``; ValueError, KeyError or TypeError for anything else."""
        content = json_of(text)
        protocol: dict[str, Any] = {**content["protocol"], "scales": tuple(content["protocol"]["scales"])}
        trained_on = TrainedOn.from_dict(content["trained_on"])
        if trained_on is None:
            raise ValueError("it does not say which images it learned from")
        return cls(Protocol(**protocol), trained_on)


@dataclass(frozen=True)
class RescoringNetwork:
    """Linear, ReLU, Linear, ReLU, Linear: features (P, F) -> predicted OKS (P,).

    Attributes:
        features: how a pose is described.
        weights: ``l1.weight`` (H, F), ``l1.bias`` (H,), ... float32.
        path: the file it came from, for messages.
        lesson: None for older files, which did not record it.
    """

    features: PoseFeatures
    weights: dict[str, np.ndarray]
    path: Path | None = None
    lesson: Lesson | None = None

    @property
    def trainings(self) -> list[TrainedOn]:
        """For ``samkr_edge.dataset.trained_on.require_unseen``."""
        return [self.lesson.trained_on] if self.lesson else []

    def doubts(self, protocol: Protocol) -> list[str]:
        """A warning if the poses are of another protocol than those that it learned from."""
        if self.lesson is None:
            return []
        learned, used = (
            replace(each, scales=tuple(sorted(each.scales)), rescoring=None)
            for each in (self.lesson.protocol, protocol)
        )
        if learned == used:
            return []
        return [
            f"{self.path.name if self.path else 'the rescoring network'} learned from poses by "
            f"{learned.label} and rescores poses by {used.label}"
        ]

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predicted OKS float32 (P,) of features (P, F)."""
        x = features
        for layer in LAYERS:
            x = x @ self.weights[f"{layer}.weight"].T + self.weights[f"{layer}.bias"]
            if layer != LAYERS[-1]:
                x = np.maximum(x, 0.0)
        return x[:, 0].astype(np.float32)

    def rescore(self, poses: Poses) -> Poses:
        """Pose scores times predicted OKS (NaN counts as 0), best first; poses are in image pixels."""
        predicted = np.nan_to_num(self.predict(self.features(poses.keypoints, poses.joint_scores)), nan=0.0)
        scores = (poses.scores * predicted).astype(np.float32)
        order = np.argsort(-scores, kind="stable")
        return replace(poses, scores=scores).take(order)


def with_rescoring(protocol: Protocol, path: Path | None, skeleton: Skeleton) -> Protocol:
    """The protocol with the rescoring network of a file, if one is given; raises what ``load_rescoring`` does."""
    return protocol if path is None else replace(protocol, rescoring=load_rescoring(path, skeleton))


def save_rescoring(path: str | Path, network: RescoringNetwork) -> None:
    """Write the weights, the links and the lesson as .npz, atomically."""
    lesson = {"lesson": np.array(network.lesson.to_json())} if network.lesson else {}
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        np.savez(
            stream,
            links=np.array(network.features.links, np.int64),
            scale_links=np.array(network.features.scale_links, np.int64),
            **lesson,  # type: ignore[arg-type]
            **{name: array.astype(np.float32) for name, array in network.weights.items()},  # type: ignore[arg-type]
        )


def load_rescoring(path: str | Path, skeleton: Skeleton) -> RescoringNetwork:
    """Read a rescoring network made for this skeleton.

    Raises:
        SamkrError: SE-A23 missing, SE-A77 not a rescoring network, SE-A82 made for other keypoints.
    """
    path = Path(path)
    expected = PoseFeatures.of(skeleton)
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        found = PoseFeatures(
            tuple((int(a), int(b)) for a, b in arrays.pop("links")),
            tuple(int(i) for i in arrays.pop("scale_links")),
        )
        weights = {
            f"{layer}.{part}": arrays[f"{layer}.{part}"].astype(np.float32)
            for layer in LAYERS
            for part in ("weight", "bias")
        }
        lesson = Lesson.from_json(str(arrays["lesson"])) if "lesson" in arrays else None
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, EOFError, SamkrError
    ) as error:  # fmt: skip
        raise not_opened(error, path, "rescoring network") or SamkrError(
            "SE-A77",
            f"{path} is not a rescoring network of samkr-edge",
            {"reason": f"{type(error).__name__}: {str(error)[:150]}"},
            fix="samkr-edge rescore MODEL --data DIR -o rescore.npz",
        ) from error
    inputs = 3 * len(expected.links) + len(skeleton)
    first, second = weights["l1.bias"].size, weights["l2.bias"].size
    shapes = {
        "l1.weight": (first, inputs),
        "l1.bias": (first,),
        "l2.weight": (second, first),
        "l2.bias": (second,),
        "l3.weight": (1, second),
        "l3.bias": (1,),
    }
    facts = {
        "expected": f"{inputs} features: {len(expected.links)} links, {len(skeleton)} joints ({skeleton.name})",
        "found": f"weights {weights['l1.weight'].shape}, {len(found.links)} links",
    }
    if found != expected:
        raise SamkrError(
            "SE-A82",
            f"{path} was made for other keypoints, so it cannot rescore these poses",
            facts,
            fix="samkr-edge rescore MODEL --data DIR -o rescore.npz   # with this model",
        )
    fits = {name: array.shape for name, array in weights.items()} == shapes
    if not fits or not all(np.isfinite(array).all() for array in weights.values()):
        raise SamkrError(
            "SE-A77",
            f"the weights in {path} are not those of a rescoring network",
            {**facts, "needed": "finite numbers"},
            fix="samkr-edge rescore MODEL --data DIR -o rescore.npz   # with this model",
        )
    return RescoringNetwork(expected, weights, path, lesson)
