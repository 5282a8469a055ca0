"""What an evaluation costs beyond the network itself: blocks of images, evaluated and run through the network in turn.

    python -m benchmarks.scripts.eval_overhead demo/qat.cpu.onnx --data demo/data \
        -o benchmarks/results/eval_overhead_int8.json

Prints the median over blocks of (image files to COCO results) / (the network alone on as many ready inputs): by the
clock, which wants a second core for reading and decoding, as the evaluation does; and in processor time, which is what
the ratio would be on one core and does not see a busy neighbour.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from benchmarks.scripts.run_facts import run_facts
from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.evaluation.ap import predict_dataset
from samkr_edge.files.artefact import require_writable, write_json
from samkr_edge.images import read_image
from samkr_edge.pose_model import load_model

_BLOCK = 50


def seconds(work: Callable[[], object]) -> np.ndarray:
    """Seconds that ``work`` takes: (wall time, processor time of all threads)."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return np.array([time.perf_counter() - wall, time.process_time() - processor])


def main() -> None:
    """Measure, print, and write JSON if ``--out`` is given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    if given.out:
        require_writable(given.out)
    model, dataset = load_model(given.model), open_dataset(given.data, given.split)
    records = cycle(dataset.images)
    inputs = [model.new_input() for _ in range(_BLOCK)]
    ratios = []
    for _ in range(max(2, given.images // _BLOCK)):
        block = replace(dataset, images=tuple(islice(records, _BLOCK)))
        # Time the network on the block's own images: zeros are a different load (subnormal numbers are slow).
        for record, batch in zip(block.images, inputs, strict=True):
            model.preprocess(read_image(record.path), batch[0])
        model.runner.run(inputs[0])
        alone = seconds(lambda: [model.runner.run(batch) for batch in inputs])
        ratios.append(seconds(lambda part=block: predict_dataset(model, part)) / alone)  # type: ignore[misc]
    (wall_low, cpu_low), (wall, cpu), (wall_high, cpu_high) = np.percentile(ratios, [10, 50, 90], axis=0)
    print(f"{len(ratios)} blocks of {_BLOCK} images; evaluation / network alone, median (p10, p90)")
    print(f"by the clock    {wall:.3f} ({wall_low:.3f}, {wall_high:.3f})")
    print(f"processor time  {cpu:.3f} ({cpu_low:.3f}, {cpu_high:.3f})")
    if given.out:
        payload = {
            **run_facts(model, given.model),
            "images_a_block": _BLOCK,
            "blocks": len(ratios),
            "clock": {"median": wall, "p10": wall_low, "p90": wall_high},
            "processor": {"median": cpu, "p10": cpu_low, "p90": cpu_high},
        }
        write_json(given.out, payload)


if __name__ == "__main__":
    main()
