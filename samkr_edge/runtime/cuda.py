"""CUDA memory, streams, events and graphs through one small interface.

Three ways to the same driver. ctypes is the default: it needs nothing but the driver, has graphs, and finds every
function that the driver has. cuda-python and pycuda are used only where a caller names them, for a process that works
with one of them already. That such a package is installed says nothing about the driver: torch's CUDA build brings
cuda-python to machines without one, and its version 13 calls functions that drivers below CUDA 12.8 (all of JetPack 6)
lack.

All use the device's primary context, as PyTorch and the CUDA runtime do: a separate context (``pycuda.autoinit``)
ends in "invalid resource handle" as soon as two libraries share a process. Whatever a library raises becomes a
SamkrError here.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from samkr_edge.errors import SamkrError, reason_of
from samkr_edge.machine.device import available_memory
from samkr_edge.packages import resolve
from targets.device import Device

DRIVER = "driver"
# name -> "module:class"; the last two names are also those of their packages.
BACKENDS = {
    DRIVER: "samkr_edge.runtime.cuda_driver:CtypesCuda",
    "cuda-python": "samkr_edge.runtime.cuda_driver:CudaPython",
    "pycuda": "samkr_edge.runtime.cuda_pycuda:PyCuda",
}


class Cuda(Protocol):
    """GPU 0. Addresses and handles are integers; sizes are bytes; copies and launches are asynchronous.
    Arrays have any shape.

    Every other method, and TensorRT, is called within ``bound``. A failure is SamkrError SE-V83, or SE-V90 where
    memory is short.
    """

    name: str

    def bound(self) -> AbstractContextManager[None]:
        """Inside ``with cuda.bound():`` the primary context is the calling thread's current one."""
        ...

    def alloc(self, size: int) -> int:
        """Device memory."""

    def free(self, address: int) -> None: ...

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Page-locked host memory of the given shape: copies to and from it run at full speed and do not block."""

    def free_pinned(self, array: np.ndarray) -> None: ...

    def stream(self) -> int: ...

    def free_stream(self, stream: int) -> None: ...

    def to_device(self, address: int, array: np.ndarray, stream: int) -> None: ...

    def to_host(self, array: np.ndarray, address: int, stream: int) -> None: ...

    def synchronize(self, stream: int) -> None: ...

    def event(self) -> Any: ...

    def record(self, event: Any, stream: int) -> None: ...

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Milliseconds between two recorded events, waiting for the second."""

    def free_event(self, event: Any) -> None: ...

    def begin_capture(self, stream: int) -> None:
        """From now on what is queued is recorded and not run; events cannot be recorded."""

    def end_capture(self, stream: int) -> Any:
        """What was queued since ``begin_capture``, as a graph to launch; to be called after a failure too."""

    def launch(self, graph: Any, stream: int) -> None: ...

    def free_graph(self, graph: Any) -> None: ...

    def memory(self) -> tuple[int, int]:
        """Free and total bytes."""

    def close(self) -> None:
        """Release the primary context."""


def open_cuda(backend: str | None = None) -> Cuda:
    """CUDA by ctypes on the driver, or by the one of ``BACKENDS`` that is named.

    Raises:
        SamkrError: SE-V87 no driver or no GPU; SE-V99 there is no such backend, its package is missing or broken, or
            does not reach the driver; SE-V83 the driver refuses.
    """
    name = DRIVER if backend is None else backend
    if name not in BACKENDS:
        raise SamkrError(
            "SE-V99",
            f"there is no CUDA backend {name!r}",
            {"known": ", ".join(BACKENDS)},
            fix=f'backend="{DRIVER}"   # needs only the NVIDIA driver',
        )
    opener = resolve(BACKENDS[name])
    try:
        cuda: Cuda = opener()
    except SamkrError:
        raise
    except Exception as error:  # a broken package can raise anything
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "").startswith(("cuda", "pycuda"))
        raise SamkrError(
            "SE-V99",
            f"the CUDA backend {name} {'is not installed' if missing else 'is installed but does not work here'}",
            {"reason": reason_of(error)},
            fix="samkr-edge doctor"
            if name == DRIVER
            else f'backend="{DRIVER}"   # needs only the NVIDIA driver'
            + (f"; or: pip install {name}" if missing else ""),
        ) from error
    return cuda


def cuda_error(what: str, code: int, name: str = "") -> SamkrError:
    """The error of a driver call that returned an error code: SE-V90 too little memory, else SE-V83."""
    if code == 2:
        return SamkrError(
            "SE-V90",
            "the GPU is out of memory",
            {"while": what},
            fix="close other programs that use the GPU, or use a smaller batch or input size",
        )
    return SamkrError(
        "SE-V83",
        "a CUDA call failed",
        {"call": what, "answer": name or code},
        fix="samkr-edge doctor",
    )


def raised_error(backend: str, what: str, error: Exception) -> SamkrError:
    """The error of a call that raised instead of returning, for example of a missing function; SE-V83."""
    fix = "update the NVIDIA driver" if backend == DRIVER else f'backend="{DRIVER}"   # it needs no package'
    return SamkrError(
        "SE-V83",
        "a CUDA call failed",
        {"call": what, "answer": reason_of(error), "backend": backend},
        fix=fix,
    )


def no_graphs(backend: str) -> SamkrError:
    """The error of a backend without CUDA graphs; SE-V99."""
    return SamkrError(
        "SE-V99",
        f"{backend} has no CUDA graphs, the backend {DRIVER!r} has them",
        fix=f'backend="{DRIVER}"',
    )


def free_bytes(device: Device) -> int | None:
    """What a build may use: where GPU and CPU share memory what the system calls available, else what the GPU has."""
    if device.shares_memory:
        return available_memory()
    cuda = open_cuda()
    try:
        with cuda.bound():
            return cuda.memory()[0]
    finally:
        cuda.close()
