"""Which parts of CUDA and TensorRT really open on this GPU, each tried in its own process.

An import proves little: a TensorRT made for a newer CUDA than the driver's imports silently, and its first call fails
or ends the process. For a CUDA package, the first event shows whether it works.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from samkr_edge import child_process
from samkr_edge.machine.cuda_errors import FAILURE

_LIMIT_S = 120
_MARK = "samkr-edge-gpu-trial "
BACKENDS = ("driver", "cuda-python", "pycuda")  # those of samkr_edge.runtime.cuda, which needs NumPy
# TensorRT gives its reason only in its log.
_LOGGED = re.compile(rf"{FAILURE.pattern}|cudaError (\d+):", re.IGNORECASE)


@dataclass(frozen=True)
class GpuTrial:
    """The result of one trial.

    Attributes:
        said: its output, or why it failed.
        cuda_error: the number that TensorRT's log gives for the failure, 35 for a driver that is too old.
    """

    works: bool
    said: str
    cuda_error: int | None = None


def try_on_gpu(names: Iterable[str]) -> dict[str, GpuTrial]:
    """Open each of ``driver``, ``cuda-python``, ``pycuda``, ``tensorrt``, ``tensorrt-rtx``; seconds each."""
    return {name: _in_a_child(name) for name in names}


def _in_a_child(name: str) -> GpuTrial:
    command = child_process.module("samkr_edge.doctor.gpu_trial", name)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return GpuTrial(False, f"it took more than {_LIMIT_S} s")
    logged = _LOGGED.search(done.stdout + done.stderr)
    code = int(logged[1] or logged[2]) if logged else None
    for line in done.stdout.splitlines():
        if line.startswith(_MARK):
            works, said = json.loads(line.removeprefix(_MARK))
            return GpuTrial(works, said, None if works else code)
    last = (done.stderr.strip().splitlines() or ["nothing was printed"])[-1]
    return GpuTrial(False, f"it crashes the process (exit code {done.returncode}): {last[:160]}", code)


def _open_backend(name: str) -> str:
    """Record an event twice and allocate memory, as a runner does first."""
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


def _open_tensorrt() -> str:
    """Make its builder, which calls the driver immediately."""
    from samkr_edge.machine.tensorrt_module import import_tensorrt

    trt = import_tensorrt("tensorrt")
    if not trt.Builder(trt.Logger(trt.Logger.WARNING)):
        raise RuntimeError("Builder returned nothing")
    return f"tensorrt {trt.__version__}, Builder made"


def _open_rtx() -> str:
    """Build and load an engine of one layer: builder and runtime need no GPU, but loading does."""
    from samkr_edge.machine.device import running_device
    from samkr_edge.machine.tensorrt_module import import_tensorrt

    trt = import_tensorrt("rtx")
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network, config = builder.create_network(), builder.create_builder_config()
    layer = network.add_activation(network.add_input("x", trt.float32, (1, 8)), trt.ActivationType.RELU)
    network.mark_output(layer.get_output(0))
    # Without a GPU it is built for any card, so that loading it shows what is wrong.
    capability = (running_device().compute_capability or "8.9").replace(".", "")
    if not hasattr(trt.ComputeCapability, f"SM{capability}"):
        raise RuntimeError(f"it has no kernels for SM {capability}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{capability}"), 0)
    if not (built := builder.build_serialized_network(network, config)):
        raise RuntimeError("a one-layer engine could not be built")
    engine = trt.Runtime(logger).deserialize_cuda_engine(built)
    if not engine or not engine.create_execution_context():
        raise RuntimeError("a one-layer engine could not be loaded")
    return f"tensorrt-rtx {trt.__version__}, engine loaded"


_OPENERS: dict[str, Callable[[], str]] = {
    **{name: partial(_open_backend, name) for name in BACKENDS},
    "tensorrt": _open_tensorrt,
    "tensorrt-rtx": _open_rtx,
}


def _main(name: str) -> None:
    from samkr_edge.errors import SamkrError, reason_of

    try:
        works, said = True, _OPENERS[name]()
    except SamkrError as error:
        works, said = False, error.sentence()
    except Exception as error:
        works, said = False, reason_of(error)
    print("\n" + _MARK + json.dumps([works, said]), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1])
