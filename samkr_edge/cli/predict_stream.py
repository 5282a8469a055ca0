"""Videos, cameras or network streams in; overlays and keypoints out, at the speed of the slowest stage."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samkr_edge.cli.predict_options import Options
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import fitting
from samkr_edge.files.one_file import is_same_place
from samkr_edge.frames.channel import StageFailed
from samkr_edge.frames.draw import draw_poses, draw_status
from samkr_edge.frames.following import Following
from samkr_edge.frames.opening import FrameSource
from samkr_edge.frames.pipeline import Pipeline, Spent, at_frame, why_ended
from samkr_edge.frames.pose_stages import FrameInFlight, SourceEnded
from samkr_edge.frames.recording import Recording
from samkr_edge.frames.streams import Streams
from samkr_edge.pose_model import PoseModel
from samkr_edge.printable import counted
from samkr_edge.progress import progress
from samkr_edge.stream_address import mark_of, without_secrets
from samkr_edge.terminal import say

if TYPE_CHECKING:
    from samkr_edge.cli.window import Window
    from samkr_edge.serve.live import LiveStream

# Frames over which the displayed rate is averaged.
_RATE_OVER = 30
# Bytes of a file name reserved for what follows the stem: a number and the longest suffix.
_ROOM = len("-99999.jsonl")
_ROOM_BEHIND_ADDRESS = 255 - 60


@dataclass
class StreamDone:
    """The result for one stream.

    Attributes:
        seconds: wall time from reading the first frame to writing the last one.
        dropped: frames of a live source that were skipped to stay up to date.
        stage_ms: mean milliseconds per frame of each stage; the largest bounds the rate.
        cpu_ms: the same in CPU time of the stage's own thread; their sum, plus the CPU time of libraries' threads,
            divided by the number of cores bounds the rate too.
        missing: frames that were certainly lost, of a file that was read to its end.
        interrupted: by Ctrl-C or an equivalent signal, or by closing the window, before the end of a file.
        note: a remark on a file that was read to its end.
    """

    source: str
    frames: int = 0
    people: int = 0
    seconds: float = 0.0
    dropped: int = 0
    missing: int = 0
    video: str | None = None
    keypoints: str | None = None
    stage_ms: dict[str, float] = field(default_factory=dict)
    cpu_ms: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False
    note: str | None = None
    problem: SamkrError | None = None

    @property
    def fps(self) -> float:
        return self.frames / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        problem = None if self.problem is None else self.problem.to_dict()
        return {**vars(self), "fps": self.fps, "problem": problem}

    def summary(self) -> str:
        """One line for people."""
        people = counted(self.people, "person", "people")
        text = f"{self.source}: {people} in {counted(self.frames, 'frame')}, {self.fps:.1f} frames/s"
        if self.dropped:
            text += f", {self.dropped} dropped to keep up"
        if self.interrupted:
            text += ", stopped before its end"
        made = ", ".join(path for path in (self.video, self.keypoints) if path)
        return text + (f": {made}" if made else "")


def run_stream(
    model: PoseModel,
    frames: FrameSource,
    name: str,
    options: Options,
    window: Window,
    done: StreamDone | None = None,
    live: LiveStream | None = None,
) -> StreamDone:
    """``run_streams`` of one source; ``live`` gets every frame for the page of `--serve`.

    Raises:
        SamkrError: a camera disappears (SE-V96) too.
    """
    done = StreamDone(frames.name) if done is None else done
    run_streams(model, [Stream(frames, name, done, live)], options, window)
    if frames.live and done.problem is not None:
        raise done.problem
    return done


def run_streams(model: PoseModel, streams: Sequence[Stream], options: Options, window: Window) -> None:
    """Process every frame of files, or the newest ones of cameras until Ctrl-C or q; closes the sources.

    All run at the same time. ``done`` of each is filled on the way, for callers that need the results so far when this
    raises. One that fails has a ``problem``, and the others go on.

    Raises:
        SamkrError: the disk is full (SE-D98), or the network fails; what was written before is kept.
    """
    sources = [stream.frames for stream in streams]
    finishers = [_Finish(model, stream.frames, options, window, stream.page) for stream in streams]
    live = all(source.live for source in sources)
    running = Streams(model, sources, lambda seen: finishers[seen.source](seen))
    started = time.perf_counter()
    total = sum(source.expected or 0 for source in sources) if not live else None
    stopped = False
    try:
        with contextlib.ExitStack() as stack:
            advance = stack.enter_context(
                progress("live" if live else "predicting", total or None, unit="frames")
            )
            if options.out is not None:
                for stream in streams:
                    stream.recording = stack.enter_context(stream.new_recording(options.out))
            # Entered last: threads stop before the files are closed.
            stack.enter_context(running)
            for seen in running:
                stream = streams[seen.source]
                if isinstance(seen, SourceEnded):
                    stream.end(seen.failure, alone=len(streams) == 1)
                    if stream.page is not None:
                        stream.page.end(failed=stream.done.problem is not None)
                    continue
                with stream.writing():
                    stream.take(seen, options)
                    advance(note=_rates(streams, time.perf_counter() - started))
                    window.show(seen.frame.image, source=stream.title(streams))
                if window.closed or options.lines.closed:
                    stopped = True
                    break
    except KeyboardInterrupt:
        stopped = True  # the usual end for cameras; files are incomplete then
    except StageFailed as failure:
        raise at_frame(failure, _place(failure, streams)) from failure.__cause__
    finally:
        seconds = time.perf_counter() - started
        for number, stream in enumerate(streams):
            stream.report(running.pipeline, number, seconds, stopped=stopped)
        _share_times(streams, running.pipeline)


def _share_times(streams: Sequence[Stream], pipeline: Pipeline) -> None:
    """The stages' times a frame: capturing and writing are a source's own, the others are all sources'."""
    frames = sum(stream.done.frames for stream in streams)
    for stream, captured in zip(streams, pipeline.captured, strict=True):
        own = stream.done.frames
        spent = [("capture", captured, own), *((name, each, frames) for name, each in pipeline.spent.items())]
        spent.append(("write", stream.written, own))
        stream.done.stage_ms = {name: 1e3 * each.busy / max(count, 1) for name, each, count in spent}
        stream.done.cpu_ms = {name: 1e3 * each.cpu / max(count, 1) for name, each, count in spent}


