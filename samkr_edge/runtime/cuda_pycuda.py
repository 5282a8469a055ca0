"""pycuda, on the primary context; for processes that use it already.

Two things shape this file. pycuda keeps a stack of contexts per thread, takes an allocation's context from it, and
aborts the process when a thread ends with a context on its stack: so ``PyCuda.bound`` pushes and pops in pairs.
And it has no CUDA graphs (its pull request 343 is open), so the runner does without.

Source: pycuda's documentation of ``pycuda.driver`` and its src/cpp/cuda.hpp (context_stack, context_dependent).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import numpy as np

from samkr_edge.errors import SamkrError
from samkr_edge.machine.driver import require_gpu
from samkr_edge.runtime.cuda import cuda_error, no_graphs, raised_error

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY


@cache
def _primary_context(driver: Any) -> Any:
    """The one context of this process, retained once; pycuda releases it when the process ends."""
    driver.init()
    return driver.Device(0).retain_primary_context()


class PyCuda:
    """``samkr_edge.runtime.cuda.Cuda`` over pycuda. pycuda hands out objects; they are kept here by number.

    Arrays have any shape.
    """

    name = "pycuda"

    def __init__(self) -> None:
        require_gpu()  # without a driver pycuda cannot even be imported
        import pycuda.driver as driver

        self._driver = driver
        self._context = _primary_context(driver)
        self._blocks: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}

    @contextmanager
    def bound(self) -> Iterator[None]:
        with self._calling("Context.push"):
            self._context.push()
        try:
            yield
        except BaseException:
            with suppress(SamkrError):  # the first error is the one to report
                self._pop()
            raise
        self._pop()

    def _pop(self) -> None:
        with self._calling("Context.pop"):
            self._context.pop()

    def alloc(self, size: int) -> int:
        with self._calling("mem_alloc"):
            block = self._driver.mem_alloc(size)
            address = int(block)
        self._blocks[address] = block
        return address

    def free(self, address: int) -> None:
        block = self._blocks.pop(address)
        with self._calling("DeviceAllocation.free"):
            block.free()

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        with self._calling("pagelocked_zeros"):
            array: np.ndarray = self._driver.pagelocked_zeros(shape, dtype)
        return array

    def free_pinned(self, array: np.ndarray) -> None:
        allocation: Any = array.base  # a PagelockedHostAllocation
        with self._calling("PagelockedHostAllocation.free"):
            allocation.free()

    def stream(self) -> int:
        with self._calling("Stream"):
            stream = self._driver.Stream(_NON_BLOCKING)
            handle = int(stream.handle)
        self._streams[handle] = stream
        return handle

    def free_stream(self, stream: int) -> None:
        del self._streams[stream]

    def to_device(self, address: int, array: np.ndarray, stream: int) -> None:
        queue = self._streams[stream]
        with self._calling("memcpy_htod_async"):
            self._driver.memcpy_htod_async(address, array, queue)

    def to_host(self, array: np.ndarray, address: int, stream: int) -> None:
        queue = self._streams[stream]
        with self._calling("memcpy_dtoh_async"):
            self._driver.memcpy_dtoh_async(array, address, queue)

    def synchronize(self, stream: int) -> None:
        queue = self._streams[stream]
        with self._calling("Stream.synchronize"):
            queue.synchronize()

    def event(self) -> Any:
        with self._calling("Event"):
            return self._driver.Event()

    def record(self, event: Any, stream: int) -> None:
        queue = self._streams[stream]
        with self._calling("Event.record"):
            event.record(queue)

    def elapsed_ms(self, start: Any, end: Any) -> float:
        with self._calling("Event.synchronize"):
            end.synchronize()
        with self._calling("Event.time_till"):
            return float(start.time_till(end))

    def free_event(self, event: Any) -> None:
        """pycuda frees it with the object."""

    def begin_capture(self, stream: int) -> None:
        raise no_graphs(self.name)

    def end_capture(self, stream: int) -> Any:
        raise no_graphs(self.name)

    def launch(self, graph: Any, stream: int) -> None:
        raise no_graphs(self.name)

    def free_graph(self, graph: Any) -> None:
        raise no_graphs(self.name)

    def memory(self) -> tuple[int, int]:
        with self._calling("mem_get_info"):
            free, total = self._driver.mem_get_info()
        return int(free), int(total)

    def close(self) -> None:
        self._blocks.clear()
        self._streams.clear()

    @contextmanager
    def _calling(self, what: str) -> Iterator[None]:
        """Raise our errors for pycuda's, and for the AttributeError or TypeError of another version of it."""
        try:
            yield
        except self._driver.MemoryError as error:
            raise cuda_error(what, _OUT_OF_MEMORY) from error
        except Exception as error:
            raise raised_error(self.name, what, error) from error
