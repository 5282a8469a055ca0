"""A data set as a torch Dataset: augmented images and targets, drawn from (seed, epoch, index) alone.

Since a sample depends on nothing else, a resumed run sees exactly the samples that an uninterrupted one would have
seen, whatever the number of workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from samkr_edge.dataset.keypoint_dataset import ImageRecord, KeypointDataset
from samkr_edge.dataset.usable import require_usable, smallest_area
from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted
from samkr_edge.images import ReadImage, read_image
from samkr_edge.pose.geometry import warp
from samkr_edge.pose.oks import is_ignored
from training.data.augment import draw_placement, jitter
from training.data.settings import AugmentSettings, EncodeSettings
from training.data.targets import PeopleToLearn, TargetSettings, draw_targets


@dataclass(frozen=True)
class _Sample:
    """What is known about an image before it is opened."""

    record: ImageRecord
    people: PeopleToLearn


class TrainingSet(Dataset[dict[str, Tensor]]):
    """Samples of one split.

    A sample is a dict of tensors: ``image`` uint8 (H, W, 3) RGB and ``image_id`` int64, and the targets.

    - of offsets (see ``training.data.encode``): ``heatmap`` and ``mask`` float32 (K+1, h, w); ``valid`` float32
      (1, h, w); ``offset`` and ``offset_weight`` float32 (2K, h, w), all at stride 4;
    - of tags (see ``training.data.encode_grouping``): ``heatmap_low`` float32 (K, h, w) and ``valid_low`` float32
      (1, h, w) at stride 4; ``heatmap`` (K, 2h, 2w) and ``valid`` (1, 2h, 2w) at stride 2; ``joints`` int64
      (max_people, K, 2).

    As DEKR does, images without any annotation are left out; ``skipped`` counts them. Crowds and people without
    keypoints are not learned from, and masked out of the heatmap loss (COCO).

    Args:
        dataset: the split.
        input_size: (H, W) of the network input, multiples of 4.
        encode_settings: which targets, and how they are drawn.
        augment_settings: how images are varied.
        seed: of everything random.
        cache_mb: room for decoded images, in this process; JPEG decoding competes with training for the CPU.

    Raises:
        SamkrError: SE-D18 nobody to learn from. Reading a sample: SE-D15 its image is missing or corrupt.
    """

    def __init__(
        self,
        dataset: KeypointDataset,
        input_size: tuple[int, int],
        encode_settings: TargetSettings | None = None,
        augment_settings: AugmentSettings | None = None,
        *,
        seed: int = 0,
        cache_mb: int = 1024,
        read: ReadImage = read_image,
    ) -> None:
        self.encode_settings: TargetSettings = encode_settings or EncodeSettings()
        require_usable(dataset, "train", smallest_person=self.encode_settings.smallest_person)
        self.dataset = dataset
        self.input_size = input_size
        self.augment_settings = augment_settings or AugmentSettings()
        self.seed = seed
        self._read = read
        self._samples = [
            _describe(record, dataset, self.encode_settings)
            for record in dataset.images
            if dataset.annotations[record.id]
        ]
        self.skipped = len(dataset.images) - len(self._samples)
        # In shared memory, so that running workers see a new epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._cache: dict[int, npt.NDArray[np.uint8]] = {}
        self._cache_left = cache_mb << 20

    def __len__(self) -> int:
        return len(self._samples)

    def set_epoch(self, epoch: int) -> None:
        """Choose the draws that ``self[index]`` gives."""
        self._epoch.fill_(epoch)

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """The order of an epoch: a permutation (N,) that depends on seed and epoch."""
        return np.random.default_rng((self.seed, epoch, 1)).permutation(len(self))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.sample(int(self._epoch), index)

    def sample(self, epoch: int, index: int) -> dict[str, Tensor]:
        """Sample ``index`` as ``epoch`` draws it: ``image`` uint8 (H, W, 3) and the targets."""
        sample, augment = self._samples[index], self.augment_settings
        rng = np.random.default_rng((self.seed, epoch, 2, index))
        image = self._image(index)
        source_hw = (image.shape[0], image.shape[1])
        placement = draw_placement(source_hw, self.input_size, augment, rng)
        pixels = jitter(warp(image, placement.matrix, self.input_size), augment.jitter, rng)
        order = self.dataset.skeleton.flip_order
        targets = draw_targets(
            sample.people, source_hw, placement, self.input_size, order, self.encode_settings
        )
        return {
            "image": torch.from_numpy(np.ascontiguousarray(pixels)),
            **{name: torch.from_numpy(value) for name, value in targets.items()},
            "image_id": torch.tensor(sample.record.id),
        }

    def _image(self, index: int) -> npt.NDArray[np.uint8]:
        cached = self._cache.get(index)
        if cached is not None:
            return cached
        record = self._samples[index].record
        try:
            image = self._read(record.path)
        except SamkrError as error:
            facts = {**error.facts, "image": f"id {record.id} of {self.dataset.annotation_path}"}
            lists_all = f"samkr-edge data check {quoted(self.dataset.named)}   # lists all such images"
            raise SamkrError(error.code, error.message, facts, fix=lists_all) from error
        if image.nbytes <= self._cache_left:
            self._cache_left -= image.nbytes
            self._cache[index] = image
        return image


def _describe(record: ImageRecord, dataset: KeypointDataset, settings: TargetSettings) -> _Sample:
    annotations = dataset.annotations[record.id]
    people = [a for a in annotations if _is_trained_on(a, settings.parity)]
    joints = np.array([a["keypoints"] for a in people], np.float64).reshape(-1, len(dataset.skeleton), 3)
    smallest = smallest_area(record, dataset.kind, settings.smallest_person)
    has_center = np.array([a["area"] >= smallest for a in people], np.bool_)
    outlines = [a.get("segmentation") for a in annotations if is_ignored(a)]
    ignored = tuple(outlines) if dataset.kind == "coco" else ()
    return _Sample(record, PeopleToLearn(joints, has_center, ignored))


def _is_trained_on(annotation: Mapping[str, Any], parity: bool) -> bool:
    if parity:  # DEKR's people, some of whom have no joint, and a centre at the origin
        return not annotation["iscrowd"] or annotation["num_keypoints"] > 0
    return not is_ignored(annotation)
