"""The CUDA driver API, called by ctypes or through cuda-python, with the same functions and arguments."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from samkr_edge.errors import SamkrError
from samkr_edge.machine.driver import require_gpu
from samkr_edge.runtime.cuda import cuda_error, raised_error

_NON_BLOCKING, _THREAD_LOCAL = 1, 1


class DriverCuda:
    """``samkr_edge.runtime.cuda.Cuda`` over one method, ``call``; arrays have any shape."""

    name = ""

    def __init__(self) -> None:
        self._device = self.call("cuDeviceGet", 0, out=ctypes.c_int)
        self._context = self.call("cuDevicePrimaryCtxRetain", self._device, out=ctypes.c_void_p)
        self._pinned: dict[int, Any] = {}

    def call(self, function: str, *arguments: Any, out: Any = None) -> Any:
        """Call a driver function without its result pointer; ``out`` is the result's ctypes type."""
        raise NotImplementedError

    @contextmanager
    def bound(self) -> Iterator[None]:
        # It stays current afterwards: PyTorch and the CUDA runtime would choose it too.
        self.call("cuCtxSetCurrent", self._context)
        yield

    def alloc(self, size: int) -> int:
        return self.call("cuMemAlloc", size, out=ctypes.c_uint64)

    def free(self, address: int) -> None:
        self.call("cuMemFree", address)

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = self.call("cuMemHostAlloc", size, 0, out=ctypes.c_void_p)
        block = (ctypes.c_uint8 * size).from_address(address)
        array = np.frombuffer(block, dtype).reshape(shape)
        array[...] = 0
        self._pinned[array.ctypes.data] = block
        return array

    def free_pinned(self, array: np.ndarray) -> None:
        address = array.ctypes.data
        if self._pinned.pop(address, None) is not None:
            self.call("cuMemFreeHost", address)

    def stream(self) -> int:
        return self.call("cuStreamCreate", _NON_BLOCKING, out=ctypes.c_void_p)

    def free_stream(self, stream: int) -> None:
        self.call("cuStreamDestroy", stream)

    def to_device(self, address: int, array: np.ndarray, stream: int) -> None:
        self.call("cuMemcpyHtoDAsync", address, array.ctypes.data, array.nbytes, stream)

    def to_host(self, array: np.ndarray, address: int, stream: int) -> None:
        self.call("cuMemcpyDtoHAsync", array.ctypes.data, address, array.nbytes, stream)

    def synchronize(self, stream: int) -> None:
        self.call("cuStreamSynchronize", stream)

    def event(self) -> int:
        return self.call("cuEventCreate", 0, out=ctypes.c_void_p)

    def record(self, event: int, stream: int) -> None:
        self.call("cuEventRecord", event, stream)

    def elapsed_ms(self, start: int, end: int) -> float:
        self.call("cuEventSynchronize", end)
        return self.call("cuEventElapsedTime", start, end, out=ctypes.c_float)

    def free_event(self, event: int) -> None:
        self.call("cuEventDestroy", event)

    def begin_capture(self, stream: int) -> None:
        # Thread-local: other threads may allocate meanwhile.
        self.call("cuStreamBeginCapture", stream, _THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        graph = self.call("cuStreamEndCapture", stream, out=ctypes.c_void_p)
        try:
            made = self.call("cuGraphInstantiateWithFlags", graph, 0, out=ctypes.c_void_p)
        except SamkrError:
            with suppress(SamkrError):  # the first error is the one to report
                self.call("cuGraphDestroy", graph)
            raise
        self.call("cuGraphDestroy", graph)
        return made

    def launch(self, graph: int, stream: int) -> None:
        self.call("cuGraphLaunch", graph, stream)

    def free_graph(self, graph: int) -> None:
        self.call("cuGraphExecDestroy", graph)

    def memory(self) -> tuple[int, int]:
        raise NotImplementedError

    def close(self) -> None:
        if self._context:
            self.call("cuDevicePrimaryCtxRelease", self._device)
            self._context = 0


class CtypesCuda(DriverCuda):
    """libcuda by ctypes. ``library`` is for tests."""

    name = "driver"
    # The plain names of these are their 32-bit or pre-CUDA-4 forms, kept for old programs.
    SECOND = frozenset(
        {
            "cuMemAlloc", "cuMemFree", "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuStreamDestroy", "cuEventDestroy",
            "cuStreamBeginCapture", "cuDevicePrimaryCtxRelease", "cuMemGetInfo",
        }
    )  # fmt: skip

    # What is always called, and what only for graphs.
    ALWAYS = (
        "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease", "cuCtxSetCurrent", "cuMemGetInfo",
        "cuMemAlloc", "cuMemFree", "cuMemHostAlloc", "cuMemFreeHost", "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync",
        "cuStreamCreate", "cuStreamDestroy", "cuStreamSynchronize", "cuEventCreate", "cuEventDestroy", "cuEventRecord",
        "cuEventSynchronize", "cuEventElapsedTime",
    )  # fmt: skip
    GRAPHS = (
        "cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "cuGraphLaunch", "cuGraphDestroy",
        "cuGraphExecDestroy",
    )  # fmt: skip

    def __init__(self, library: Any = None) -> None:
        self._library = library or require_gpu()
        for function in self.ALWAYS:
            self._symbol(function)  # missing ones show now, and not when something is freed
        super().__init__()

    def begin_capture(self, stream: int) -> None:
        for function in self.GRAPHS:
            self._symbol(function)
        super().begin_capture(stream)

    def call(self, function: str, *arguments: Any, out: Any = None) -> Any:
        result = out() if out else None
        # Addresses and sizes are 64-bit; the one plain int among the inputs, a flag, is passed as such as well, which
        # every 64-bit calling convention allows.
        given: list[Any] = [
            a if isinstance(a, ctypes._SimpleCData) else ctypes.c_uint64(a) for a in arguments
        ]
        if result is not None:
            # The result pointer comes first, except here.
            given.insert(1 if function == "cuStreamEndCapture" else 0, ctypes.byref(result))
        self._do(function, *given)
        return None if result is None else (result.value or 0)

    def memory(self) -> tuple[int, int]:
        free, total = ctypes.c_size_t(0), ctypes.c_size_t(0)
        self._do("cuMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def _symbol(self, function: str) -> Any:
        try:
            return getattr(self._library, function + ("_v2" if function in self.SECOND else ""))
        except AttributeError as error:  # a function that is newer than this driver
            raise raised_error(self.name, function, error) from error

    def _do(self, function: str, *given: Any) -> None:
        code = self._symbol(function)(*given)
        if code:
            raise cuda_error(function, code, self._name_of(code))

    def _name_of(self, code: int) -> str:
        text = ctypes.c_char_p()
        try:
            self._library.cuGetErrorName(code, ctypes.byref(text))
        except AttributeError:
            return ""  # only the number is known
        return (text.value or b"").decode("ascii", "replace")


class CudaPython(DriverCuda):
    """cuda-python's ``cuda.bindings.driver``: every call gives (code, result), or raises.

    It raises where a function is not in the driver, where it finds no driver, and where the bindings are older than a
    function.
    """

    name = "cuda-python"

    def __init__(self) -> None:
        require_gpu()  # without a driver the package is not to blame
        from cuda.bindings import driver

        driver.cuInit(0)  # the first call looks for the driver, in other places than the dynamic linker does
        self._driver = driver
        super().__init__()

    def call(self, function: str, *arguments: Any, out: Any = None) -> Any:
        # CUDA 12 gave the short name to the form with flags.
        function = "cuGraphInstantiate" if function == "cuGraphInstantiateWithFlags" else function
        results = self._do(function, *arguments)
        if out is None:
            return None
        return float(results[0]) if out is ctypes.c_float else int(results[0])

    def memory(self) -> tuple[int, int]:
        free, total = self._do("cuMemGetInfo")
        return int(free), int(total)

    def _do(self, function: str, *arguments: Any) -> list[Any]:
        """What the function returns next to its code."""
        try:
            if function == "cuStreamBeginCapture":
                arguments = (arguments[0], self._driver.CUstreamCaptureMode(arguments[1]))
            code, *results = getattr(self._driver, function)(*arguments)
        except Exception as error:  # RuntimeError, AttributeError, and cuda-pathfinder's own
            raise raised_error(self.name, function, error) from error
        if int(code):
            raise cuda_error(function, int(code), str(getattr(code, "name", code)))
        return results
