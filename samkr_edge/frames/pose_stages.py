"""The stages of a pose stream: frames -> the network's input, its outputs, people."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from samkr_edge.frames.channel import Ended, StageFailed
from samkr_edge.frames.pipeline import PoseStage
from samkr_edge.frames.video import Frame
from samkr_edge.pose.poses import Poses
from samkr_edge.pose_model import PoseModel


@dataclass
class FrameInFlight:
    """One frame in the pipeline: after all stages ``poses`` are in its image's pixels.

    Attributes:
        source: the number of its source, from 0.
        ms: how long each stage worked on it, in milliseconds; the network on its whole batch.
    """

    frame: Frame
    fit: Any = None
    poses: Poses = field(default_factory=lambda: Poses.empty(0))
    source: int = 0
    ms: dict[str, float] = field(default_factory=dict)


@contextmanager
def _clocked(stage: str, *frames: FrameInFlight) -> Iterator[None]:
    started = time.perf_counter()
    yield
    for seen in frames:
        seen.ms[stage] = 1e3 * (time.perf_counter() - started)


@dataclass
class SourceEnded:
    """What comes after the last frame of a source; ``failure`` is why it ended early, None at its end."""

    source: int
    failure: StageFailed | None


@dataclass
class _Batch:
    """What goes through the network at a time. ``inputs`` has a row for every frame with an image."""

    seen: list[FrameInFlight]
    ended: list[SourceEnded]
    inputs: Any
    outputs: Any = None


def pose_stages(
    model: PoseModel,
    finish: Callable[[FrameInFlight], Any] | None = None,
    *,
    depth: int = 2,
    most: int = 1,
) -> list[PoseStage]:
    """The stages for lists of (source, frame), at most ``most``, as ``pipeline.Together`` gives them.

    They return lists of what ``finish`` makes, in the decoding thread, of each ``FrameInFlight``; and ``SourceEnded``.
    """
    # Inputs in use: those waiting for the network, one in it, and one being written.
    ring = [model.new_input(most) for _ in range(depth + 2)]
    turn = 0

    def preprocess(frames: list[tuple[int, Any]]) -> _Batch:
        nonlocal turn
        turn = (turn + 1) % len(ring)
        batch = _Batch([], [], None)
        for source, item in frames:
            if isinstance(item, Frame):
                batch.seen.append(FrameInFlight(item, source=source))
            else:
                batch.ended.append(SourceEnded(source, None if isinstance(item, Ended) else item))
        filled = 0
        for seen in batch.seen:
            if seen.frame.image is not None:
                with _clocked("preprocess", seen):
                    seen.fit = model.preprocess(seen.frame.image, ring[turn][filled], bgr=True)
                filled += 1
        batch.inputs = ring[turn][:filled]
        return batch

    def network(batch: _Batch) -> _Batch:
        if len(batch.inputs):
            with _clocked("network", *batch.seen):
                batch.outputs = model.runner.run(batch.inputs)
        return batch

    def decode(batch: _Batch) -> list[Any]:
        pictured = (seen for seen in batch.seen if seen.frame.image is not None)
        for row, seen in enumerate(pictured):
            with _clocked("decode", seen):
                seen.poses = model.poses([output[row] for output in batch.outputs], seen.fit)
        batch.outputs = None
        return [*(seen if finish is None else finish(seen) for seen in batch.seen), *batch.ended]

    return [("preprocess", preprocess), ("network", network), ("decode", decode)]
