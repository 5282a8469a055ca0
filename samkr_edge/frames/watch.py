"""``samkr_edge.watch``: a video or cameras as a loop over frames and people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from math import inf
from pathlib import Path
from typing import Any

import cv2

from samkr_edge.errors import SamkrError
from samkr_edge.frames.channel import StageFailed
from samkr_edge.frames.excerpt import Excerpt
from samkr_edge.frames.following import Following
from samkr_edge.frames.opening import FrameSource, open_video
from samkr_edge.frames.pipeline import at_frame, why_ended
from samkr_edge.frames.pose_stages import FrameInFlight, SourceEnded
from samkr_edge.frames.streams import Streams
from samkr_edge.pose.watched_frame import WatchedFrame
from samkr_edge.pose_model import PoseModel, load_model
from samkr_edge.terminal import say

Place = str | Path | int


def watch(
    source: Place | Sequence[Place],
    model: str | Path | PoseModel,
    *,
    track: bool = True,
    smooth: bool = True,
    threshold: float | None = None,
    max_people: int | None = None,
    excerpt: Excerpt | None = None,
    reconnect: bool = True,
    threads: int = 1,
) -> Iterator[WatchedFrame]:
    """See ``samkr_edge.watch``."""
    several = isinstance(source, Sequence) and not isinstance(source, str)
    places: Sequence[Any] = source if several else [source]  # type: ignore[assignment]
    with ExitStack() as stack:
        opened = (
            model if isinstance(model, PoseModel) else stack.enter_context(load_model(model, threads=threads))
        )
        least = opened.card.sure_person if threshold is None else threshold
        sources: list[FrameSource] = []
        stack.callback(lambda: [frames.close() for frames in sources if frames.live])
        for place in places:
            sources.append(open_video(str(place), reconnect=reconnect, excerpt=excerpt))
        following = [Following(opened.card, track=track, smooth=smooth) for _ in sources]

        def finish(seen: FrameInFlight) -> WatchedFrame:
            found = seen.poses.above(least).best(max_people)
            poses = following[seen.source](found, seen.frame.seconds)
            assert seen.frame.image is not None
            image = cv2.cvtColor(seen.frame.image, cv2.COLOR_BGR2RGB)
            return WatchedFrame(image, seen.frame.seconds, poses, seen.frame.index, seen.source)

        try:
            yield from _watched(stack.enter_context(Streams(opened, sources, finish)))
        except StageFailed as failure:
            names = ", ".join(frames.name for frames in sources)
            raise at_frame(failure, f"frame {failure.frame} of {names}") from failure.__cause__


def _watched(streams: Streams) -> Iterator[WatchedFrame]:
    """The frames; a source that ends early is told of, and the last one to do so is an error."""
    running, failed = len(streams.sources), None
    for seen in streams:
        if not isinstance(seen, SourceEnded):
            yield seen
            continue
        running -= 1
        failed = _why_early(seen, streams.sources[seen.source])
        if failed is not None and running:
            say(str(failed))
    if failed is not None:
        raise failed


def _why_early(ended: SourceEnded, source: FrameSource) -> SamkrError | None:
    if ended.failure is None:
        return source.ended_early() if source.broken else None
    return why_ended(ended.failure, source.name)


def excerpt_of(every: int, start: float, stop: float | None) -> Excerpt | None:
    """The wanted frames of video files; None for all.

    Raises:
        ValueError: there can be none.
    """
    if every < 1 or start < 0 or (stop is not None and stop <= start):
        raise ValueError(f"no frame is every {every}-th from {start} s to {stop} s")
    excerpt = Excerpt(every, start, inf if stop is None else stop)
    return None if excerpt.whole else excerpt
