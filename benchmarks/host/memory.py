"""Peak memory of each step from network to built INT8 model, each in its own process.

    python -m benchmarks.host.memory --model samkr_w48 --out benchmarks/results/memory_w48.json

Random weights, calibrated on noise: memory does not depend on what the numbers are. The input size is the network's
own (640 x 640 for samkr_w48); one image at a time, as everywhere in calibration at such sizes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.host.kept_run import kept_run
from benchmarks.host.this_checkout import start
from samkr_edge.files.artefact import write_json
from samkr_edge.pose_model import load_model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="samkr_w48", help="name of a zoo network")
    parser.add_argument("--images", type=int, default=8, help="images of noise to calibrate on")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        quantized, onnx, built = (Path(folder) / f"int8{ending}" for ending in (".pt", ".onnx", ".cpu.onnx"))
        noise = ["--random-images", str(arguments.images), "--threads", str(arguments.threads)]
        steps = {
            "quantize": ["quantize", arguments.model, "--untrained", *noise, "-o", str(quantized)],
            "export": ["export", str(quantized), "-o", str(onnx)],
            "build": ["build", str(onnx), "--target", "cpu", "-o", str(built)],
        }
        measured = {name: measure(command) for name, command in steps.items()}
        size = load_model(onnx).card.input_size
    report = kept_run(
        model=arguments.model,
        input_size=size,
        settings={"calibration_images": arguments.images, "threads": arguments.threads},
        steps=measured,
    )
    write_json(arguments.out, report)
    for name, step in measured.items():
        print(f"{name:10} {step['peak_gb']:6.2f} GB  {step['seconds']:6.0f} s")


def measure(command: list[str]) -> dict[str, Any]:
    """Run one `samkr-edge` command; returns its peak resident memory and its seconds.

    Raises:
        SystemExit: the command failed; it has printed its own error.
    """
    started = time.monotonic()
    process = start(*command)
    # wait4 reports this one process; getrusage(RUSAGE_CHILDREN) the largest child so far. The result is never below
    # this script's own resident memory.
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(process.returncode)
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "peak_gb": round(usage.ru_maxrss * unit / 1e9, 3),
        "seconds": round(time.monotonic() - started, 1),
    }


if __name__ == "__main__":
    main()
