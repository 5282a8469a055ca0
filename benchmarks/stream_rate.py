"""How close `predict` on a 720p video comes to the frame rate of the network alone.

    samkr-edge data synth people --size 512
    python -m benchmarks.stream_rate qat.cpu.onnx --images people/images/val2017 -o benchmarks/results/stream_rate.json

A video is made of rendered people that drift over a 1280x720 frame. Each round runs the network alone on as many
inputs as the video has frames, and `predict` on the video: with keypoints only, and with overlays; medians are
reported. OpenCV's mp4 encoder takes a core of its own, so the last of these may be bound by it: the mean time of each
stage says by what.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from samkr_edge.artefact import write_json
from samkr_edge.cli.predict_stream import Options, StreamDone, predict_stream
from samkr_edge.cli.window import Window
from samkr_edge.pose_model import PoseModel, load_model
from samkr_edge.video import find_images

FRAME = (720, 1280)


def drifting(paths: list[Path], frames: int) -> Iterator[np.ndarray]:
    """BGR frames of 1280x720: three pictures side by side that sway, others every 25 frames."""
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


def write_video(path: Path, frames: Iterator[np.ndarray]) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (FRAME[1], FRAME[0]))
    for frame in frames:
        writer.write(frame)
    writer.release()


def network_alone(model: PoseModel, frame: np.ndarray, frames: int) -> float:
    """Frames a second of the runtime on one input, nothing else running."""
    batch = model.new_input()
    model.preprocess(frame, batch[0], bgr=True)
    started = time.perf_counter()
    for _ in range(frames):
        model.runner.run(batch)
    return frames / (time.perf_counter() - started)


def stream(model: PoseModel, video: Path, out: Path, *, overlays: bool) -> StreamDone:
    """`predict` on the video; its progress bar is not shown."""
    with contextlib.redirect_stderr(io.StringIO()), Window("", enabled=False) as window:
        return predict_stream(model, str(video), video.stem, Options(out, overlays=overlays), window)


def main() -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", type=Path, required=True, help="folder of rendered people")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    from samkr_edge.doctor import environment

    model = load_model(given.model, threads=1)
    with TemporaryDirectory() as folder:
        video = Path(folder) / "people.mp4"
        paths = find_images([str(given.images)])[:12]
        write_video(video, drifting(paths, given.frames))
        first = next(drifting(paths, 1))
        rates: dict[str, list[float]] = {"network alone": [], "keypoints": [], "overlays": []}
        last: dict[str, StreamDone] = {}
        network_alone(model, first, 20)
        for _ in range(given.rounds):
            rates["network alone"].append(network_alone(model, first, given.frames))
            for name in ("keypoints", "overlays"):
                last[name] = stream(model, video, Path(folder) / "out", overlays=name == "overlays")
                rates[name].append(last[name].fps)
    medians = {name: float(np.median(values)) for name, values in rates.items()}
    for name, rate in medians.items():
        stages = last[name].stage_ms if name in last else {}
        shown = "  ".join(f"{stage} {ms:.1f}" for stage, ms in stages.items())
        print(f"{name:14} {rate:7.1f} frames/s  {rate / medians['network alone']:5.0%}  {shown}")
    if given.out:
        payload = {
            "schema_version": 1,
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "environment": environment(),
            "model": {"file": given.model.name, **model.card.to_dict()},
            "frames": given.frames,
            "rounds": given.rounds,
            "frames_per_second": medians,
            "share_of_network": {n: r / medians["network alone"] for n, r in medians.items()},
            "stage_ms": {name: done.stage_ms for name, done in last.items()},
        }
        write_json(given.out, payload)


if __name__ == "__main__":
    main()
