"""`samkr-edge predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from samkr_edge.cli.predict_images import ImagesDone
    from samkr_edge.cli.predict_stream import StreamDone


def predict(
    model: Annotated[Path, typer.Argument(help="Checkpoint, ONNX file, built model or engine.")],
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Images, folders, globs; video files; a camera's number, rtsp://..., csi, a GStreamer pipeline."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="Folder for overlays and keypoints [default: poses, none with --show]."
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Show overlays in a window; q closes it.")] = False,
    threshold: Annotated[float, typer.Option(min=0, help="Leave people with a lower score out.")] = 0.1,
    max_people: Annotated[int | None, typer.Option(min=1, help="Keep the N best people.")] = None,
    overlays: Annotated[bool, typer.Option(help="Draw; --no-overlays writes keypoints alone.")] = True,
    boxes: Annotated[bool, typer.Option(help="Mark the corners of each person's box.")] = True,
    track: Annotated[bool, typer.Option("--track", help="Video: number people from frame to frame.")] = False,
    smooth: Annotated[bool, typer.Option("--smooth", help="Video: steady the joints (One-Euro).")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the network.")] = 1,
    cuda_graph: Annotated[
        bool, typer.Option("--cuda-graph", help="TensorRT: launch the network as one CUDA graph.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find people in images, videos and camera pictures.

    Images: NAME.png overlays and predictions.json (COCO results). Video: NAME.mp4 and NAME.jsonl, one line a frame.
    Ctrl-C, SIGTERM and a lost terminal end it cleanly: what was seen until then is kept, and its video plays.

    Examples:

      samkr-edge predict qat.cpu.onnx photo.jpg -o overlays

      samkr-edge predict fp32/final.pt people/images/val2017 -o overlays --threshold 0.2

      samkr-edge predict qat.cpu.onnx walk.mp4 -o overlays --track --smooth

      samkr-edge predict qat.cpu.onnx 0 --show
    """
    from samkr_edge.cli.console import emit, say
    from samkr_edge.cli.predict_images import predict_images
    from samkr_edge.cli.predict_stream import Options, predict_stream, stream_names
    from samkr_edge.cli.window import Window
    from samkr_edge.pose_model import load_model
    from samkr_edge.video import expand, find_images, is_video

    sources = expand(sources)
    if out is None and not show:
        out = Path("poses")
    streams = [source for source in sources if is_video(source)]
    still = [source for source in sources if source not in streams]
    paths = find_images(still) if still else []
    opened = load_model(model, threads=threads, cuda_graph=cuda_graph)
    for note in opened.notes:
        say(note)
    options = Options(out, threshold, max_people, overlays, boxes, track, smooth)
    images: ImagesDone | None = None
    done: list[StreamDone] = []
    with Window("samkr-edge", enabled=show) as window:
        if paths:
            images = predict_images(opened, paths, options, window)
        stopped = images is not None and images.interrupted
        for source, name in zip(streams, stream_names(streams, out), strict=True):
            if stopped:
                break
            done.append(predict_stream(opened, source, name, options, window))
            stopped = done[-1].interrupted
    problems = [stream.problem for stream in done if stream.problem is not None]
    if images and images.failed:
        problems.insert(0, images.problem(len(paths), out))
    payload: dict[str, Any] = {
        "images": images.images if images else 0,
        "people": (len(images.results) if images else 0) + sum(stream.people for stream in done),
        "failed": [error.to_dict() for error in images.failed] if images else [],
        "interrupted": stopped,
        "out": None if out is None else str(out),
        "poses": images.results if images else [],
        "streams": [stream.to_dict() for stream in done],
    }
    lines = [] if images is None else [images.summary(out, overlays)]
    if stopped or not (as_json and problems):  # the error is then the one object that is printed
        emit(payload, "\n".join([*lines, *(stream.summary() for stream in done)]), as_json)
    if stopped:
        raise typer.Exit(130)  # the root says what it was
    if problems:
        raise problems[0]
