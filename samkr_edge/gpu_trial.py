"""What of CUDA and TensorRT really opens on the GPU here, each tried in a process of its own.

An import says little: a TensorRT made for a newer CUDA than the driver's is imported without a word, and its first call
fails or ends the process. A package for CUDA is found out by its first event.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from samkr_edge import launch

if TYPE_CHECKING:
    from samkr_edge.runtime.tensorrt_module import Flavour

_LIMIT_S = 120
_MARK = "samkr-edge-gpu-trial "
# What is tried here beside the backends of samkr_edge.runtime.cuda. The builder of TensorRT for RTX needs no GPU.
_FLAVOURS: dict[str, tuple[Flavour, str]] = {
    "tensorrt": ("tensorrt", "Builder"),
    "tensorrt-rtx": ("rtx", "Runtime"),
}


@dataclass(frozen=True)
class GpuTrial:
    """What became of one.

    Attributes:
        said: what it found, or why it failed.
        cuda_error: the number that TensorRT's log gives for the failure, 35 for a driver that is too old.
    """

    works: bool
    said: str
    cuda_error: int | None = None


def try_on_gpu(names: Iterable[str]) -> dict[str, GpuTrial]:
    """Open each of ``driver``, ``cuda-python``, ``pycuda``, ``tensorrt``, ``tensorrt-rtx``; seconds each."""
    return {name: _in_a_child(name) for name in names}


def _in_a_child(name: str) -> GpuTrial:
    command = launch.module("samkr_edge.gpu_trial", name)
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_LIMIT_S)
    except subprocess.TimeoutExpired:
        return GpuTrial(False, f"it took more than {_LIMIT_S} s")
    # TensorRT gives its reason in its log alone.
    logged = re.search(r"CUDA initialization failure with error: (\d+)", done.stdout + done.stderr)
    code = int(logged[1]) if logged else None
    for line in done.stdout.splitlines():
        if line.startswith(_MARK):
            works, said = json.loads(line.removeprefix(_MARK))
            return GpuTrial(works, said, None if works else code)
    last = (done.stderr.strip().splitlines() or ["nothing was printed"])[-1]
    return GpuTrial(False, f"it ends the process (exit code {done.returncode}): {last[:160]}", code)


def _open_backend(name: str) -> str:
    """An event is recorded twice, and memory asked for: what a runner does first."""
    from samkr_edge.runtime.cuda import open_cuda

    cuda = open_cuda(name)
    try:
        with cuda.bound():
            free, total = cuda.memory()
            stream, events = cuda.stream(), (cuda.event(), cuda.event())
            for event in events:
                cuda.record(event, stream)
            cuda.elapsed_ms(*events)
            for event in events:
                cuda.free_event(event)
            cuda.free_stream(stream)
    finally:
        cuda.close()
    return f"opened; {free / 2**30:.1f} of {total / 2**30:.1f} GB free"


def _open_tensorrt(name: str) -> str:
    from samkr_edge.runtime.tensorrt_module import import_tensorrt

    flavour, what = _FLAVOURS[name]
    trt = import_tensorrt(flavour)
    if not getattr(trt, what)(trt.Logger(trt.Logger.WARNING)):
        raise RuntimeError(f"{what} gave nothing")
    return f"{name} {trt.__version__}, {what} made"


def _main(name: str) -> None:
    from samkr_edge.errors import SamkrError, reason_of

    try:
        works, said = True, (_open_tensorrt if name in _FLAVOURS else _open_backend)(name)
    except SamkrError as error:
        works, said = False, "; ".join((error.message, *(" ".join(fact.split()) for fact in error.facts)))
    except Exception as error:
        works, said = False, reason_of(error)
    print("\n" + _MARK + json.dumps([works, said]), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1])
