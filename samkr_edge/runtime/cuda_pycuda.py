"""pycuda, on the primary context; for processes that use it already.

Two things decide the form of this file. pycuda keeps a stack of contexts for every thread, takes the context of an
allocation from there, and ends the process when a thread ends with a context on its stack: so :meth:`PyCuda.bound`
pushes and pops, always in pairs. And it has no CUDA graphs (its pull request 343 is open), so the runner does without.

Source: pycuda's documentation of ``pycuda.driver`` and its src/cpp/cuda.hpp (context_stack, context_dependent).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from samkr_edge.device import require_gpu
from samkr_edge.runtime.cuda import cuda_error

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY


@cache
def _primary_context(driver: Any) -> Any:
    """The one context of this process, retained once: pycuda lets go of it when the process ends."""
    driver.init()
    return driver.Device(0).retain_primary_context()


class PyCuda:
    """:class:`samkr_edge.runtime.cuda.Cuda` over pycuda. It hands out objects; here they are kept by their numbers."""

    name = "pycuda"

    def __init__(self) -> None:
        import pycuda.driver as driver

        require_gpu()
        self._driver = driver
        self._context = _primary_context(driver)
        self._blocks: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}

    @contextmanager
    def bound(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()

    def alloc(self, size: int) -> int:
        with self._calling("mem_alloc"):
            block = self._driver.mem_alloc(size)
        self._blocks[int(block)] = block
        return int(block)

    def free(self, address: int) -> None:
        self._blocks.pop(address).free()

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        with self._calling("pagelocked_zeros"):
            array: np.ndarray = self._driver.pagelocked_zeros(shape, dtype)
        return array

    def free_pinned(self, array: np.ndarray) -> None:
        allocation: Any = array.base  # a PagelockedHostAllocation
        allocation.free()

    def stream(self) -> int:
        stream = self._driver.Stream(_NON_BLOCKING)
        self._streams[int(stream.handle)] = stream
        return int(stream.handle)

    def free_stream(self, stream: int) -> None:
        del self._streams[stream]

    def to_device(self, address: int, array: np.ndarray, stream: int) -> None:
        self._driver.memcpy_htod_async(address, array, self._streams[stream])

    def to_host(self, array: np.ndarray, address: int, stream: int) -> None:
        self._driver.memcpy_dtoh_async(array, address, self._streams[stream])

    def synchronize(self, stream: int) -> None:
        with self._calling("Stream.synchronize"):
            self._streams[stream].synchronize()

    def event(self) -> Any:
        return self._driver.Event()

    def record(self, event: Any, stream: int) -> None:
        event.record(self._streams[stream])

    def elapsed_ms(self, start: Any, end: Any) -> float:
        end.synchronize()
        return float(start.time_till(end))

    def free_event(self, event: Any) -> None:
        """pycuda frees it with the object."""

    def begin_capture(self, stream: int) -> None:
        raise NotImplementedError("pycuda has no CUDA graphs; cuda-python has them: pip install cuda-python")

    def end_capture(self, stream: int) -> Any:
        raise NotImplementedError

    def launch(self, graph: Any, stream: int) -> None:
        raise NotImplementedError

    def free_graph(self, graph: Any) -> None:
        raise NotImplementedError

    def memory(self) -> tuple[int, int]:
        free, total = self._driver.mem_get_info()
        return int(free), int(total)

    def close(self) -> None:
        self._blocks.clear()
        self._streams.clear()

    @contextmanager
    def _calling(self, what: str) -> Iterator[None]:
        """pycuda's exceptions as ours."""
        try:
            yield
        except self._driver.MemoryError as error:
            raise cuda_error(what, _OUT_OF_MEMORY) from error
        except self._driver.Error as error:
            raise cuda_error(what, 0, str(error).splitlines()[0]) from error
