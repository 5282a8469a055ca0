"""Images in; overlays and COCO results out. Reading, the network and drawing overlap."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from samkr_edge.cli.predict_options import Options
from samkr_edge.dataset.decoder_messages import ListeningReader
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import fitting, replacing, write_json
from samkr_edge.files.one_file import is_same_place
from samkr_edge.files.own_files import marked_png
from samkr_edge.frames.channel import StageFailed
from samkr_edge.frames.draw import draw_poses, enlarge
from samkr_edge.frames.pipeline import Pipeline, at_frame
from samkr_edge.frames.pose_stages import FrameInFlight, pose_stages
from samkr_edge.frames.video import image_frames
from samkr_edge.pose_model import PoseModel
from samkr_edge.printable import counted
from samkr_edge.progress import progress
from samkr_edge.terminal import say

if TYPE_CHECKING:
    from samkr_edge.cli.window import Window

# Bytes of a file name reserved for what follows the stem: a number and the suffix.
_ROOM = len("-99999.png")
RESULTS = "predictions.json"
_WRITE_AFTER_S = 2.0


@dataclass
class ImagesDone:
    """The result for a list of images; ``results`` are COCO entries with the file's name.

    ``interrupted``: by Ctrl-C or an equivalent signal, or by closing the window, before the last image.
    """

    images: int = 0
    results: list[dict[str, Any]] = field(default_factory=list)
    failed: list[SamkrError] = field(default_factory=list)
    interrupted: bool = False

    def problem(self, count: int, out: Path | None) -> SamkrError:
        """The error for images that could not be read."""
        return SamkrError(
            "SE-D28",
            f"{len(self.failed)} of {counted(count, 'image')} could not be read"
            + (f"; the others are in {out}" if self.images and out else ""),
            {"problem": [failure.message[:150] for failure in self.failed[:3]]},
            fix=self.failed[0].fix,
        )

    def summary(self, out: Path | None, overlays: bool) -> str:
        """One line for people."""
        where = f": {'overlays and ' if overlays else ''}{RESULTS} in {out}" if out and self.images else ""
        stopped = ", stopped before the last one" if self.interrupted else ""
        return f"{counted(len(self.results), 'person', 'people')} in {counted(self.images, 'image')}{stopped}{where}"


def predict_images(
    model: PoseModel, paths: list[Path], options: Options, window: Window, done: ImagesDone | None = None
) -> ImagesDone:
    """Process every image; those that cannot be read are reported and skipped.

    ``done`` is filled on the way, for callers that need the results so far when this raises.

    Raises:
        SamkrError: SE-D01 an output cannot be written; predictions.json then holds the images before.
    """
    done = ImagesDone() if done is None else done
    names = overlay_names(paths, options.out)
    results = None if options.out is None else Growing(options.out / RESULTS)
    finish = _finisher(
        model, options, drawing=options.overlays and (options.out is not None or window.enabled)
    )
    reader = ListeningReader()
    try:
        with (
            progress("predicting", len(paths), unit="images") as advance,
            Pipeline(
                ([(0, frame)] for frame in image_frames(paths, reader.read)), pose_stages(model, finish)
            ) as pipeline,
        ):
            for [(seen, drawn, coded)] in pipeline:
                frame = seen.frame
                if frame.error is not None:
                    done.failed.append(frame.error)
                    say(str(frame.error))
                else:
                    if coded is not None and options.out is not None:
                        with replacing(options.out / names[frame.index]) as temporary:
                            temporary.write_bytes(coded)
                    entries = seen.poses.to_coco(frame.index)
                    done.results += [{**entry, "file_name": str(frame.path)} for entry in entries]
                    done.images += 1
                    options.lines.write(str(frame.path), 0, None, seen.poses)
                    if results is not None:
                        results.grown(done.results)
                    if drawn is not None:
                        window.show(drawn, hold=True)
                advance()
                if window.closed or options.lines.closed:
                    done.interrupted = frame.index + 1 < len(paths)
                    break
    except KeyboardInterrupt:
        done.interrupted = True
    except StageFailed as failure:
        raise at_frame(failure, str(paths[min(failure.frame, len(paths) - 1)])) from failure.__cause__
    finally:
        if (damaged := reader.note()) is not None:
            say(damaged)
        # Also after an error: finished images count.
        if results is not None and (done.images or not done.failed):
            results.write(done.results)
    return done


def _finisher(
    model: PoseModel, options: Options, *, drawing: bool
) -> Callable[[FrameInFlight], tuple[FrameInFlight, np.ndarray | None, bytes | None]]:
    """The last step of the decoding thread: the people to keep, the overlay (H, W, 3) BGR, and its file's bytes."""

    def finish(seen: FrameInFlight) -> tuple[FrameInFlight, np.ndarray | None, bytes | None]:
        if seen.frame.image is None:
            return seen, None, None
        seen.poses = options.choose(seen.poses, model.card)
        if not drawing:
            return seen, None, None
        large, poses = enlarge(seen.frame.image, seen.poses)
        drawn = draw_poses(large, poses, model.card.skeleton, boxes=options.boxes, bgr=True)
        coded = marked_png(cv2.imencode(".png", drawn)[1].tobytes()) if options.out is not None else None
        return seen, drawn, coded

    return finish


class Growing:
    """A JSON file that is rewritten while its content grows, so that even a power cut leaves most of it.

    The interval is twenty times the duration of the last write, at least two seconds: writing takes 5 % of the time at
    most.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._due = time.monotonic() + _WRITE_AFTER_S

    def grown(self, content: list[dict[str, Any]]) -> None:
        """Write the content so far, if it is time."""
        if time.monotonic() >= self._due:
            self.write(content)

    def write(self, content: list[dict[str, Any]]) -> None:
        """Write the content."""
        began = time.monotonic()
        write_json(self._path, content)
        now = time.monotonic()
        self._due = now + max(_WRITE_AFTER_S, 20 * (now - began))


def overlay_names(paths: list[Path], out: Path | None) -> list[str]:
    """File names of the overlays: numbered where folders have equal ones, and never those of the sources."""
    names: list[str] = []
    used = {path.name for path in paths if out is not None and is_same_place(path.parent, out)}
    for path in paths:
        stem, number = (first := fitting(path.stem, _ROOM)), 1
        while f"{stem}.png" in used:
            number += 1
            stem = f"{first}-{number}"
        used.add(f"{stem}.png")
        names.append(f"{stem}.png")
    return names
