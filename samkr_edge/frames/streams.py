"""Sources through one network: a file, or several cameras at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from samkr_edge.frames.excerpt import Excerpt
from samkr_edge.frames.opening import FrameSource, open_video
from samkr_edge.frames.pipeline import Pipeline, Together
from samkr_edge.frames.pose_stages import FrameInFlight, pose_stages
from samkr_edge.machine.opencv_threads import opencv_threads
from samkr_edge.pose_model import PoseModel

_STAGES, _DEPTH = 3, 2


class Streams:
    """Iterate over what ``finish`` makes of every frame, and the ``SourceEnded`` of every source.

    A context manager that stops its threads and closes the sources. Each has a capture thread; of live ones only the
    newest frame is taken. They go through the network in turn, or in one batch where the model takes several inputs.

    Args:
        finish: is called in the decoding thread.

    Attributes:
        pipeline: what knows the times that the stages took.
    """

    def __init__(
        self,
        model: PoseModel,
        sources: Sequence[FrameSource],
        finish: Callable[[FrameInFlight], Any] | None = None,
    ) -> None:
        self.sources = sources
        most = min(len(sources), model.runner.batch)
        self.pipeline = Pipeline(
            Together(sources, [source.live for source in sources], most),
            pose_stages(model, finish, depth=_DEPTH, most=most),
            depth=_DEPTH,
        )
        self._stack = ExitStack()

    def __enter__(self) -> Streams:
        with ExitStack() as stack:
            # The stages are the threads; OpenCV's own would take the network's cores.
            stack.enter_context(opencv_threads(1))
            stack.callback(self._close)
            stack.enter_context(self.pipeline)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for source in self.sources:
            source.stop()
        self._stack.close()

    def __iter__(self) -> Iterator[Any]:
        for batch in self.pipeline:
            yield from batch

    def _close(self) -> None:
        for source in self.sources:
            if source.live or self.pipeline.stopped:  # a capture must not be closed while a thread is in it
                source.close()


def open_stream(source: str, *, reconnect: bool = False, excerpt: Excerpt | None = None) -> FrameSource:
    """``open_video`` with a ring of as many frames as ``Streams`` holds of a file."""
    ring = Pipeline.in_flight(_STAGES, _DEPTH)
    return open_video(source, ring=ring, reconnect=reconnect, excerpt=excerpt)
