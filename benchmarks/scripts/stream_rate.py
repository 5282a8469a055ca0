"""How close `predict` on a 720p video comes to the frame rate of the network alone.

    samkr-edge data synth people --size 512
    python -m benchmarks.scripts.stream_rate qat.cpu.onnx --images people/images/val2017 \
        -o benchmarks/results/stream_rate.json

The video shows rendered people drifting in a 1280x720 frame. Each round runs the network alone on as many inputs as
the video has frames, then `predict` on the video, with keypoints only and with overlays; medians are reported.

Processor time limits the rate too: C cores at T milliseconds per frame allow at most C / T frames per millisecond.
OpenCV's mp4 encoder alone takes about 4 ms for a 720p frame and cannot be made faster (it ignores
OPENCV_FFMPEG_WRITER_OPTIONS, and the other codecs in OpenCV's wheels are slower), so with a small network two cores may
not be enough for overlays. The script prints the processor time of each stage's thread and the share of the network's
rate that the cores allow.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import cv2
import numpy as np

from benchmarks.scripts.run_facts import run_facts
from samkr_edge.cli.predict_options import Options
from samkr_edge.cli.predict_stream import StreamDone, run_stream
from samkr_edge.cli.window import Window
from samkr_edge.files.artefact import require_writable, write_json
from samkr_edge.frames.sources import find_sources
from samkr_edge.frames.streams import open_stream
from samkr_edge.pose_model import PoseModel, load_model

if TYPE_CHECKING:
    from samkr_edge.serve.live import LiveStream

FRAME = (720, 1280)


def drifting(paths: list[Path], frames: int) -> Iterator[np.ndarray]:
    """BGR frames, uint8 (720, 1280, 3): three pictures side by side that sway, replaced every 25 frames."""
    side = 420
    pictures = [
        cv2.resize(cv2.imread(str(path)), (side, side), interpolation=cv2.INTER_CUBIC) for path in paths
    ]
    for number in range(frames):
        frame = np.full((*FRAME, 3), 96, np.uint8)
        for place in range(3):
            picture = pictures[(number // 25 * 3 + place) % len(pictures)]
            x = place * 427 + 3
            y = 150 + round(100 * np.sin(number / 12 + 2 * place))
            frame[y : y + side, x : x + side] = picture
        yield frame


def people_video(folder: Path, images: Path, frames: int) -> Path:
    """A video of ``drifting`` pictures of a folder."""
    path = folder / "people.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (FRAME[1], FRAME[0]))
    for frame in drifting(pictures_of(images), frames):
        writer.write(frame)
    writer.release()
    return path


def pictures_of(images: Path) -> list[Path]:
    """The pictures of a folder that the video shows."""
    return find_sources([str(images)]).images[:12]


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class Runs:
    """Frames per second and processor milliseconds per frame of each run of one contender."""

    fps: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    @contextlib.contextmanager
    def one(self, frames: int) -> Iterator[None]:
        """Record the processor time of all threads over one run."""
        before = time.process_time()
        yield
        self.cpu_ms.append(1e3 * (time.process_time() - before) / frames)


def network_alone(model: PoseModel, frame: np.ndarray, frames: int) -> float:
    """Frames per second of the runtime on one input, with nothing else running."""
    batch = model.new_input()
    model.preprocess(frame, batch[0], bgr=True)
    started = time.perf_counter()
    for _ in range(frames):
        model.runner.run(batch)
    return frames / (time.perf_counter() - started)


def stream(
    model: PoseModel, video: Path, out: Path, *, overlays: bool, page: LiveStream | None = None
) -> StreamDone:
    """Run `predict` on the video, without its progress bar; a page may be served meanwhile."""
    with contextlib.redirect_stderr(io.StringIO()), Window("", enabled=False) as window:
        options = Options(out, overlays=overlays)
        return run_stream(model, open_stream(str(video)), video.stem, options, window, live=page)


def main() -> None:
    """Measure, print, and write JSON if ``--out`` is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", type=Path, required=True, help="folder of rendered people")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    if given.out:
        require_writable(given.out)
    model = load_model(given.model, threads=1)
    with TemporaryDirectory() as folder:
        video = people_video(Path(folder), given.images, given.frames)
        first = next(drifting(pictures_of(given.images), 1))
        runs = {name: Runs() for name in ("network alone", "keypoints", "overlays")}
        last: dict[str, StreamDone] = {}
        network_alone(model, first, 20)
        for _ in range(given.rounds):
            for name, run in runs.items():
                with run.one(given.frames):
                    if name == "network alone":
                        run.fps.append(network_alone(model, first, given.frames))
                    else:
                        last[name] = stream(model, video, Path(folder) / "out", overlays=name == "overlays")
                        run.fps.append(last[name].fps)
    cores = usable_cores()
    medians = {name: float(np.median(run.fps)) for name, run in runs.items()}
    cpu = {name: float(np.median(run.cpu_ms)) for name, run in runs.items()}
    # Share of the network's rate with every core busy all the time; at most 1, since the network runs on one thread.
    allowed = {name: min(1.0, cores * cpu["network alone"] / ms) for name, ms in cpu.items()}
    for name, rate in medians.items():
        stages = last[name].cpu_ms if name in last else {}
        shown = "  ".join(f"{stage} {ms:.1f}" for stage, ms in stages.items())
        print(
            f"{name:14} {rate:7.1f} frames/s  {rate / medians['network alone']:5.0%} of the network's, cores allow "
            f"{allowed[name]:4.0%}  CPU {cpu[name]:5.2f} ms a frame{': ' if shown else ''}{shown}"
        )
    if given.out:
        payload = {
            **run_facts(model, given.model),
            "frames": given.frames,
            "rounds": given.rounds,
            "frames_per_second": medians,
            "share_of_network": {n: r / medians["network alone"] for n, r in medians.items()},
            "cores": cores,
            "share_that_cores_allow": allowed,
            "cpu_ms_a_frame": cpu,
            "stage_ms": {name: done.stage_ms for name, done in last.items()},
            "stage_cpu_ms": {name: done.cpu_ms for name, done in last.items()},
        }
        write_json(given.out, payload)


if __name__ == "__main__":
    main()
