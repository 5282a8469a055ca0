"""The newest picture of every stream for the page of `predict --serve`, encoded once for all who watch.

The browser draws the people, from numbers: each viewer has a threshold of its own, and all share one JPEG. A picture is
copied and encoded only if somebody waits for it, in a thread of its own, so that the pipeline never waits. Who asks
gets what is newest by then: nothing queues up for a slow viewer, and one that is gone costs nothing.
"""

from __future__ import annotations

import json
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any

import cv2
import numpy as np

from samkr_edge.errors import reason_of
from samkr_edge.frames.pose_stages import FrameInFlight
from samkr_edge.pose.poses import Poses
from samkr_edge.pose_model import PoseModel

# Widest picture, pixels: a larger frame is scaled down.
WIDEST = 1280
_QUALITY = 80
# Frames over which the page's figures are averaged.
_OVER = 30
# Seconds without a frame after which the rate is no longer that of the frames before.
_STALE_S = 2.0
_JOIN_S = 5.0


@dataclass(frozen=True)
class _Offered:
    """A frame that is to be shown: ``image`` uint8 (H, W, 3) BGR is a copy."""

    image: np.ndarray
    people: Poses
    others: Poses
    facts: dict[str, Any]
    captured: float


class LiveStream:
    """One stream of the page: ``offer`` takes its frames, ``body`` is its newest picture.

    Attributes:
        waiting: viewers who have asked for a picture newer than the newest one.
        number: of the newest picture, from 1; 0 before the first one.
        body: that picture as it is sent: lengths of both parts, uint32 big-endian, then JSON, then the JPEG.
    """

    def __init__(
        self, name: str, rate: float, threshold: float, changed: Condition, tell: Callable[[], None]
    ) -> None:
        self.name = name
        self.waiting = 0
        self.number = 0
        self.body = b""
        self._state = "live"
        self._last: tuple[dict[str, Any], bytes] = {}, b""
        self._threshold = threshold
        self._changed = changed
        self._tell = tell
        self._offered: _Offered | None = None
        self._period, self._due = 1 / rate, 0.0
        self._times: deque[float] = deque(maxlen=_OVER)
        self._ms: deque[dict[str, float]] = deque(maxlen=_OVER)

    @property
    def over(self) -> bool:
        """Whether no more frames come."""
        return self._state != "live"

    def offer(self, seen: FrameInFlight, everybody: Poses) -> None:
        """Take a frame before it is drawn into; called by the pipeline, which this never keeps waiting.

        ``everybody`` are the people before any were left out; ``seen.poses`` are those that are kept.
        """
        now = time.perf_counter()
        self._times.append(now)
        self._ms.append({"capture": seen.frame.read_ms, **seen.ms})
        image = seen.frame.image
        if image is None or not self.waiting or now < self._due:
            return
        # By the schedule, so that 25 frames a second become 15 pictures and not 12.
        self._due = max(self._due, now - self._period) + self._period
        facts = {"frame": seen.frame.index, "seconds": round(seen.frame.seconds, 3), **self._figures(now)}
        others = everybody.take(everybody.scores < self._threshold)
        offered = _Offered(image.copy(), seen.poses, others, facts, seen.frame.captured)
        with self._changed:
            self._offered = offered
            self._changed.notify_all()

    def _figures(self, now: float) -> dict[str, Any]:
        times = [t for t in self._times if now - t < _STALE_S]
        span = times[-1] - times[0] if len(times) > 1 else 0.0
        return {"fps": round((len(times) - 1) / span, 2) if span else 0.0, "ms": means(self._ms)}

    def taken(self) -> _Offered | None:
        """The frame to show next, once."""
        offered, self._offered = self._offered, None
        return offered

    def show(self, facts: dict[str, Any], jpeg: bytes) -> None:
        """Make this the newest picture."""
        with self._changed:
            self._last = facts, jpeg
            text = json.dumps({"number": self.number + 1, "state": self._state, **facts}).encode()
            # A third thread reads them without waiting: the number last.
            self.body = struct.pack(">II", len(text), len(jpeg)) + text + jpeg
            self.number += 1
        self._tell()

    def end(self, *, failed: bool = False) -> None:
        """Tell viewers that no more frames come. The last picture stays, also for who comes later."""
        with self._changed:
            if self.over:
                return
            self._state = "failed" if failed else "ended"
            self.show(*self._last)


