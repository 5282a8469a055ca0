"""`samkr-edge predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samkr_edge.cli.options import AsJson, CudaGraph, Model, Threads, out_folder
from samkr_edge.cli.places import folder_to_write, model_named
from samkr_edge.cli.video_options import PAGE_RATE, STDOUT, excerpt_of, lines_place, video_time


def predict(
    model: Model,
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Images, folders, globs; video files; a camera's number, rtsp://..., csi, a GStreamer pipeline."
        ),
    ],
    out: Annotated[
        Path | None,
        out_folder(
            "Folder for overlays and keypoints [default: poses; none with --show, --serve or --jsonl]."
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Show overlays in a window; q closes it.")] = False,
    serve: Annotated[
        str | None,
        typer.Option(metavar="[HOST:]PORT", help="Show videos and cameras live, on a page for browsers."),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(help="With --serve: a second model, shown on the same frames.", callback=model_named),
    ] = None,
    loop: Annotated[bool, typer.Option("--loop", help="With --serve: play videos again and again.")] = False,
    page_rate: Annotated[
        float, typer.Option(min=0.1, max=120, help="With --serve: most pictures a second on the page.")
    ] = PAGE_RATE,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, help="Skip people with a lower score [default: 0.1; with networks that group joints 0.3]."
        ),
    ] = None,
    max_people: Annotated[int | None, typer.Option(min=1, help="Keep the N best people.")] = None,
    overlays: Annotated[
        bool, typer.Option(help="Draw overlays; without them only keypoints are written.")
    ] = True,
    boxes: Annotated[bool, typer.Option(help="Mark the corners of each person's box.")] = True,
    track: Annotated[bool, typer.Option("--track", help="Video: track people from frame to frame.")] = False,
    smooth: Annotated[bool, typer.Option("--smooth", help="Video: smooth the joints (One-Euro).")] = False,
    every: Annotated[int, typer.Option(min=1, help="Video files: only every N-th frame.")] = 1,
    start: Annotated[str | None, video_time("--from", "Video files: begin at 90, 1:30 or 1:02:03.5.")] = None,
    stop: Annotated[str | None, video_time("--to", "Video files: end before this time.")] = None,
    reconnect: Annotated[
        bool,
        typer.Option("--reconnect/--no-reconnect", help="Open a camera or stream again that dropped."),
    ] = True,
    jsonl: Annotated[Path | None, lines_place()] = None,
    threads: Threads = 1,
    cuda_graph: CudaGraph = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace files in the output folder that predict did not make."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find people in images, videos and camera streams.

    Images: NAME.png overlays and predictions.json (COCO results). Video: NAME.mp4 and NAME.jsonl, one line a frame.
    In a folder, images and videos are recognised by content; earlier overlays are replaced, never taken as input.
    Cameras and addresses run at the same time. A stream that drops is opened again until it is back.
    Ctrl-C, SIGTERM and a lost terminal end it cleanly: results so far are kept, and the video written so far plays.

    Examples:

      samkr-edge predict zoo:dekr_w32_coco photo.jpg -o overlays

      samkr-edge predict fp32/final.pt people/images/val2017 -o overlays --threshold 0.2

      samkr-edge predict qat.cpu.onnx walk.mp4 -o overlays --track --smooth

      samkr-edge predict qat.cpu.onnx 0 --show

      samkr-edge predict qat.cpu.onnx 0 --serve 8080 --compare fp32.cpu.onnx

      samkr-edge predict qat.cpu.onnx rtsp://gate/1 rtsp://yard/1 --jsonl - --track | jq .people

      samkr-edge predict qat.cpu.onnx walk.mp4 --from 1:30 --to 2:00 --every 5
    """
    from samkr_edge.cli.console import emit
    from samkr_edge.cli.json_lines import JsonLines
    from samkr_edge.cli.predict_options import Options
    from samkr_edge.cli.predict_serve import ServeOptions, listen_for, serving
    from samkr_edge.cli.predict_sources import (
        Looked,
        look,
        refuse_excerpt_of_cameras,
        refuse_lines_over_inputs,
        refuse_to_replace,
    )
    from samkr_edge.cli.predict_stream import stream_names
    from samkr_edge.cli.window import Window
    from samkr_edge.frames.sources import find_sources
    from samkr_edge.pose_model import load_model
    from samkr_edge.terminal import say

    excerpt = excerpt_of(every, start, stop)
    if as_json and jsonl == STDOUT:
        raise typer.BadParameter("--json and --jsonl - both print on stdout: give one of them a file")
    found = find_sources(sources)
    if (note := found.note()) is not None:
        say(note)
    for damaged in found.damaged:
        say(damaged.message)
    refuse_excerpt_of_cameras(found, excerpt)
    refuse_lines_over_inputs(jsonl, found, model, compare)
    served = ServeOptions(serve, compare, loop, page_rate)
    listening = listen_for(served, found, out)
    if out is None and not show and listening is None and jsonl is None:
        out = folder_to_write(Path("poses"))
    json_lines = JsonLines(jsonl)
    options = Options(
        out, threshold, max_people, overlays, boxes, track, smooth, reconnect, excerpt, json_lines
    )
    names = stream_names(found.streams, out)
    if out is not None:
        refuse_to_replace(found, names, options, out, overwrite=overwrite)
    looked = Looked(found)
    try:
        opened = load_model(model, threads=threads, cuda_graph=cuda_graph)
    except KeyboardInterrupt:
        looked.stopped = True
        if as_json:
            emit(looked.to_dict(out, found.damaged), "", as_json)
        raise
    for note in opened.notes:
        say(note)
    with (
        Window("samkr-edge", enabled=show) as window,
        serving(listening, served, opened, found.streams, options, threads) as page,
        json_lines,
    ):
        look(opened, looked, names, options, window, page)
    problems, lines = looked.problems(out), looked.summary(options)
    if jsonl == STDOUT:
        say("\n".join(lines))
    elif lines or as_json:
        emit(looked.to_dict(out, problems), "\n".join(lines), as_json)
    if looked.stopped:
        raise typer.Exit(130)  # the root reports it
    if problems and as_json:
        # The printed object holds the error; the root would print another.
        say(str(problems[0]))
        raise typer.Exit(problems[0].exit_code)
    if problems:
        raise problems[0]
