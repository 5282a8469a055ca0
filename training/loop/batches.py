"""Batches in the order of the seed, made by threads ahead of the step that uses them."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, Queue

import numpy as np
import torch
from torch import Tensor

from samkr_edge.dataset.keypoint_dataset import KeypointDataset
from samkr_edge.errors import SamkrError
from samkr_edge.images import ReadImage, read_image
from training.data.settings import AugmentSettings
from training.data.targets import shows_anybody
from training.data.training_set import TrainingSet
from training.loop.objective import target_settings
from training.loop.recipe import Recipe, settings_of

# An epoch of at least so many samples that show nobody to learn from is no accident of the augmentation.
_LEAST_BLANK = 64


def training_set(
    recipe: Recipe,
    dataset: KeypointDataset,
    input_size: tuple[int, int],
    decoding: str,
    *,
    read: ReadImage = read_image,
) -> TrainingSet:
    """The split as the recipe shows it: augmented and encoded, at its own input size or else the model's.

    Args:
        recipe: its section ``data``, and the seed.
        dataset: the split.
        input_size: the model's, height and width.
        decoding: the model's, which decides what the targets are.
        read: reads an image file, (H, W, 3).
    """
    return TrainingSet(
        dataset,
        recipe.data.input_size or input_size,
        target_settings(recipe, decoding),
        settings_of(AugmentSettings, recipe.data),
        seed=recipe.seed,
        cache_mb=recipe.data.cache_mb,
        read=read,
    )


class Batches:
    """An endless stream of batches: numbers ``first``, ``first + step``, ... of the run.

    Which samples batch n holds depends on the data set's seed and n alone, so processes that take every second batch
    together see what one process would have seen.

    OpenCV and NumPy release the interpreter lock, and a rendered or cached image costs far less than a training step
    on a CPU: threads are enough, share the cache of images, start at once, and die with the process.

    Args:
        samples: the split.
        size: images in a batch.
        first: number of the first batch.
        step: distance to the next one.
        workers: threads that make samples.
        pinned: put batches into page-locked memory, from which a GPU copies while it computes.

    Attributes:
        waited: seconds that ``next`` was blocked.
        worked: seconds spent making batches, ``made`` so far.
    """

    def __init__(
        self, samples: TrainingSet, size: int, first: int, step: int, workers: int, *, pinned: bool = False
    ) -> None:
        self.waited, self.worked, self.made = 0.0, 0.0, 0
        self._samples, self._size, self._pinned = samples, size, pinned
        self._per_epoch = batches_per_epoch(samples, size)
        self._blank = 0  # samples since there was somebody to learn from
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None
        self._queue: Queue[dict[str, Tensor] | BaseException] = Queue(maxsize=4)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(first, step), daemon=True)
        self._thread.start()

    @property
    def images_per_second(self) -> float:
        """How fast batches are made while nothing blocks: the speed of the loader alone."""
        return self.made * self._size / self.worked if self.worked else 0.0

    def next(self) -> dict[str, Tensor]:
        """The next batch: the tensors of a sample, stacked to (N, ...); raises what making it raised.

        Raises:
            SamkrError: SE-D20 no sample of a whole epoch (of 64 if that is more) had a person's centre, or a keypoint
                with a tag.
        """
        started = time.monotonic()
        item = self._queue.get()
        self.waited += time.monotonic() - started
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Stop the threads; the batch being made is finished first."""
        self._stop.set()
        while self._thread.is_alive():
            with suppress(Empty):
                self._queue.get(timeout=0.05)
        if self._pool is not None:
            self._pool.shutdown()

    def _work(self, first: int, step: int) -> None:
        try:
            for number in itertools.count(first, step):
                started = time.monotonic()
                batch = self._batch(number)
                self.worked += time.monotonic() - started
                self.made += 1
                self._queue.put(batch)
                if self._stop.is_set():
                    return
        except BaseException as error:
            self._queue.put(error)

    def _batch(self, number: int) -> dict[str, Tensor]:
        epoch, position = divmod(number, self._per_epoch)
        order = self._samples.order(epoch)
        # A data set smaller than one batch is repeated within it.
        first = position * self._size
        chosen = [int(order[i % len(order)]) for i in range(first, first + self._size)]
        each = map if self._pool is None else self._pool.map
        items = list(each(lambda index: self._samples.sample(epoch, index), chosen))
        self._count_blank(items[: len(order)])
        return {key: self._stack([item[key] for item in items]) for key in items[0]}

    def _count_blank(self, items: list[dict[str, Tensor]]) -> None:
        self._blank = 0 if any(map(shows_anybody, items)) else self._blank + len(items)
        if self._blank < max(len(self._samples), _LEAST_BLANK):
            return
        augment, (height, width) = self._samples.augment_settings, self._samples.input_size
        what = "keypoint" if "joints" in items[0] else "centre"
        raise SamkrError(
            "SE-D20",
            f"nobody had a {what} in {self._blank} samples in a row, so there is nothing to learn and training stopped",
            {
                "images": f"{len(self._samples)} of {self._samples.dataset.annotation_path}",
                "input": f"{height}x{width}, scale {augment.scale[0]:g} to {augment.scale[1]:g}, translation "
                f"{augment.translation:g}: everybody is outside",
            },
            fix="run the same command with --set data.translation=0 --set 'data.scale=[1,1]'",
        )

    def _stack(self, tensors: list[Tensor]) -> Tensor:
        """NumPy stacks, not torch: a torch operation in this thread would start a second team of OpenMP threads, which
        spins on the cores that the training step needs."""
        stacked = torch.empty(
            (len(tensors), *tensors[0].shape), dtype=tensors[0].dtype, pin_memory=self._pinned
        )
        np.stack([tensor.numpy() for tensor in tensors], out=stacked.numpy())
        return stacked


def batches_per_epoch(samples: TrainingSet, size: int) -> int:
    """Whole batches of an epoch; what is left over is skipped, and comes in another order next time."""
    return max(1, len(samples) // size)
