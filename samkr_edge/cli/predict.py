"""`samkr-edge predict`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samkr_edge.cli.options import AsJson, CudaGraph, Model, Threads, out_folder
from samkr_edge.cli.places import folder_to_write
from samkr_edge.errors import SamkrError

if TYPE_CHECKING:
    from samkr_edge.cli.predict_images import ImagesDone
    from samkr_edge.cli.predict_stream import StreamDone
    from samkr_edge.frames.sources import Sources


def predict(
    model: Model,
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Images, folders, globs; video files; a camera's number, rtsp://..., csi, a GStreamer pipeline."
        ),
    ],
    out: Annotated[
        Path | None, out_folder("Folder for overlays and keypoints [default: poses; with --show none].")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Show overlays in a window; q closes it.")] = False,
    threshold: Annotated[float, typer.Option(min=0, help="Leave people with a lower score out.")] = 0.1,
    max_people: Annotated[int | None, typer.Option(min=1, help="Keep the N best people.")] = None,
    overlays: Annotated[bool, typer.Option(help="Draw; --no-overlays writes keypoints alone.")] = True,
    boxes: Annotated[bool, typer.Option(help="Mark the corners of each person's box.")] = True,
    track: Annotated[bool, typer.Option("--track", help="Video: number people from frame to frame.")] = False,
    smooth: Annotated[bool, typer.Option("--smooth", help="Video: steady the joints (One-Euro).")] = False,
    threads: Threads = 1,
    cuda_graph: CudaGraph = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace files in the output folder that predict did not make."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find people in images, videos and camera pictures.

    Images: NAME.png overlays and predictions.json (COCO results). Video: NAME.mp4 and NAME.jsonl, one line a frame.
    A folder's images and videos are known by their content; earlier overlays are never looked at, only replaced.
    Ctrl-C, SIGTERM and a lost terminal end it cleanly: what was seen until then is kept, and its video plays.

    Examples:

      samkr-edge predict qat.cpu.onnx photo.jpg -o overlays

      samkr-edge predict fp32/final.pt people/images/val2017 -o overlays --threshold 0.2

      samkr-edge predict qat.cpu.onnx walk.mp4 -o overlays --track --smooth

      samkr-edge predict qat.cpu.onnx 0 --show
    """
    from samkr_edge.cli.console import emit, say
    from samkr_edge.cli.predict_images import RESULTS, ImagesDone, overlay_names, predict_images
    from samkr_edge.cli.predict_options import Options
    from samkr_edge.cli.predict_stream import StreamDone, open_stream, run_stream, stream_names
    from samkr_edge.cli.window import Window
    from samkr_edge.files.artefact import require_writable
    from samkr_edge.files.ours import refuse_foreign
    from samkr_edge.frames.sources import find_sources, left_out
    from samkr_edge.pose_model import load_model

    found = find_sources(sources)
    if (note := found.note()) is not None:
        say(note)
    for damaged in found.damaged:
        say(damaged.message)
    if out is None and not show:
        out = folder_to_write(Path("poses"))
    names = stream_names(found.streams, out)
    if out is not None:
        made = [RESULTS] if found.images else []
        made += overlay_names(found.images, out) if overlays else []
        endings = (".jsonl", ".mp4") if overlays else (".jsonl",)
        made += [name + ending for name in names for ending in endings]
        for place in (out / name for name in made):
            if place.exists() and not place.is_file():  # a folder, which no option replaces
                require_writable(place)
        if not overwrite:
            refuse_foreign(
                [out / name for name in made],
                fix="choose another folder with -o, or add --overwrite to replace them",
            )
    try:
        opened = load_model(model, threads=threads, cuda_graph=cuda_graph)
    except KeyboardInterrupt:
        if as_json:
            emit(_payload(found, None, [], found.damaged, out=out, interrupted=True), "", as_json)
        raise
    for note in opened.notes:
        say(note)
    options = Options(out, threshold, max_people, overlays, boxes, track, smooth)
    images: ImagesDone | None = None
    done: list[StreamDone] = []
    failures: list[SamkrError] = []
    stopped = False
    with Window("samkr-edge", enabled=show) as window:
        try:
            if found.images:
                images = ImagesDone()
                predict_images(opened, found.images, options, window, images)
                stopped = images.interrupted
            for source, name in zip(found.streams, names, strict=True):
                if stopped or window.closed:
                    break
                try:
                    frames = open_stream(source)
                except SamkrError as error:  # a camera or an address: they are opened when their turn comes
                    if images is None and not done:
                        raise
                    found.damaged.append(left_out(error))
                    say(found.damaged[-1].message)
                    continue
                done.append(StreamDone(frames.name))
                run_stream(opened, frames, name, options, window, done[-1])
                if (note := done[-1].note) is not None:
                    say(note)
                stopped = done[-1].interrupted
        except SamkrError as error:  # what was seen before is told all the same
            failures.append(error)
        except KeyboardInterrupt:  # while a camera was being opened
            stopped = True
    parts: list[ImagesDone | StreamDone] = [*([images] if images else []), *done]
    cut_short = any(part.interrupted for part in parts) or len(done) < len(found.streams)
    stopped = stopped and not window.closed  # by a signal
    problems = [*failures, *([images.problem(len(found.images), out)] if images and images.failed else [])]
    problems += [*found.damaged, *(stream.problem for stream in done if stream.problem is not None)]
    interrupted = stopped or (window.closed and cut_short)
    payload = _payload(found, images, done, problems, out=out, interrupted=interrupted)
    lines = [] if images is None else [images.summary(out, overlays)]
    lines += [stream.summary() for stream in done]
    if lines or as_json:
        emit(payload, "\n".join(lines), as_json)
    if stopped:
        raise typer.Exit(130)  # the root says what it was
    if problems and as_json:
        # The object that was printed holds the error; the root would print a second one.
        say(str(problems[0]))
        raise typer.Exit(problems[0].exit_code)
    if problems:
        raise problems[0]


def _payload(
    found: Sources,
    images: ImagesDone | None,
    done: Sequence[StreamDone],
    problems: Sequence[SamkrError],
    *,
    out: Path | None,
    interrupted: bool,
) -> dict[str, Any]:
    """What ``--json`` prints: the same keys however far it came."""
    return {
        "images": images.images if images else 0,
        "people": (len(images.results) if images else 0) + sum(stream.people for stream in done),
        "failed": [error.to_dict() for error in [*(images.failed if images else []), *found.damaged]],
        "left_out": {str(path): reason for path, reason in found.left_out.items()},
        "interrupted": interrupted,
        "out": None if out is None else str(out),
        "poses": images.results if images else [],
        "streams": [stream.to_dict() for stream in done],
        "error": problems[0].to_dict() if problems else None,
    }
