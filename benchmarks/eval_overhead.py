"""What a pass over a data set costs beyond the network itself: time in blocks of either, by turns, and memory.

    python -m benchmarks.eval_overhead MODEL --data DIR [--images 5000]

Prints the median over blocks of (stream of poses from image files) / (the network alone on as many ready inputs), and
the resident memory after the first and the last block. Wants a second core, as the evaluation does.
"""

from __future__ import annotations

import argparse
import time
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from samkr_edge.dataset import open_dataset, read_image
from samkr_edge.pose_model import load_model
from samkr_edge.stream import stream

_BLOCK = 50


def resident_mb() -> float:
    """Resident memory of this process now (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=1000)
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    records = cycle(open_dataset(arguments.data, arguments.split).images)
    inputs = np.zeros((_BLOCK, 1, *model.card.input_size, 3), np.uint8)
    ratios, memory = [], []
    for _ in range(max(2, arguments.images // _BLOCK)):
        block = list(islice(records, _BLOCK))
        # The block's own images: zeros are another load (subnormal numbers are slow).
        for record, batch in zip(block, inputs, strict=True):
            model.preprocess(read_image(record.path), batch[0])
        model.runner.run(inputs[0])
        started = time.perf_counter()
        for batch in inputs:
            model.runner.run(batch)
        alone = time.perf_counter() - started
        started = time.perf_counter()
        people = sum(len(poses) for _, poses in stream(model, block))
        ratios.append((time.perf_counter() - started) / alone)
        memory.append(resident_mb())
    low, median, high = np.percentile(ratios, [10, 50, 90])
    print(f"{len(ratios)} blocks of {_BLOCK} images, {people} people in the last")
    print(f"pass / network alone: median {median:.3f} (p10 {low:.3f}, p90 {high:.3f})")
    print(f"resident memory: {memory[0]:.0f} MB after the first block, {memory[-1]:.0f} MB after the last")


if __name__ == "__main__":
    main()
