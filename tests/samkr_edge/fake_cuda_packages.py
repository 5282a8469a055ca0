"""Stand-ins for the packages that know CUDA, over the fake driver: cuda-python and pycuda.

Tests put them in by fixtures (conftest); what is installed in the environment is never used.
"""

from __future__ import annotations

import ctypes
import enum
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from fake_driver import Driver

# What a test of the TensorRT half must not find by chance, and the modules that our code imports from it.
PACKAGES = {
    "cuda": ("cuda.bindings", "cuda.bindings.driver"),
    "pycuda": ("pycuda.driver",),
    "tensorrt": (),
    "tensorrt_rtx": (),
    "pynvml": (),
}


class CUresult(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_INVALID_HANDLE = 400
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900


class CUstreamCaptureMode(enum.IntEnum):
    CU_STREAM_CAPTURE_MODE_GLOBAL = 0
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1


class Handle:
    """CUdeviceptr, CUstream and the like: a number to be asked for by ``int``."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __int__(self) -> int:
        return self.value


class DynamicLibNotFoundError(RuntimeError):
    """cuda-pathfinder's, which cuda-bindings 13 raises from every call where there is no driver."""


# Function of cuda.bindings.driver -> function of libcuda, number of arguments, types of the results, place of a result
# pointer among the arguments.
CALLS: dict[str, tuple[str, int, tuple[Any, ...], int]] = {
    "cuDeviceGet": ("cuDeviceGet", 1, (ctypes.c_int,), 0),
    "cuDevicePrimaryCtxRetain": ("cuDevicePrimaryCtxRetain", 1, (ctypes.c_void_p,), 0),
    "cuDevicePrimaryCtxRelease": ("cuDevicePrimaryCtxRelease_v2", 1, (), 0),
    "cuCtxSetCurrent": ("cuCtxSetCurrent", 1, (), 0),
    "cuMemGetInfo": ("cuMemGetInfo_v2", 0, (ctypes.c_size_t, ctypes.c_size_t), 0),
    "cuMemAlloc": ("cuMemAlloc_v2", 1, (ctypes.c_uint64,), 0),
    "cuMemFree": ("cuMemFree_v2", 1, (), 0),
    "cuMemHostAlloc": ("cuMemHostAlloc", 2, (ctypes.c_void_p,), 0),
    "cuMemFreeHost": ("cuMemFreeHost", 1, (), 0),
    "cuMemcpyHtoDAsync": ("cuMemcpyHtoDAsync_v2", 4, (), 0),
    "cuMemcpyDtoHAsync": ("cuMemcpyDtoHAsync_v2", 4, (), 0),
    "cuStreamCreate": ("cuStreamCreate", 1, (ctypes.c_void_p,), 0),
    "cuStreamDestroy": ("cuStreamDestroy_v2", 1, (), 0),
    "cuStreamSynchronize": ("cuStreamSynchronize", 1, (), 0),
    "cuStreamBeginCapture": ("cuStreamBeginCapture_v2", 2, (), 0),
    "cuStreamEndCapture": ("cuStreamEndCapture", 1, (ctypes.c_void_p,), 1),
    "cuEventCreate": ("cuEventCreate", 1, (ctypes.c_void_p,), 0),
    "cuEventDestroy": ("cuEventDestroy_v2", 1, (), 0),
    "cuEventRecord": ("cuEventRecord", 2, (), 0),
    "cuEventSynchronize": ("cuEventSynchronize", 1, (), 0),
    "cuEventElapsedTime": ("cuEventElapsedTime", 2, (ctypes.c_float,), 0),
    "cuGraphInstantiate": ("cuGraphInstantiateWithFlags", 2, (ctypes.c_void_p,), 0),
    "cuGraphLaunch": ("cuGraphLaunch", 2, (), 0),
    "cuGraphDestroy": ("cuGraphDestroy", 1, (), 0),
    "cuGraphExecDestroy": ("cuGraphExecDestroy", 1, (), 0),
}


class FakeCudaPython(ModuleType):
    """``cuda.bindings.driver`` over the fake driver: names, numbers of arguments and results of cuda-bindings 13.

    Attributes:
        finds_driver: False is the package without its driver: every call raises, as the real one's does.
        not_in_driver: functions that the driver is too old for, by the symbol that the package asks for:
            ``{"cuEventElapsedTime": "cuEventElapsedTime_v2"}`` is cuda-python 13 on a driver of CUDA 12.6.
        not_in_package: functions that the package is too old for.
    """

    CUresult, CUstreamCaptureMode = CUresult, CUstreamCaptureMode

    def __init__(self, driver: Driver) -> None:
        super().__init__("cuda.bindings.driver")
        self.driver = driver
        self.finds_driver = True
        self.not_in_driver: dict[str, str] = {}
        self.not_in_package: set[str] = set()

    def __getattr__(self, name: str) -> Callable[..., tuple[Any, ...]]:
        if name == "cuInit":
            return lambda flags: self._looked_up("cuInit") or (CUresult.CUDA_SUCCESS,)
        if name not in CALLS or name in self.not_in_package:
            raise AttributeError(f"module 'cuda.bindings.driver' has no attribute {name!r}")
        return lambda *arguments: self._call(name, arguments)

    def _looked_up(self, name: str) -> None:
        if not self.finds_driver:
            raise DynamicLibNotFoundError(
                '"cuda" is an NVIDIA driver library and can only be found via system search.'
            )
        if name in self.not_in_driver:
            raise RuntimeError(f'Function "{self.not_in_driver[name]}" not found')

    def _call(self, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        self._looked_up(name)
        symbol, count, kinds, place = CALLS[name]
        if len(arguments) != count:
            raise TypeError(f"{name}() takes exactly {count} positional arguments ({len(arguments)} given)")
        if name == "cuStreamBeginCapture" and not isinstance(arguments[1], CUstreamCaptureMode):
            raise TypeError("Argument 'mode' has incorrect type (expected CUstreamCaptureMode)")
        results = [kind() for kind in kinds]
        given: list[Any] = [ctypes.c_uint64(int(argument)) for argument in arguments]
        given[place:place] = [ctypes.byref(result) for result in results]
        code = CUresult(getattr(self.driver, symbol)(*given))
        # What is no number of bytes, pointer to the host or time is an object.
        plain = name in ("cuMemGetInfo", "cuMemHostAlloc", "cuEventElapsedTime")
        return (code, *((r.value if plain else Handle(r.value or 0)) for r in results))


# -- pycuda ------------------------------------------------------------------------------------------------------


class PyCudaError(Exception):
    pass


class OutOfMemory(PyCudaError):
    pass


class FakePyCuda(ModuleType):
    """``pycuda.driver`` over the fake driver's memory.

    Attributes:
        stacks: thread -> its contexts.
        live: what was made and not freed.
        broken: what every call raises from now on, as after a kernel that failed.
    """

    Error, MemoryError = PyCudaError, OutOfMemory

    def __init__(self, driver: Driver) -> None:
        super().__init__("pycuda.driver")
        self.driver = driver
        self.stacks: dict[int, list[Any]] = {}
        self.live: set[Any] = set()
        self.initialised = 0
        self.broken: Exception | None = None

    def stack(self) -> list[Any]:
        return self.stacks.setdefault(threading.get_ident(), [])

    def need_context(self) -> None:
        if self.broken is not None:
            raise self.broken
        if not self.stack():
            raise PyCudaError(
                "explicit_context_dependent failed: invalid device context - no currently active context?"
            )

    def init(self, flags: int = 0) -> None:
        self.initialised += 1

    def Device(self, number: int) -> Any:
        assert (self.initialised, number) == (1, 0)
        return _Device(self)

    def mem_alloc(self, size: int) -> Any:
        self.need_context()
        if size > self.driver.free_bytes:
            raise OutOfMemory("cuMemAlloc failed: out of memory")
        return _Block(self, np.zeros(size, np.uint8))

    def pagelocked_zeros(self, shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
        self.need_context()
        return _Pinned.of(_Block(self, np.zeros(shape, dtype)))

    def Stream(self, flags: int = 0) -> Any:
        self.need_context()
        return _Stream(self, flags)

    def Event(self, flags: int = 0) -> Any:
        self.need_context()
        return _Event(self)

    def memcpy_htod_async(self, dest: int, src: np.ndarray, stream: Any = None) -> None:
        self.need_context()
        self.driver._copy(dest, src.ctypes.data, src.nbytes)

    def memcpy_dtoh_async(self, dest: np.ndarray, src: int, stream: Any = None) -> None:
        self.need_context()
        self.driver._copy(dest.ctypes.data, src, dest.nbytes)

    def mem_get_info(self) -> tuple[int, int]:
        self.need_context()
        return 5, 8


class _Device:
    def __init__(self, module: FakePyCuda) -> None:
        self.module = module

    def retain_primary_context(self) -> Any:
        return _Context(self.module)


class _Context:
    def __init__(self, module: FakePyCuda) -> None:
        self.module = module

    def push(self) -> None:
        if self.module.broken is not None:
            raise self.module.broken
        self.module.stack().append(self)
        self.module.driver.current.context = 77  # the driver's own notion of it, which TensorRT goes by

    def pop(self) -> None:
        self.module.stack().pop()
        self.module.driver.current.context = 77 if self.module.stack() else 0
        if self.module.broken is not None:
            raise self.module.broken


class _Block:
    def __init__(self, module: FakePyCuda, array: np.ndarray) -> None:
        self.module, self.array = module, array
        module.live.add(self)

    def __int__(self) -> int:
        return int(self.array.ctypes.data)

    def free(self) -> None:
        self.module.need_context()
        self.module.live.remove(self)


class _Pinned(np.ndarray):
    """pycuda's arrays have the allocation as their ``base``."""

    owner: Any

    @staticmethod
    def of(block: _Block) -> np.ndarray:
        array = block.array.view(_Pinned)
        array.owner = block
        return array

    @property
    def base(self) -> Any:
        return self.owner


class _Stream:
    handles = iter(range(1000, 10_000))

    def __init__(self, module: FakePyCuda, flags: int) -> None:
        assert flags == 1, "a blocking stream waits for whatever uses the legacy one"
        self.module, self.handle = module, next(self.handles)

    def synchronize(self) -> None:
        self.module.need_context()


class _Event:
    def __init__(self, module: FakePyCuda) -> None:
        self.module, self.ms = module, 0.0

    def record(self, stream: Any = None) -> Any:
        self.module.need_context()
        self.ms = self.module.driver.clock_ms
        return self

    def synchronize(self) -> Any:
        self.module.need_context()
        return self

    def time_till(self, event: Any) -> float:
        self.module.need_context()
        return float(event.ms - self.ms)