class LivePictures:
    """All streams, and the thread that encodes for them; a context manager.

    Attributes:
        encoded: pictures encoded so far, however many viewers got each.
        on_news: called by other threads after a stream has something newer.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        rate: float,
        threshold: float,
        compared: PoseModel | None = None,
    ) -> None:
        """``compared`` is a second network that sees every shown frame; what it finds is shown and never written."""
        self._changed = Condition()
        self.streams = [
            LiveStream(name, rate, threshold, self._changed, lambda: self.on_news()) for name in names
        ]
        self.encoded = 0
        self.on_news: Callable[[], None] = lambda: None
        self._compared = compared
        self._input = None if compared is None else compared.new_input()
        self._ended = False
        self._thread = Thread(target=self._work, daemon=True, name="encode")
        self._encode_ms: deque[dict[str, float]] = deque(maxlen=_OVER)
        self._compared_ms: deque[dict[str, float]] = deque(maxlen=_OVER)

    def __enter__(self) -> LivePictures:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join(_JOIN_S)

    def _work(self) -> None:
        """Encode what is offered, the streams in turn."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or any(s._offered for s in self.streams))
                if self._ended:
                    return
                offered = [(stream, stream.taken()) for stream in self.streams]
            for stream, frame in offered:
                if frame is not None:
                    self._show(stream, frame)

    def _show(self, stream: LiveStream, frame: _Offered) -> None:
        facts = {
            **frame.facts,
            "size": [frame.image.shape[1], frame.image.shape[0]],
            "people": as_numbers(frame.people) + as_numbers(frame.others),
        }
        if self._compared is not None:
            facts["compared"] = self._second_look(frame.image)
        started = time.perf_counter()
        jpeg = as_jpeg(frame.image)
        done = time.perf_counter()
        self._encode_ms.append({"encode": 1e3 * (done - started)})
        facts["ms"] |= means(self._encode_ms)
        facts["age"] = round(1e3 * (done - frame.captured), 1)
        self.encoded += 1
        stream.show(facts, jpeg)

    def _second_look(self, image: np.ndarray) -> dict[str, Any]:
        """What the second network finds in an image (H, W, 3) BGR, and its times; or why it could not."""
        model, batch = self._compared, self._input
        assert model is not None
        assert batch is not None
        try:
            times = [time.perf_counter()]
            fit = model.preprocess(image, batch[0], bgr=True)
            times.append(time.perf_counter())
            outputs = model.runner.run(batch)
            times.append(time.perf_counter())
            poses = model.poses([output[0] for output in outputs], fit)
            times.append(time.perf_counter())
        except Exception as error:  # the first network goes on
            return {"people": [], "ms": {}, "problem": reason_of(error)}
        stages = zip(("preprocess", "network", "decode"), times, times[1:], strict=False)
        self._compared_ms.append({name: 1e3 * (end - start) for name, start, end in stages})
        return {"people": as_numbers(poses), "ms": means(self._compared_ms)}


def means(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every value over the rows, which have the same names."""
    rows = list(rows)
    return {name: round(sum(row.get(name, 0.0) for row in rows) / len(rows), 2) for name in rows[-1]}


def as_jpeg(image: np.ndarray) -> bytes:
    """A picture uint8 (H, W, 3) BGR, at most ``WIDEST`` pixels wide, as JPEG."""
    height, width = image.shape[:2]
    if width > WIDEST:
        size = (WIDEST, max(1, round(height * WIDEST / width)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    coded: bytes = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
    return coded


def as_numbers(poses: Poses) -> list[list[Any]]:
    """A list for each person: score, tracking id or None, then x, y and score of each joint in image pixels."""
    triples = np.concatenate([poses.keypoints, 100 * poses.joint_scores[..., None]], axis=2)
    ids = [None] * len(poses) if poses.ids is None else poses.ids.tolist()
    joints = np.rint(10 * triples).astype(int).reshape(len(poses), triples.shape[1] * 3).tolist()
    # Whole numbers are short: tenths of a pixel, thousandths of a score.
    return [
        [round(score, 3), number, joint]
        for score, number, joint in zip(poses.scores.tolist(), ids, joints, strict=True)
    ]
