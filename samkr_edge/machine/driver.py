"""The CUDA driver library, loaded by ctypes, or why it cannot be used.

TensorRT kills a process that has no GPU (``Runtime``) or fails with a riddle (``Builder``), so whatever uses it asks
``require_gpu`` first. This file needs the standard library alone: ``doctor`` asks it where packages are broken.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

from samkr_edge.errors import SamkrError, reason_of

LIBRARY = "libcuda.so.1"
# What is called of it here and in ``samkr_edge.machine.device``.
FUNCTIONS = (
    "cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceTotalMem_v2", "cuDriverGetVersion",
    "cuDeviceGetAttribute",
)  # fmt: skip
_STUB = 34  # CUDA_ERROR_STUB_LIBRARY


def load_driver() -> Any | None:
    """The CUDA driver library, initialised and with a GPU; None where there is none."""
    return _load_driver()[0]


def require_gpu() -> Any:
    """The CUDA driver library, or the reason why there is none.

    Raises:
        SamkrError: SE-V87 no driver, or no GPU visible to it.
    """
    driver, reason = _load_driver()
    if driver is None:
        raise SamkrError(
            "SE-V87",
            "there is no NVIDIA GPU that this process can use, so TensorRT was not used",
            {"reason": reason},
            fix="samkr-edge doctor   # or build for this machine: samkr-edge build MODEL.onnx --target cpu",
        )
    return driver


def why_no_gpu() -> str:
    """Why ``load_driver`` gives nothing; '' where it gives a driver."""
    return _load_driver()[1]


@cache
def _load_driver() -> tuple[Any | None, str]:
    return open_driver(ctypes.CDLL)


def open_driver(load: Callable[[str], Any]) -> tuple[Any | None, str]:
    """The driver library that ``load`` gives, initialised, or None and why it cannot be used.

    A library that is there may be the toolkit's stub, half of an update, or a mount of a container without its rest.
    """
    try:
        driver = load(LIBRARY)
    except OSError as error:
        if f"{LIBRARY}: cannot open shared object file" in str(error):
            return None, f"{LIBRARY} cannot be loaded: no NVIDIA driver is installed, or a container hides it"
        return None, f"{LIBRARY} is there but cannot be loaded: {reason_of(error)}"
    missing = [name for name in FUNCTIONS if not hasattr(driver, name)]
    if missing:
        return None, f"{LIBRARY} is there but is not an NVIDIA driver: it has no {missing[0]}"
    code = driver.cuInit(0)
    if code:
        stub = ": this is the toolkit's stub, not a driver" if code == _STUB else ""
        return None, f"cuInit failed with CUDA error {code}{stub}"
    count = ctypes.c_int(0)
    code = driver.cuDeviceGetCount(ctypes.byref(count))
    if code or not count.value:
        return None, f"the driver shows no GPU (CUDA error {code})" if code else "the driver shows no GPU"
    return driver, ""


def gpu_count() -> int:
    """GPUs that the driver shows to this process; asked of it, since TensorRT ends a process where there is none."""
    driver, count = load_driver(), ctypes.c_int(0)
    return 0 if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)) else count.value


def cuda_version(driver: Any) -> str | None:
    """The highest CUDA that the driver knows, ``12.8``. ``driver`` is what ``load_driver`` gives."""
    version = ctypes.c_int(0)
    if driver.cuDriverGetVersion(ctypes.byref(version)):
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"
