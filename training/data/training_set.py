"""A data set as a torch Dataset: augmented image bytes and targets, drawn from (seed, epoch, index) alone.

Since a sample depends on nothing else, a resumed run sees exactly the samples an uninterrupted one would have seen,
whatever the number of workers.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from samkr_edge.dataset import KeypointDataset, read_image
from samkr_edge.errors import SamkrError
from samkr_edge.geometry import warp
from training.data.augment import AugmentSettings, Draw, draw_affine, jitter, move_joints
from training.data.encode import EncodeSettings, encode

STRIDE = 4
# DEKR: COCO people smaller than this get no centre and no offsets.
SMALLEST_COCO_AREA = 32**2


class TrainingSet(Dataset[dict[str, Tensor]]):
    """Samples with image uint8 (H, W, 3), heatmap and heatmap_weight (K+1, h, w), offset and offset_weight (2K, h, w).

    Images without any annotation are left out, as DEKR does; ``skipped`` counts them.
    """

    def __init__(
        self,
        dataset: KeypointDataset,
        input_size: tuple[int, int],
        encode_settings: EncodeSettings,
        augment_settings: AugmentSettings,
        *,
        seed: int = 0,
        cache_mb: int = 1024,
    ) -> None:
        self.dataset = dataset
        self.input_size = input_size
        self.encode_settings = encode_settings
        self.augment_settings = augment_settings
        self.seed = seed
        self.images = [image for image in dataset.images if dataset.annotations.get(image.id)]
        self.skipped = len(dataset.images) - len(self.images)
        if not self.images:
            raise SamkrError(
                "SE-D36", f"no image of {dataset.annotation_path} has a person, so there is nothing to learn"
            )
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._cache: dict[int, np.ndarray] = {}
        self._cache_bytes = cache_mb << 20

    def __len__(self) -> int:
        return len(self.images)

    def set_epoch(self, epoch: int) -> None:
        """Choose the draws of this epoch; workers that already run see it too."""
        self._epoch[0] = epoch

    def order(self, epoch: int) -> np.ndarray:
        """The permutation of this epoch, int64 (len,)."""
        return np.random.default_rng((self.seed, epoch, 1)).permutation(len(self))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {
            key: torch.from_numpy(value) for key, value in self.sample(int(self._epoch[0]), index).items()
        }

    def sample(self, epoch: int, index: int) -> dict[str, np.ndarray]:
        """Sample ``index`` as drawn in ``epoch``, as arrays."""
        record = self.images[index]
        random = np.random.default_rng((self.seed, epoch, 2, index))
        image = self._image(index)
        draw = draw_affine((image.shape[0], image.shape[1]), self.input_size, self.augment_settings, random)
        warped = jitter(warp(image, draw.matrix, self.input_size), self.augment_settings.jitter, random)
        people = [a for a in self.dataset.annotations[record.id] if not a.get("iscrowd")]
        keypoints = len(self.dataset.skeleton)
        joints = np.array([a["keypoints"] for a in people], np.float64).reshape(-1, keypoints, 3)
        moved = move_joints(joints, draw, self.dataset.skeleton.flip_order)
        moved[..., :2] /= STRIDE
        h, w = self.input_size[0] // STRIDE, self.input_size[1] // STRIDE
        targets = encode(
            moved,
            _squared_sizes(joints, draw, self.encode_settings.parity),
            (h, w),
            self.encode_settings,
            self._valid(record.id, image, draw, (h, w)),
            np.array([self._is_large_enough(a) for a in people], bool),
        )
        return {
            "image": warped,
            "heatmap": targets.heatmap,
            "heatmap_weight": targets.heatmap_weight,
            "offset": targets.offset,
            "offset_weight": targets.offset_weight,
            "image_id": np.array(record.id),
        }

    def _is_large_enough(self, annotation: dict[str, Any]) -> bool:
        # Rendered people are scored as COCO's, but are small throughout: the rule is for photographs.
        return (
            self.dataset.kind != "coco"
            or annotation.get("area", 1e9) >= SMALLEST_COCO_AREA
            or self.input_size[0] < 256
        )

    def _image(self, index: int) -> np.ndarray:
        cached = self._cache.get(index)
        if cached is not None:
            return cached
        image = read_image(self.images[index].path)
        if self._cache_bytes >= image.nbytes:
            self._cache_bytes -= image.nbytes
            self._cache[index] = image
        return image

    def _valid(self, image_id: int, image: np.ndarray, draw: Draw, map_hw: tuple[int, int]) -> np.ndarray:
        """float32 (h, w): 0 on padding, crowds and people without labelled joints (COCO); CrowdPose: padding only."""
        known = np.ones(image.shape[:2], np.uint8)
        for annotation in self.dataset.annotations[image_id]:
            if annotation.get("iscrowd") or (
                self.dataset.kind == "coco" and not annotation.get("num_keypoints", 1)
            ):
                _blank(known, annotation.get("segmentation"))
        # Map pixel i is centred on input pixel 4 i.
        matrix = draw.matrix / STRIDE
        h, w = map_hw
        return (cv2.warpAffine(known, matrix, (w, h), flags=cv2.INTER_NEAREST) > 0).astype(np.float32)


def _squared_sizes(joints: np.ndarray, draw: Draw, parity: bool) -> np.ndarray:
    """Squared diagonal of each person's labelled joints in input pixels, (P,)."""
    scale = abs(np.linalg.det(draw.matrix[:, :2]))
    sizes = np.ones(len(joints))
    for index, person in enumerate(joints):
        points = person[person[:, 2] > 0, :2]
        if len(points):
            low = np.zeros(2) if parity else points.min(axis=0)
            sizes[index] = max(float(((points.max(axis=0) - low) ** 2).sum()) * scale, 1.0)
    return sizes


def _blank(known: np.ndarray, segmentation: Any) -> None:
    """Set the region of a COCO segmentation (polygons or run lengths) to 0."""
    if isinstance(segmentation, list):
        for polygon in segmentation:
            if len(polygon) >= 6:
                cv2.fillPoly(known, [np.round(np.array(polygon).reshape(-1, 2)).astype(np.int32)], 0)
    elif isinstance(segmentation, dict):
        from pycocotools import mask

        runs = segmentation
        if isinstance(runs["counts"], list):
            runs = mask.frPyObjects(runs, *runs["size"])
        known[mask.decode(runs).astype(bool)] = 0
