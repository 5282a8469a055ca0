"""What one built model costs in a fresh process: until its first answer, and the GPU time of an inference after that.

    python -m benchmarks.host.engine_times pose.engine -o times.json

Imports are counted apart: from the start of the process until its packages are there, from there to the first poses of
one image; and the median GPU time of a batch, of engines, with and without a CUDA graph. No torch. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from samkr_edge.pose_model import load_model

_AT_A_TIME = 10


def first_answer(model: Path, imported: float) -> dict[str, float]:
    """Seconds to import the package, open the file, and get the poses of the first image."""
    begun = time.perf_counter()
    pose = load_model(model)
    opened = time.perf_counter()
    height, width = pose.card.input_size
    pose(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    return {
        "import_s": round(imported, 3),
        "open_s": round(opened - begun, 3),
        "first_inference_s": round(time.perf_counter() - opened, 3),
    }


def since_start() -> float:
    """Seconds since this process started, to a hundredth."""
    # Field 22 of /proc/self/stat, the start time in ticks since boot, is the 20th after the name. Split there: the name
    # may contain spaces and parentheses.
    ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    return float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0]) - ticks / os.sysconf(
        "SC_CLK_TCK"
    )


def gpu_times(engine: Path, seconds: float) -> dict[str, Any]:
    """Batch size and median milliseconds per batch; ``graph_note`` says why there is no CUDA graph."""
    from samkr_edge.runtime.tensorrt import TensorRTRunner

    found: dict[str, Any] = {}
    for name, graph in (("gpu_ms", False), ("gpu_graph_ms", True)):
        runner = TensorRTRunner(engine, cuda_graph=graph)
        try:
            found["batch"] = runner.batch
            if graph and runner.graph_note is not None:
                found["graph_note"] = runner.graph_note
                continue
            times: list[float] = []
            begun = time.monotonic()
            while (passed := time.monotonic() - begun) < 1.5 * seconds or not times:
                measured = runner.gpu_milliseconds(_AT_A_TIME)
                times += measured if passed >= 0.5 * seconds else []  # the first third warms up
            found[name] = round(statistics.median(times), 4)
        finally:
            runner.close()
    return found


def main() -> None:
    imported = since_start()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=4.0, help="of timing, with and without a graph each")
    parser.add_argument("-o", "--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    found: dict[str, Any] = {"model": arguments.model.name, **first_answer(arguments.model, imported)}
    if arguments.model.suffix == ".engine":
        found |= gpu_times(arguments.model, arguments.seconds)
    print(json.dumps(found))
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
