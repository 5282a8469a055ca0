"""How fast people are rendered and written as a data set: images a second, JPEG files included.

    python -m benchmarks.host.synth -o benchmarks/results/synth.json

Target: 150 images/s of 256x256 pixels on two cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.host.kept_run import kept_run
from samkr_edge.files.artefact import write_json
from training.data.rendered.dataset import SynthSettings, write_dataset
from training.data.rendered.scene import SceneSettings

TARGET = 150.0  # images/s at TARGET_SIZE pixels with TARGET_CORES processes
TARGET_SIZE, TARGET_CORES = 256, 2


def images_per_second(size: int, images: int, processes: int, seed: int) -> float:
    """Rate of making one data set in a temporary folder, process start-up included."""
    settings = SynthSettings(train=images - 1, val=1, seed=seed, scene=SceneSettings(size=size))
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        write_dataset(Path(folder) / "people", settings, processes=processes)
        return images / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1500, help="images of each data set")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[TARGET_SIZE])
    parser.add_argument("--processes", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("-o", "--out", type=Path, help="JSON file to write")
    given = parser.parse_args()
    cases = [(size, processes) for size in given.sizes for processes in given.processes]
    rates: dict[tuple[int, int], list[float]] = {case: [] for case in cases}
    for number in range(given.rounds):
        for case, found in rates.items():  # taking turns
            found.append(images_per_second(case[0], given.images, case[1], number))
    results = []
    for (size, processes), found in rates.items():
        median = round(statistics.median(found), 1)
        results.append({"size": size, "processes": processes, "images_per_s": median, "rounds": found})
        line = f"{size}x{size}, {processes} processes: {median} images/s"
        if (size, processes) == (TARGET_SIZE, TARGET_CORES):
            line += f"; target {TARGET:g} {'met' if median >= TARGET else 'MISSED'}"
        print(line)
    if given.out:
        write_json(
            given.out,
            kept_run(
                kind="rendering of people",
                images=given.images,
                results=results,
            ),
        )


if __name__ == "__main__":
    main()
