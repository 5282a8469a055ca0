"""CUDA memory, streams, events and graphs through one small interface.

Three ways to the same driver: cuda-python, pycuda, or ctypes, which needs nothing but the driver. All use the device's
primary context, as PyTorch and the CUDA runtime do: a context of one's own (``pycuda.autoinit``) ends in "invalid
resource handle" as soon as two libraries share a process.
"""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from samkr_edge.errors import SamkrError

# name -> (what must be importable, "module:class"), in the order in which they are tried.
BACKENDS: dict[str, tuple[str | None, str]] = {
    "cuda-python": ("cuda.bindings.driver", "samkr_edge.runtime.cuda_driver:CudaPython"),
    "pycuda": ("pycuda.driver", "samkr_edge.runtime.cuda_pycuda:PyCuda"),
    "driver": (None, "samkr_edge.runtime.cuda_driver:CtypesCuda"),
}


class Cuda(Protocol):
    """GPU 0. Addresses and handles are integers; sizes are bytes; copies and launches are asynchronous.

    Every other method is called within :meth:`bound`, and so is TensorRT.
    """

    name: str

    def bound(self) -> AbstractContextManager[None]:
        """``with cuda.bound():`` the primary context is the calling thread's current one."""
        ...

    def alloc(self, size: int) -> int:
        """Device memory."""

    def free(self, address: int) -> None: ...

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Page-locked host memory, which copies run through at full speed and without blocking."""

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
        """What is queued from now on is recorded, not done; events cannot be."""

    def end_capture(self, stream: int) -> Any:
        """What was queued since :meth:`begin_capture`, as a graph to launch; also after a failure."""

    def launch(self, graph: Any, stream: int) -> None: ...

    def free_graph(self, graph: Any) -> None: ...

    def memory(self) -> tuple[int, int]:
        """Bytes free and in all."""

    def close(self) -> None:
        """Let the primary context go."""


def open_cuda(backend: str | None = None) -> Cuda:
    """The first backend that is installed, or the one named."""
    for name, (needed, target) in BACKENDS.items():
        if backend not in (None, name):
            continue
        if needed is not None and not _importable(needed):
            continue
        module, _, attribute = target.partition(":")
        cuda: Cuda = getattr(importlib.import_module(module), attribute)()
        return cuda
    raise ValueError(f"CUDA backend {backend!r} is not one of {', '.join(BACKENDS)}, or not installed")


def cuda_error(what: str, code: int, name: str = "") -> SamkrError:
    """The error of a failed driver call; SE-V90."""
    if code == 2:
        return SamkrError(
            "SE-V90",
            "the GPU's memory is full",
            [f"while      {what}"],
            fix="close what else uses the GPU, or take a smaller batch or input size",
        )
    return SamkrError("SE-V90", "a CUDA call failed", [f"call       {what}", f"answer     {name or code}"])


def _importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except Exception:  # ImportError, and OSError where a library is missing
        return False
    return True
