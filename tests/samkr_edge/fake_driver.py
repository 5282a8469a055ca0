"""A CUDA driver for tests without a GPU: one GPU whose memory is that of the process.

A call from a thread without a current context is an error.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any


class Driver:
    """libcuda for one GPU, in host memory. ``live`` counts what was handed out and not given back.

    Attributes:
        knows_cuda: the highest CUDA that it knows: 12080 is 12.8.
        missing: functions that it does not have.
    """

    missing: frozenset[str] = frozenset()

    def __init__(
        self, name: bytes = b"NVIDIA GeForce RTX 4090", capability: tuple[int, int] = (8, 9)
    ) -> None:
        self.knows_cuda = 12080
        self.gpu, self.capability = name, capability
        self.blocks: dict[int, Any] = {}
        self.handles: dict[int, Any] = {}
        self.current = threading.local()
        self.retained = 0
        self.clock_ms = 0.0
        self.capturing: dict[int, list[Callable[[], None]]] = {}
        self.launches = 0
        self.copy_ms = 0.0
        self.refuse_capture = False
        self.free_bytes = 8 << 30
        self._next = 1

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("cu") and name in object.__getattribute__(self, "missing"):
            raise AttributeError(f"/usr/lib/libcuda.so.1: undefined symbol: {name}")
        return object.__getattribute__(self, name)

    @property
    def live(self) -> int:
        return len(self.blocks) + len(self.handles) + self.retained

    def _handle(self, out: Any, content: Any = None) -> int:
        self._next += 1
        self.handles[self._next] = content
        out._obj.value = self._next
        return 0

    def _block(self, out: Any, size: Any) -> int:
        if size.value > self.free_bytes:
            return 2
        block = (ctypes.c_uint8 * max(1, size.value))()
        self.blocks[ctypes.addressof(block)] = block
        out._obj.value = ctypes.addressof(block)
        return 0

    def queue(self, stream: int, operation: Callable[[], None]) -> None:
        if stream in self.capturing:
            self.capturing[stream].append(operation)
        else:
            operation()

    def _bound(self) -> bool:
        return bool(getattr(self.current, "context", 0))

    def cuInit(self, flags: int) -> int:
        return 0

    def cuDeviceGetCount(self, out: Any) -> int:
        out._obj.value = 1
        return 0

    def cuDeviceGet(self, out: Any, index: Any) -> int:
        out._obj.value = 0
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:
        name.value = self.gpu
        return 0

    def cuDeviceTotalMem_v2(self, out: Any, device: Any) -> int:
        out._obj.value = 24 << 30
        return 0

    def cuDriverGetVersion(self, out: Any) -> int:
        out._obj.value = self.knows_cuda
        return 0

    def cuDeviceGetAttribute(self, out: Any, number: int, device: Any) -> int:
        out._obj.value = {16: 128, 18: 0, 75: self.capability[0], 76: self.capability[1]}[number]
        return 0

    def cuDevicePrimaryCtxRetain(self, out: Any, device: Any) -> int:
        self.retained += 1
        out._obj.value = 77
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, device: Any) -> int:
        self.retained -= 1
        return 0

    def cuCtxSetCurrent(self, context: Any) -> int:
        self.current.context = context.value
        return 0

    def cuMemGetInfo_v2(self, free: Any, total: Any) -> int:
        free._obj.value, total._obj.value = self.free_bytes, 24 << 30
        return 0 if self._bound() else 201

    def cuMemAlloc_v2(self, out: Any, size: Any) -> int:
        return self._block(out, size) if self._bound() else 201

    def cuMemFree_v2(self, address: Any) -> int:
        return 0 if self.blocks.pop(address.value, None) is not None else 1

    def cuMemHostAlloc(self, out: Any, size: Any, flags: Any) -> int:
        return self._block(out, size) if self._bound() else 201

    cuMemFreeHost = cuMemFree_v2

    def cuMemcpyHtoDAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> int:
        if not self._bound():
            return 201
        self.queue(stream.value, lambda: self._copy(to.value, source.value, size.value))
        return 0

    cuMemcpyDtoHAsync_v2 = cuMemcpyHtoDAsync_v2

    def _copy(self, to: int, source: int, size: int) -> None:
        ctypes.memmove(to, source, size)
        self.clock_ms += self.copy_ms

    def cuStreamCreate(self, out: Any, flags: Any) -> int:
        return self._handle(out)

    def cuEventCreate(self, out: Any, flags: Any) -> int:
        return self._handle(out)

    def cuStreamDestroy_v2(self, handle: Any) -> int:
        del self.handles[handle.value]
        return 0

    cuEventDestroy_v2 = cuGraphDestroy = cuGraphExecDestroy = cuStreamDestroy_v2

    def cuStreamSynchronize(self, stream: Any) -> int:
        return 0 if self._bound() else 201

    def cuEventSynchronize(self, event: Any) -> int:
        return 0

    def cuEventRecord(self, event: Any, stream: Any) -> int:
        # In a capture it becomes an edge of the graph, and has no time.
        self.handles[event.value] = None if stream.value in self.capturing else self.clock_ms
        return 0 if self._bound() else 201

    def cuEventElapsedTime(self, out: Any, start: Any, end: Any) -> int:
        if None in (self.handles[start.value], self.handles[end.value]):
            return 400
        out._obj.value = self.handles[end.value] - self.handles[start.value]
        return 0

    def cuStreamBeginCapture_v2(self, stream: Any, mode: Any) -> int:
        if self.refuse_capture:
            return 900
        self.capturing[stream.value] = []
        return 0

    def cuStreamEndCapture(self, stream: Any, out: Any) -> int:
        return self._handle(out, self.capturing.pop(stream.value, []))

    def cuGraphInstantiateWithFlags(self, out: Any, graph: Any, flags: Any) -> int:
        return self._handle(out, self.handles[graph.value])

    def cuGraphLaunch(self, graph: Any, stream: Any) -> int:
        self.launches += 1
        for operation in self.handles[graph.value]:
            operation()
        return 0

    def cuGetErrorName(self, code: int, out: Any) -> int:
        out._obj.value = {2: b"CUDA_ERROR_OUT_OF_MEMORY", 201: b"CUDA_ERROR_INVALID_CONTEXT"}.get(
            code, b"CUDA_ERROR"
        )
        return 0
