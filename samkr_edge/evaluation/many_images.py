"""Poses of many images: reading, resizing and decoding overlap with the network, and few images are held at a time.

The network runs in the caller's thread. A second thread reads and resizes the next images, a third decodes the last
ones; both spend their time in OpenCV and NumPy, which release the interpreter lock. So with a second core a pass over a
data set takes little more than its network time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from samkr_edge.dataset.keypoint_dataset import ImageRecord
from samkr_edge.images import ReadImage, read_image
from samkr_edge.machine.opencv_threads import opencv_threads
from samkr_edge.pose.geometry import Fit
from samkr_edge.pose.poses import Poses
from samkr_edge.pose_model import PoseModel

# Images read ahead, and maps waiting to be decoded. They bound the memory, however many images there are.
AHEAD = 4

Item = TypeVar("Item")
Done = TypeVar("Done")


def stream(
    model: PoseModel, records: Iterable[ImageRecord], read: ReadImage = read_image
) -> Iterator[tuple[ImageRecord, Poses]]:
    """(record, poses in image pixels) in the order of ``records``; the same poses as ``model(image, None)``.

    Raises:
        SamkrError: SE-D15 an image cannot be read; all before it have been yielded.
    """

    def prepare(record: ImageRecord) -> tuple[np.ndarray, Fit]:
        batch = model.new_input()
        return batch, model.preprocess(read(record.path), batch[0])

    def seen() -> Iterator[tuple[ImageRecord, list[np.ndarray], Fit]]:
        for record, (batch, fit) in ahead(prepare, records):
            yield record, [output[0] for output in model.runner.run(batch)], fit

    # OpenCV's own threads would spin while they wait, on the cores that the network and the decoder need.
    with opencv_threads(1):
        for (record, _, _), poses in ahead(lambda maps: model.poses(*maps[1:]), seen()):
            yield record, poses


def ahead(
    work: Callable[[Item], Done], items: Iterable[Item], count: int = AHEAD
) -> Iterator[tuple[Item, Done]]:
    """(item, ``work(item)``) in order; one thread works at most ``count`` items ahead of the caller.

    ``items`` is iterated in the caller's thread. If it or ``work`` raises, all earlier results are yielded first.
    """
    source = iter(items)
    waiting: deque[tuple[Item, Future[Done]]] = deque()
    failure: Exception | None = None
    pool = ThreadPoolExecutor(1)
    try:
        while True:
            while failure is None and len(waiting) < count:
                try:
                    item = next(source)
                except StopIteration:
                    break
                except Exception as error:
                    failure = error
                else:
                    waiting.append((item, pool.submit(work, item)))
            if not waiting:
                break
            item, done = waiting.popleft()
            yield item, done.result()
        if failure is not None:
            raise failure
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
