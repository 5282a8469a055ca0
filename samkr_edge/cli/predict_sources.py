"""All sources of `predict`, one after the other, and the final report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samkr_edge.cli.predict_images import RESULTS, ImagesDone, overlay_names, predict_images
from samkr_edge.cli.predict_options import Options
from samkr_edge.cli.predict_stream import Stream, StreamDone, run_stream, run_streams
from samkr_edge.cli.video_options import STDOUT
from samkr_edge.cli.window import Window
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import require_writable
from samkr_edge.files.one_file import refuse_replacing
from samkr_edge.files.own_files import refuse_foreign
from samkr_edge.frames.excerpt import Excerpt
from samkr_edge.frames.live_capture import is_live
from samkr_edge.frames.opening import FrameSource, no_excerpt_of
from samkr_edge.frames.sources import Sources, left_out
from samkr_edge.frames.streams import open_stream
from samkr_edge.pose_model import PoseModel
from samkr_edge.stream_address import without_secrets
from samkr_edge.terminal import say

if TYPE_CHECKING:
    from samkr_edge.cli.predict_serve import ServedPage


@dataclass
class Looked:
    """The results of the sources so far.

    Attributes:
        images: None if no image was processed.
        streams: those that were opened, in order.
        failure: the error that ended it early.
        stopped: by Ctrl-C or an equivalent signal.
        closed: by closing the window, or the pipe that `--jsonl -` writes into.
    """

    found: Sources
    images: ImagesDone | None = None
    streams: list[StreamDone] = field(default_factory=list)
    failure: SamkrError | None = None
    stopped: bool = False
    closed: bool = False

    @property
    def interrupted(self) -> bool:
        """Whether a user ended it early."""
        parts: list[ImagesDone | StreamDone] = [*([self.images] if self.images else []), *self.streams]
        cut_short = any(part.interrupted for part in parts) or len(self.streams) < len(self.found.streams)
        return self.stopped or (self.closed and cut_short)

    def problems(self, out: Path | None) -> list[SamkrError]:
        """The errors, the gravest first."""
        problems = [] if self.failure is None else [self.failure]
        if self.images is not None and self.images.failed:
            problems.append(self.images.problem(len(self.found.images), out))
        problems += self.found.damaged
        return problems + [stream.problem for stream in self.streams if stream.problem is not None]

    def summary(self, options: Options) -> list[str]:
        """A line for the images, and one for each stream."""
        lines = [] if self.images is None else [self.images.summary(options.out, options.overlays)]
        return lines + [stream.summary() for stream in self.streams]

    def to_dict(self, out: Path | None, problems: Sequence[SamkrError]) -> dict[str, Any]:
        """What ``--json`` prints, with the same keys however far it got."""
        images, found = self.images, self.found
        return {
            "images": images.images if images else 0,
            "people": (len(images.results) if images else 0) + sum(stream.people for stream in self.streams),
            "failed": [error.to_dict() for error in [*(images.failed if images else []), *found.damaged]],
            "left_out": {str(path): reason for path, reason in found.left_out.items()},
            "interrupted": self.interrupted,
            "out": None if out is None else str(out),
            "poses": images.results if images else [],
            "streams": [stream.to_dict() for stream in self.streams],
            "error": problems[0].to_dict() if problems else None,
        }


def look(
    model: PoseModel,
    looked: Looked,
    names: Sequence[str],
    options: Options,
    window: Window,
    page: ServedPage | None = None,
) -> None:
    """Process every image, then every video file, and then all cameras and addresses at the same time.

    For a page, files are played at their own speed, and at the same time too. ``looked`` is filled on the way.
    ``names`` are those of the streams' results, see ``samkr_edge.cli.predict_stream.stream_names``.
    """
    found = looked.found
    try:
        if found.images:
            looked.images = ImagesDone()
            predict_images(model, found.images, options, window, looked.images)
            looked.stopped = looked.images.interrupted
        named = list(zip(found.streams, names, strict=True))
        if page is not None:
            _on_page(model, looked, named, options, window, page)
            named = []
        for source, name in named:
            if not is_live(source) and not _over(looked, options, window):
                _one(model, looked, open_stream(source, excerpt=options.excerpt), name, options, window)
        live = [(source, name) for source, name in named if is_live(source)]
        if live and not _over(looked, options, window):
            _together(model, looked, live, options, window)
    except SamkrError as error:  # the results so far are reported all the same
        looked.failure = error
    except KeyboardInterrupt:  # while opening a camera
        looked.stopped = True
    looked.closed = window.closed or options.lines.closed
    looked.stopped = looked.stopped and not looked.closed


def _over(looked: Looked, options: Options, window: Window) -> bool:
    """Whether the user has seen enough."""
    return looked.stopped or window.closed or options.lines.closed


def _one(
    model: PoseModel, looked: Looked, frames: FrameSource, name: str, options: Options, window: Window
) -> None:
    looked.streams.append(done := StreamDone(frames.name))
    run_stream(model, frames, name, options, window, done)
    if done.note is not None:
        say(done.note)
    looked.stopped = done.interrupted


def _together(
    model: PoseModel, looked: Looked, live: Sequence[tuple[str, str]], options: Options, window: Window
) -> None:
    """Cameras and addresses; one that does not open is left out, unless there is nothing else."""
    opened: list[tuple[FrameSource, str]] = []
    alone = len(live) == 1 and looked.images is None and not looked.streams
    try:
        for source, name in live:
            try:
                frames = open_stream(source, reconnect=options.reconnect, excerpt=options.excerpt)
                if any(frames.name == other.name for other, _ in opened):  # all pipelines are shown alike
                    frames.name = f"{frames.name} ({len(opened) + 1})"
                opened.append((frames, name))
            except SamkrError as error:
                if alone:
                    raise
                looked.found.damaged.append(left_out(error))
                say(looked.found.damaged[-1].message)
        for frames, name in opened:  # an address may be that of a file
            if not frames.live and not _over(looked, options, window):
                _one(model, looked, frames, name, options, window)
        cameras = [Stream(frames, name, StreamDone(frames.name)) for frames, name in opened if frames.live]
        if len(cameras) == 1 and not _over(looked, options, window):
            _one(model, looked, cameras[0].frames, cameras[0].name, options, window)
        elif cameras and not _over(looked, options, window):
            looked.streams += [camera.done for camera in cameras]
            run_streams(model, cameras, options, window)
    finally:
        for frames, _ in opened:
            if frames.live:
                frames.close()


def _on_page(
    model: PoseModel,
    looked: Looked,
    named: Sequence[tuple[str, str]],
    options: Options,
    window: Window,
    page: ServedPage,
) -> None:
    """All streams at the same time; one that does not open is left out, unless there is nothing else."""
    streams: list[Stream] = []
    try:
        for (source, name), shown in zip(named, page.live.streams, strict=True):
            try:
                frames = page.open(source, options)
            except SamkrError as error:
                if len(named) == 1:
                    raise
                looked.found.damaged.append(left_out(error))
                say(looked.found.damaged[-1].message)
                shown.end(failed=True)
                continue
            streams.append(Stream(frames, name, StreamDone(frames.name), shown))
        looked.streams += [stream.done for stream in streams]
        if streams:
            run_streams(model, streams, options, window)
    finally:
        for stream in streams:
            stream.frames.close()
    for done in looked.streams:
        if done.note is not None:
            say(done.note)
    looked.stopped = any(done.interrupted for done in looked.streams)


def refuse_excerpt_of_cameras(found: Sources, excerpt: Excerpt) -> None:
    """Before anything is done: SE-U11. An address may be that of a file, which is known once it is open."""
    for source in found.streams:
        if not excerpt.whole and is_live(source) and not source.lower().startswith("http"):
            raise no_excerpt_of(without_secrets(source))


def refuse_lines_over_inputs(lines: Path | None, found: Sources, *models: Path | None) -> None:
    """Before `--jsonl` is opened, which empties the file: SE-U51 for an image, a video or a model."""
    if lines is None or lines == STDOUT:
        return
    for path in (*found.images, *map(Path, found.streams), *(model for model in models if model is not None)):
        refuse_replacing(path, lines, instead="choose another place with --jsonl")


def refuse_to_replace(
    found: Sources, names: Sequence[str], options: Options, out: Path, *, overwrite: bool
) -> None:
    """Before anything is written: refuse to replace files of other origin that have a result's name.

    Raises:
        SamkrError: SE-D01 a folder has the name of a file to write; SE-D05 a file of the user's has it.
    """
    made = [RESULTS] if found.images else []
    made += overlay_names(found.images, out) if options.overlays else []
    endings = (".jsonl", ".mp4") if options.overlays else (".jsonl",)
    made += [name + ending for name in names for ending in endings]
    places = [out / name for name in made]
    for place in places:
        if place.exists() and not place.is_file():  # a folder, which no option can replace
            require_writable(place)
    if not overwrite:
        refuse_foreign(places, fix="choose another folder with -o, or add --overwrite to replace them")
