"""A video, camera or network stream in; overlays and keypoints out, at the speed of the slowest stage."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samkr_edge.cli.predict_options import Options
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.many_images import opencv_threads
from samkr_edge.files.artefact import fitting
from samkr_edge.files.one_file import is_same_place
from samkr_edge.frames.draw import draw_poses, draw_status
from samkr_edge.frames.pipeline import FrameInFlight, Pipeline, StageFailed, at_frame, pose_stages
from samkr_edge.frames.recording import Recording
from samkr_edge.frames.smooth import Smoother
from samkr_edge.frames.track import Tracker
from samkr_edge.frames.video import VideoSource, lost, open_video
from samkr_edge.pose_model import PoseModel
from samkr_edge.printable import counted
from samkr_edge.progress import progress
from samkr_edge.stream_address import mark_of, without_secrets

if TYPE_CHECKING:
    from samkr_edge.cli.window import Window
    from samkr_edge.serve.live import LiveStream

# Seconds after which a live source that blocks in its driver is abandoned.
PATIENCE_S = 15.0
_STAGES, _DEPTH = 3, 2
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


def open_stream(source: str) -> VideoSource:
    """``samkr_edge.frames.video.open_video`` with a ring of as many frames as ``run_stream`` holds."""
    return open_video(source, ring=Pipeline.in_flight(_STAGES, _DEPTH))


def run_stream(
    model: PoseModel,
    frames: VideoSource,
    name: str,
    options: Options,
    window: Window,
    done: StreamDone | None = None,
    live: LiveStream | None = None,
) -> StreamDone:
    """Process every frame of a file, or the newest ones of a camera until Ctrl-C or q; closes the source.

    ``done`` is filled on the way, for callers that need the results so far when this raises. ``live`` gets every frame
    for the page of `--serve`.

    Raises:
        SamkrError: a camera disappears (SE-V96), the disk is full (SE-D98); what was written before is kept.
    """
    done = StreamDone(frames.name) if done is None else done
    stages = pose_stages(model, _Finish(model, frames, options, window, live), depth=_DEPTH)
    pipeline = Pipeline(
        frames, stages, depth=_DEPTH, newest=frames.live, patience=PATIENCE_S if frames.live else None
    )
    recording: Recording | None = None
    started, writing, writing_cpu = time.perf_counter(), 0.0, 0.0
    try:
        with contextlib.ExitStack() as stack:
            # The stages are the threads; OpenCV's own would take the network's cores.
            stack.enter_context(opencv_threads(1))
            advance = stack.enter_context(
                progress("live" if frames.live else "predicting", frames.frames, unit="frames")
            )
            if options.out is not None:
                recording = stack.enter_context(Recording(options.out, name, frames.fps))
            # Entered last: threads stop before the files are closed.
            stack.enter_context(pipeline)
            for seen in pipeline:
                taken, began = time.perf_counter(), time.thread_time()
                if recording is not None:
                    drawn = seen.frame.image if options.overlays else None
                    recording.write(seen.frame.index, seen.frame.seconds, seen.poses, drawn)
                done.frames += 1
                done.people += len(seen.poses)
                advance(note=f"{done.frames / (time.perf_counter() - started):.1f} frames/s")
                window.show(seen.frame.image)
                writing += time.perf_counter() - taken
                writing_cpu += time.thread_time() - began
                if window.closed:
                    done.interrupted = not frames.live
                    break
    except KeyboardInterrupt:
        # The usual end for a camera; a file is incomplete then.
        done.interrupted = not frames.live
    except StageFailed as failure:
        raise at_frame(failure, f"frame {failure.frame} of {frames.name}") from failure.__cause__
    except TimeoutError:
        raise lost(frames.name, frames.read) from None
    finally:
        if pipeline.stopped:  # a hanging driver must not be closed while its thread is inside
            frames.close()
        done.seconds = time.perf_counter() - started
        done.dropped = pipeline.dropped
        if recording is not None:  # a frame counts if it was written before the interrupt
            done.frames, done.people = recording.frames, recording.people
            done.keypoints, done.video = (
                str(path) if path in recording.kept else None for path in (recording.lines, recording.video)
            )
        a_frame = 1e3 / max(done.frames, 1)
        done.stage_ms = {k: a_frame * s for k, s in {**pipeline.busy, "write": writing}.items()}
        done.cpu_ms = {k: a_frame * s for k, s in {**pipeline.cpu, "write": writing_cpu}.items()}
    if not done.interrupted and not window.closed:
        done.missing, done.note = frames.missing, frames.note
        done.problem = frames.ended_early() if frames.broken else None
    return done


class _Finish:
    """The last step of the decoding thread: filter, track, smooth and draw."""

    def __init__(
        self,
        model: PoseModel,
        frames: VideoSource,
        options: Options,
        window: Window,
        page: LiveStream | None = None,
    ) -> None:
        self._page = page
        self._skeleton = model.card.skeleton
        self._live = frames.live
        self._options = options
        self._draw = options.overlays and (options.out is not None or window.enabled)
        self._tracker = Tracker(self._skeleton) if options.track or options.smooth else None
        self._smoother = Smoother() if options.smooth else None
        self._times: deque[float] = deque(maxlen=_RATE_OVER)

    def __call__(self, seen: FrameInFlight) -> FrameInFlight:
        everybody = seen.poses
        poses = self._options.choose(seen.poses)
        if self._tracker is not None:
            poses = self._tracker(poses, seen.frame.seconds)
        if self._smoother is not None:
            poses = self._smoother(poses, seen.frame.seconds)
        if not self._options.track:
            poses = poses.without_ids()
        seen.poses = poses
        if self._page is not None:  # before anything is drawn into the image
            self._page.offer(seen, everybody)
        if self._draw and seen.frame.image is not None:
            draw_poses(
                seen.frame.image, poses, self._skeleton, boxes=self._options.boxes, bgr=True, in_place=True
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
