"""Poses of many images: reading, resizing and decoding run beside the network, and few images are held at a time.

The network keeps the caller's thread. Reading and resizing the next images is done by one other thread, decoding the
last ones by another; both spend their time in OpenCV and NumPy, which let Python's other threads run. So a pass over a
data set takes little more than its network time where there is a second core.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from samkr_edge.dataset import ImageRecord, read_image
from samkr_edge.geometry import Fit
from samkr_edge.pose_model import PoseModel
from samkr_edge.poses import Poses

# Images read ahead, and maps waiting to be decoded: what bounds the memory, however many images there are.
AHEAD = 4


def stream(model: PoseModel, records: Iterable[ImageRecord]) -> Iterator[tuple[ImageRecord, Poses]]:
    """(record, poses in image pixels) in the order of ``records``; the same poses as ``model(image)``.

    Raises:
        SamkrError: SE-D15 an image cannot be read; what came before it has been yielded.
    """

    def prepare(record: ImageRecord) -> tuple[np.ndarray, Fit]:
        batch = np.zeros((1, *model.card.input_size, 3), np.uint8)
        return batch, model.preprocess(read_image(record.path), batch[0])

    source = iter(records)
    prepared: deque[tuple[ImageRecord, Future[tuple[np.ndarray, Fit]]]] = deque()
    decoded: deque[tuple[ImageRecord, Future[Poses]]] = deque()
    reader, decoder = ThreadPoolExecutor(1), ThreadPoolExecutor(1)

    def read_next() -> None:
        record = next(source, None)
        if record is not None:
            prepared.append((record, reader.submit(prepare, record)))

    try:
        for _ in range(AHEAD):
            read_next()
        while prepared:
            record, ready = prepared.popleft()
            read_next()
            try:
                batch, fit = ready.result()
            except Exception:
                yield from _rest(decoded)
                raise
            outputs = [_own(output)[0] for output in model.runner.run(batch)]
            decoded.append((record, decoder.submit(model.poses, outputs, fit)))
            while decoded and (len(decoded) > AHEAD or decoded[0][1].done()):
                first, poses = decoded.popleft()
                yield first, poses.result()
        yield from _rest(decoded)
    finally:
        for pool in (reader, decoder):
            pool.shutdown(wait=True, cancel_futures=True)


def _rest(decoded: deque[tuple[ImageRecord, Future[Poses]]]) -> Iterator[tuple[ImageRecord, Poses]]:
    while decoded:
        record, poses = decoded.popleft()
        yield record, poses.result()


def _own(maps: np.ndarray) -> np.ndarray:
    """A runtime may hand out its own output buffer, which its next run overwrites."""
    return maps if maps.flags.owndata else maps.copy()
