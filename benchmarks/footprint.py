"""Peak memory of a model: what a process of its own needs, from opening the file to the third frame.

Host memory only: what an engine holds on a desktop GPU is not in it (on a Jetson both are one memory).
Measured in a child process, since memory that one model has freed would be counted against, or hidden from, the next.
The child runs this module, as ``benchmarks.footprint MODEL THREADS``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.results import MemoryMb
from samkr_edge import launch
from samkr_edge.errors import SamkrError

_FRAMES = 3
_LIMIT_S = 600


def measure_memory(path: Path, threads: int) -> MemoryMb:
    """Peak resident memory of a child process that opens the model and runs three frames.

    Raises:
        SamkrError: SE-A65 the child ended without an answer, for example killed for want of memory.
    """
    command = launch.module("benchmarks.footprint", str(path), str(threads))
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)
        return MemoryMb.model_validate_json(child.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired as error:
        raise _failed(path, f"no answer within {_LIMIT_S} s") from error
    except (IndexError, ValueError) as error:
        last = (child.stderr.strip().splitlines() or ["nothing was printed"])[-1]
        raise _failed(path, f"exit code {child.returncode}: {last[:160]}") from error


def _failed(path: Path, reason: str) -> SamkrError:
    return SamkrError(
        "SE-A65",
        f"{path.name} could not be run in a process of its own, so its memory was not measured",
        [f"reason     {reason}"],
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


def _main(path: str, threads: str) -> None:
    from benchmarks.bench import random_image
    from samkr_edge.pose_model import load_model

    image = random_image()
    before = peak_rss_mb()
    model = load_model(path, threads=int(threads))
    for _ in range(_FRAMES):
        model(image)
    print(json.dumps({"peak": round(peak_rss_mb(), 1), "before_opening": round(before, 1)}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
