"""What a viewer of the live page costs: the frame rate of `predict --serve`, watched, against `predict --no-overlays`.

    samkr-edge data synth people --size 512
    python -m benchmarks.scripts.serve_rate qat.cpu.onnx --images people/images/val2017 \
        -o benchmarks/results/serve_rate.json

The 1280x720 video of benchmarks/scripts/stream_rate.py, as fast as it goes and not at its own speed. Every round runs
`predict` without overlays, with a page that nobody watches, and with one viewer; all of them write the keypoints. The
viewer is a process of its own on the same cores, which takes every picture and draws none. The ratio is that of runs of
the same round, and the median over the rounds is reported.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.scripts.run_facts import run_facts
from benchmarks.scripts.stream_rate import people_video, stream, usable_cores
from samkr_edge import child_process
from samkr_edge.cli.predict_stream import StreamDone
from samkr_edge.cli.video_options import PAGE_RATE
from samkr_edge.files.artefact import require_writable, write_json
from samkr_edge.pose_model import PoseModel, load_model
from samkr_edge.serve.address import listen
from samkr_edge.serve.facts import page_facts
from samkr_edge.serve.live import LivePictures
from samkr_edge.serve.server import PageServer

ALONE, UNWATCHED, WATCHED = "no overlays", "page, nobody watches", "page, one viewer"
# Asks for the next picture when it has the last, as the page does, until the server has gone.
VIEWER = """
import http.client, json, struct, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
number, pictures = 0, 0
try:
    while True:
        connection.request("GET", f"/pictures?viewer=viewer01&after={number}")
        body = connection.getresponse().read()
        if body:
            _, text, jpeg = struct.unpack_from(">III", body)
            facts = json.loads(body[12 : 12 + text])
            if facts["state"] == "ended":
                break
            number, pictures = facts["number"], pictures + 1
except (OSError, http.client.HTTPException):
    pass
print(pictures)
"""


@contextlib.contextmanager
def page(model: PoseModel, video: Path, rate: float) -> Iterator[tuple[LivePictures, int]]:
    """A page on the loopback, and its port."""
    listening = listen("0")
    facts = page_facts([model], [video.name], threads=1, threshold=None, boxes=True, writes=True, rate=rate)
    with (
        LivePictures([video.name], rate=rate, threshold=model.card.sure_person) as live,
        PageServer(listening, live, facts),
    ):
        yield live, listening.port


def watched(model: PoseModel, video: Path, out: Path, rate: float) -> tuple[StreamDone, int]:
    """A run with a viewer, and the pictures that the viewer got."""
    with page(model, video, rate) as (live, port):
        viewer = subprocess.Popen([*child_process.code(VIEWER), str(port)], stdout=subprocess.PIPE)
        while not live.streams[0].waiting:
            if viewer.poll() is not None:
                raise RuntimeError("the viewer has ended before the video began")
        done = stream(model, video, out, overlays=False, page=live.streams[0])
    return done, int(viewer.communicate(timeout=60)[0])


def rounds(model: PoseModel, video: Path, out: Path, count: int, rate: float) -> dict[str, Any]:
    """Interleaved: frames per second of each run of each contender, and what the viewer saw."""
    fps: dict[str, list[float]] = {ALONE: [], UNWATCHED: [], WATCHED: []}
    seen: list[float] = []
    for number in range(count + 1):
        alone = stream(model, video, out, overlays=False)
        with page(model, video, rate) as (live, _):
            unwatched = stream(model, video, out, overlays=False, page=live.streams[0])
        with_viewer, pictures = watched(model, video, out, rate)
        if number == 0:  # what is slow only once
            continue
        for name, done in ((ALONE, alone), (UNWATCHED, unwatched), (WATCHED, with_viewer)):
            fps[name].append(done.fps)
        seen.append(pictures / with_viewer.seconds)
    return {"fps": fps, "pictures": seen}


def main() -> None:
    """Measure, print, and write JSON if ``--out`` is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", type=Path, required=True, help="folder of rendered people")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--page-rate", type=float, default=PAGE_RATE, help="most pictures a second")
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    if given.out:
        require_writable(given.out)
    model = load_model(given.model, threads=1)
    with TemporaryDirectory() as folder:
        video = people_video(Path(folder), given.images, given.frames)
        found = rounds(model, video, Path(folder) / "out", given.rounds, given.page_rate)
    medians = {name: float(np.median(each)) for name, each in found["fps"].items()}
    ratios = {
        name: float(np.median(np.divide(found["fps"][name], found["fps"][ALONE])))
        for name in (UNWATCHED, WATCHED)
    }
    pictures = float(np.median(found["pictures"]))
    for name, rate in medians.items():
        share = f"  {ratios[name]:6.1%} of {ALONE}" if name in ratios else ""
        print(f"{name:22} {rate:7.1f} frames/s{share}")
    print(f"the viewer got {pictures:.1f} pictures/s of at most {given.page_rate:g}")
    if given.out:
        payload = {
            **run_facts(model, given.model),
            "frames": given.frames,
            "rounds": given.rounds,
            "page_rate": given.page_rate,
            "cores": usable_cores(),
            "frames_per_second": medians,
            "share_of_no_overlays": ratios,
            "pictures_per_second": pictures,
            "runs": found["fps"],
        }
        write_json(given.out, payload)


if __name__ == "__main__":
    main()
