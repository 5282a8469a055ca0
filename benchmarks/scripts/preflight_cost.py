"""How long the check of an engine takes before it is loaded, by the size of the file.

The passport is read, the engine's bytes are hashed in memory, and so are the ONNX's if it is next to it; then the
passport is compared with a device. Nothing is loaded, so neither a GPU nor TensorRT is needed:

    python -m benchmarks.scripts.preflight_cost --megabytes 40 --source-megabytes 119 --json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from samkr_edge.engine_check import check_engine
from samkr_edge.machine.device import gpu_device
from samkr_edge.passport import Passport, verified_bytes, write_passport
from targets.device import Device

TENSORRT = "10.3.0"
HERE = Device(
    machine=platform.machine(),
    system=platform.system(),
    gpu="NVIDIA GeForce RTX 4090",
    compute_capability="8.9",
)


def write_engine(folder: Path, megabytes: float, source_megabytes: float) -> Path:
    """Write random bytes as an engine with a passport, and as its ONNX source unless that has 0 bytes."""
    random = np.random.default_rng(0)
    engine, source = random.bytes(int(megabytes * 1e6)), random.bytes(int(source_megabytes * 1e6))
    path = folder / "pose.engine"
    path.write_bytes(engine)
    if source:
        (folder / "pose.onnx").write_bytes(source)
    passport = Passport(
        target="rtx-4090",
        card={},
        sha256=hashlib.sha256(engine).hexdigest(),
        source="pose.onnx",
        source_sha256=hashlib.sha256(source).hexdigest(),
        device=gpu_device(HERE),
        versions={"tensorrt": TENSORRT},
    )
    write_passport(path, passport)
    return path


def measure(path: Path, repeats: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each check: wall time, and processor time, which other processes affect less."""
    wall, processor = [], []
    for _ in range(repeats):
        started, busy = time.perf_counter(), time.process_time()
        passport, _ = verified_bytes(path)
        check_engine(path, passport, HERE, TENSORRT)
        processor.append((time.process_time() - busy) * 1e3)
        wall.append((time.perf_counter() - started) * 1e3)
    return wall, processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=40.0, help="of the engine")
    parser.add_argument(
        "--source-megabytes", type=float, default=0.0, help="of the ONNX beside it; 0: none is there"
    )
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = write_engine(Path(folder), given.megabytes, given.source_megabytes)
        wall, processor = measure(path, given.repeats)
    result = {
        "megabytes": given.megabytes,
        "source_megabytes": given.source_megabytes,
        "median_ms": round(statistics.median(wall), 2),
        "median_cpu_ms": round(statistics.median(processor), 2),
        "repeats": given.repeats,
    }
    if given.json:
        print(json.dumps({"schema_version": 1, **result}))
    else:
        print("  ".join(f"{name} {value:g}" for name, value in result.items()))


if __name__ == "__main__":
    main()
