"""pycuda, on the primary context; for processes that use it already."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from samkr_edge.device import require_gpu


class PyCuda:
    """:class:`samkr_edge.runtime.cuda.Cuda` over pycuda. It hands out objects; here they are kept by their numbers."""

    name = "pycuda"

    def __init__(self) -> None:
        import pycuda.driver as driver

        require_gpu()
        driver.init()
        self._driver = driver
        self._context = driver.Device(0).retain_primary_context()
        self._bound = threading.local()
        self._kept: dict[int, Any] = {}

    def bind(self) -> None:
        if not getattr(self._bound, "done", False):
            self._context.push()
            self._bound.done = True

    def alloc(self, size: int) -> int:
        block = self._driver.mem_alloc(size)
        self._kept[int(block)] = block
        return int(block)

    def free(self, address: int) -> None:
        self._kept.pop(address).free()

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        array: np.ndarray = self._driver.pagelocked_zeros(shape, dtype)
        return array

    def free_pinned(self, array: np.ndarray) -> None:
        """pycuda frees it with the array."""

    def stream(self) -> int:
        stream = self._driver.Stream()
        self._kept[stream.handle] = stream
        return int(stream.handle)

    def free_stream(self, stream: int) -> None:
        self._kept.pop(stream, None)

    def to_device(self, address: int, array: np.ndarray, stream: int) -> None:
        self._driver.memcpy_htod_async(address, array, self._kept[stream])

    def to_host(self, array: np.ndarray, address: int, stream: int) -> None:
        self._driver.memcpy_dtoh_async(array, address, self._kept[stream])

    def synchronize(self, stream: int) -> None:
        self._kept[stream].synchronize()

    def event(self) -> Any:
        return self._driver.Event()

    def record(self, event: Any, stream: int) -> None:
        event.record(self._kept[stream])

    def elapsed_ms(self, start: Any, end: Any) -> float:
        end.synchronize()
        return float(start.time_till(end))

    def free_event(self, event: Any) -> None:
        """pycuda frees it with the object."""

    def begin_capture(self, stream: int) -> None:
        self._kept[stream].begin_capture()

    def end_capture(self, stream: int) -> Any:
        return self._kept[stream].end_capture().instantiate()

    def launch(self, graph: Any, stream: int) -> None:
        graph.launch(self._kept[stream])

    def free_graph(self, graph: Any) -> None:
        """pycuda frees it with the object."""

    def memory(self) -> tuple[int, int]:
        free, total = self._driver.mem_get_info()
        return int(free), int(total)

    def close(self) -> None:
        self._kept.clear()
        if getattr(self._bound, "done", False):
            self._context.pop()
            self._bound.done = False
        self._context.detach()