def _rates(streams: Sequence[Stream], seconds: float) -> str:
    rates = ", ".join(f"{stream.done.frames / seconds:.1f}" for stream in streams)
    return f"{rates} frames/s"


def _place(failure: StageFailed, streams: Sequence[Stream]) -> str:
    return f"frame {failure.frame} of {', '.join(stream.frames.name for stream in streams)}"


@dataclass
class Stream:
    """One source of ``run_streams``, and what came of it so far.

    Attributes:
        name: of its files, without an ending.
        page: gets every frame for the page of `--serve`.
        ended: whether it gave its last frame.
    """

    frames: FrameSource
    name: str
    done: StreamDone
    page: LiveStream | None = None
    recording: Recording | None = None
    ended: bool = False
    written: Spent = field(default_factory=Spent)

    def title(self, streams: Sequence[Stream]) -> str:
        """What its window is called beside others; empty if it is alone."""
        return self.frames.name if len(streams) > 1 else ""

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Count the time inside ``with`` as that of writing."""
        taken, began = time.perf_counter(), time.thread_time()
        yield
        self.written.since(taken, began)

    def new_recording(self, out: Path) -> Recording:
        """What is written of it into a folder; the video starts where the excerpt does."""
        excerpt = self.frames.excerpt
        return Recording(out, self.name, self.frames.fps / excerpt.every, excerpt.start)

    def take(self, seen: FrameInFlight, options: Options) -> None:
        """Write and count one frame."""
        options.lines.write(str(self.frames.place), seen.frame.index, seen.frame.seconds, seen.poses)
        if self.recording is not None:
            drawn = seen.frame.image if options.overlays else None
            self.recording.write(seen.frame.index, seen.frame.seconds, seen.poses, drawn)
        self.done.frames += 1
        self.done.people += len(seen.poses)

    def end(self, failure: StageFailed | None, *, alone: bool) -> None:
        """Note that it gave its last frame, and why.

        Raises:
            StageFailed: what is no error of ours.
        """
        self.ended = True
        if failure is not None:
            self.done.problem = why_ended(failure, self.frames.name)
            if not alone:
                say(self.done.problem.message)

    def report(self, pipeline: Pipeline, number: int, seconds: float, *, stopped: bool) -> None:
        """Fill in ``done`` what is known at the end; ``stopped`` by a user."""
        done, recording = self.done, self.recording
        done.seconds = seconds
        done.dropped = pipeline.dropped_of(number)
        if recording is not None:  # a frame counts if it was written before the interrupt
            done.frames, done.people = recording.frames, recording.people
            done.keypoints, done.video = (
                str(path) if path in recording.kept else None for path in (recording.lines, recording.video)
            )
        if self.ended and done.problem is None:
            done.missing, done.note = self.frames.missing, self.frames.note
            done.problem = self.frames.ended_early() if self.frames.broken else None
        done.interrupted = stopped and not self.frames.live and not self.ended


class _Finish:
    """The last step of the decoding thread: filter, track, smooth and draw."""

    def __init__(
        self,
        model: PoseModel,
        frames: FrameSource,
        options: Options,
        window: Window,
        page: LiveStream | None = None,
    ) -> None:
        self._page = page
        self._card = model.card
        self._live = frames.live
        self._options = options
        self._draw = options.overlays and (options.out is not None or window.enabled)
        self._following = Following(model.card, track=options.track, smooth=options.smooth)
        self._times: deque[float] = deque(maxlen=_RATE_OVER)

    def __call__(self, seen: FrameInFlight) -> FrameInFlight:
        everybody = seen.poses
        poses = self._following(self._options.choose(seen.poses, self._card), seen.frame.seconds)
        seen.poses = poses
        if self._page is not None:  # before anything is drawn into the image
            self._page.offer(seen, everybody)
        if self._draw and seen.frame.image is not None:
            draw_poses(
                seen.frame.image,
                poses,
                self._card.skeleton,
                boxes=self._options.boxes,
                bgr=True,
                in_place=True,
            )
            draw_status(seen.frame.image, self._status(seen))
        return seen

    def _status(self, seen: FrameInFlight) -> str:
        now = time.perf_counter()
        self._times.append(now)
        span = now - self._times[0]
        rate = f"{(len(self._times) - 1) / span:.0f} fps  " if span > 0 else ""
        # A file's frames wait in the pipeline on purpose; their age says nothing.
        age = f"{1e3 * (now - seen.frame.captured):.0f} ms  " if self._live else ""
        return f"{rate}{age}{counted(len(seen.poses), 'person', 'people')}"


def _stem_of_address(source: str) -> str:
    """A name for results: the same in every run, different for another address, and without secrets."""
    words = (*re.findall(r"[A-Za-z0-9]+", without_secrets(source)), mark_of(source))
    return fitting("-".join(filter(None, words)), _ROOM_BEHIND_ADDRESS)


def stream_names(sources: list[str], out: Path | None) -> list[str]:
    """Stems of the output files: numbered where sources have equal names, and never those of a source."""
    stems = [fitting(Path(s).stem, _ROOM) if os.path.isfile(s) else _stem_of_address(s) for s in sources]
    taken = {Path(s).name for s in sources if out is not None and is_same_place(Path(s).parent, out)}
    names: list[str] = []
    for stem in stems:
        name, number = stem, 1
        while f"{name}.mp4" in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(f"{name}.mp4")
        names.append(name)
    return names
