"""Training of DEKR's rescoring network on what a pose network predicts.

Label: a pose's largest OKS with any labelled person of its image. DEKR's script also sets labels of exactly 1 to 0 and
shows every pose three times, once for each area range; neither is meant, and neither is done here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from samkr_edge.dataset.keypoint_dataset import KeypointDataset
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.rescoring import LAYERS, PoseFeatures, RescoringNetwork
from samkr_edge.pose.oks import is_labelled, is_labelled_person, oks, person_area

HIDDEN = 256
BATCH = 1024
LEARNING_RATE = 1e-3
_LEAST_POSES = 20
# Every tenth image is held out, to show whether the network learned anything.
_HELD_OUT = 10
_LEAST_STEPS = 20  # per epoch: a small set gets smaller batches


@dataclass(frozen=True)
class RescoringReport:
    """Mean squared errors of predicted OKS on held-out images, of the network and of the mean label."""

    poses: int
    images: int
    error: float
    error_of_mean: float


def labelled_poses(
    dataset: KeypointDataset, results: Iterable[dict[str, Any]], features: PoseFeatures
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (N, F), labels (N,) and image ids (N,) of COCO results, on images that show a labelled person."""
    by_image: dict[int, list[dict[str, Any]]] = {}
    for result in results:
        by_image.setdefault(result["image_id"], []).append(result)
    parts = []
    for image_id, found in by_image.items():
        people = [person for person in dataset.annotations[image_id] if is_labelled_person(person)]
        if not people:
            continue
        truth = np.array([a["keypoints"] for a in people], np.float64).reshape(len(people), -1, 3)
        areas = np.array([person_area(person, dataset.kind) for person in people])
        triples = np.array([result["keypoints"] for result in found]).reshape(len(found), -1, 3)
        sigmas = dataset.skeleton.sigmas
        similarity = oks(triples[..., :2], truth[..., :2], areas, sigmas, is_labelled(truth)).max(axis=1)
        described = features(triples[..., :2], triples[..., 2])
        parts.append((described, similarity.astype(np.float32), np.full(len(found), image_id)))
    count = sum(len(labels) for _, labels, _ in parts)
    if count < _LEAST_POSES:
        raise SamkrError(
            "SE-D78",
            f"{count} poses were found near labelled people, too few to learn from",
            {"needed": _LEAST_POSES, "images": f"{len(by_image)} with predictions"},
            fix="use more images, or a network that finds people: samkr-edge eval MODEL --data DIR",
        )
    inputs, labels, ids = (np.concatenate(column) for column in zip(*parts, strict=True))
    return inputs, labels, ids


def train_rescoring(
    features: PoseFeatures,
    inputs: np.ndarray,
    labels: np.ndarray,
    image_ids: np.ndarray,
    *,
    epochs: int,
    seed: int,
) -> tuple[RescoringNetwork, RescoringReport]:
    """Fit the network to features (N, F), labels (N,) and the images' ids (N,); Adam, MSE, as DEKR does."""
    ids = np.unique(image_ids)
    held = (
        np.isin(image_ids, ids[::_HELD_OUT][: max(1, len(ids) // _HELD_OUT)])
        if len(ids) > 1
        else image_ids < 0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(inputs.shape[1], HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, 1)]
        network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
        x, y = torch.from_numpy(inputs[~held]), torch.from_numpy(labels[~held])
        size = max(8, min(BATCH, len(x) // _LEAST_STEPS))
        for _ in range(epochs):
            for chosen in torch.randperm(len(x)).split(size):
                loss = nn.functional.mse_loss(network(x[chosen])[:, 0], y[chosen])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
    weights = {
        f"{name}.{part}": _array(getattr(layer, part))
        for name, layer in zip(LAYERS, layers, strict=True)
        for part in ("weight", "bias")
    }
    finished = RescoringNetwork(features, weights)
    seen = held if held.any() else ~held
    error = float(np.mean((finished.predict(inputs[seen]) - labels[seen]) ** 2))
    of_mean = float(np.mean((labels[~held].mean() - labels[seen]) ** 2))
    return finished, RescoringReport(len(labels), len(ids), error, of_mean)


def _array(tensor: Tensor) -> np.ndarray:
    return np.asarray(tensor.detach().numpy().copy())
