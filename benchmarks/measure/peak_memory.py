"""Peak memory of a model: that of a separate process, from opening the file to the third frame.

The host's is what is resident, the GPU's what the machine has less of (``gpu_memory``), read after opening
and between frames. They are two figures also where both are one memory, on a Jetson: what is allocated for the GPU is
resident in no process. Measured in a child process, since memory that one model has freed would be counted
against, or hidden from, the next.
The child runs this module: ``benchmarks.measure.peak_memory MODEL THREADS``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.measure.gpu_memory import GpuMemory, open_gpu_memory
from benchmarks.schema import MemoryMb
from samkr_edge import child_process
from samkr_edge.errors import SamkrError

_FRAMES = 3
_LIMIT_S = 600


def measure_memory(path: Path, threads: int) -> MemoryMb:
    """Peak memory of a child process that opens the model and runs three frames.

    Raises:
        SamkrError: SE-A65 the child ended without an answer, for example killed for lack of memory; else what the
            model could not be opened or run with.
    """
    command = child_process.module("benchmarks.measure.peak_memory", str(path), str(threads))
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=_LIMIT_S
        )
        answer = json.loads(child.stdout.strip().splitlines()[-1])
        if "error" not in answer:
            return MemoryMb.model_validate(answer)
    except subprocess.TimeoutExpired as error:
        raise _failed(path, f"no answer within {_LIMIT_S} s") from error
    except (IndexError, ValueError, TypeError) as error:
        said = (child.stderr.strip().splitlines() or ["nothing was printed"])[-1]
        raise _failed(path, f"exit code {child.returncode}: {said[:160]}") from error
    raise SamkrError(**answer["error"])


def _failed(path: Path, reason: str) -> SamkrError:
    return SamkrError(
        "SE-A65",
        f"{path.name} could not be run in its own process, so its memory was not measured",
        {"reason": reason},
        fix="measure without it: samkr-edge bench MODEL... --no-memory",
    )


def peak_rss_mb() -> float:
    """Highest resident memory of this process so far.

    ``VmHWM`` and not ``getrusage``: the latter starts at the parent's size, which a child inherits before ``exec``.
    """
    try:
        return _status_mb("VmHWM")
    except (OSError, StopIteration):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024


def resident_mb() -> float:
    """Resident memory of this process now; Linux only."""
    return _status_mb("VmRSS")


def _status_mb(key: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def peak_memory(
    open_model: Callable[[], Callable[[np.ndarray], object]],
    image: np.ndarray,
    open_gpu: Callable[[], GpuMemory] | None,
) -> MemoryMb:
    """Peak memory of this process, which has opened no model before.

    Args:
        open_model: gives what takes an image, uint8 (H, W, 3).
        image: uint8 (H, W, 3).
        open_gpu: returns a reader of the GPU's memory; None for a model that does not run there.
    """
    before = peak_rss_mb()
    gpu = None if open_gpu is None else open_gpu()
    try:
        levels = [] if gpu is None else [gpu.used()]
        model = open_model()
        for _ in range(_FRAMES):
            levels += [] if gpu is None else [gpu.used()]
            model(image)
        levels += [] if gpu is None else [gpu.used()]
    finally:
        if gpu is not None:
            gpu.close()
    return MemoryMb(
        peak=round(peak_rss_mb(), 1),
        before_opening=round(before, 1),
        gpu=None if gpu is None else round((max(levels) - levels[0]) / (1 << 20), 1),
        gpu_source=None if gpu is None else gpu.source,
        shared=gpu is not None and gpu.shared,
    )


def _main(path: str, threads: str) -> None:
    from benchmarks.measure.timing_images import random_image
    from samkr_edge.pose_model import load_model

    try:
        measured = peak_memory(
            lambda: load_model(path, threads=int(threads)), random_image(), _gpu_of(Path(path))
        )
    except SamkrError as error:  # too little memory for this fails the model as well
        print(json.dumps({"error": error.to_dict()}))
    else:
        print(measured.model_dump_json())


def _gpu_of(path: Path) -> Callable[[], GpuMemory] | None:
    """A reader of the GPU that a model may run on. For other models not even the driver is loaded: it takes memory."""
    from samkr_edge.machine.device import running_device
    from samkr_edge.pose_model import WITH_GRAPH

    if path.suffix not in WITH_GRAPH or (device := running_device()).gpu is None:
        return None
    return lambda: open_gpu_memory(device)


if __name__ == "__main__":
    _main(*sys.argv[1:])
