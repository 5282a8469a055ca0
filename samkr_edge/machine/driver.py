"""The CUDA driver library, loaded by ctypes, or why it cannot be used.

Without a GPU, TensorRT ends the process (``Runtime``) or fails with an obscure error (``Builder``), so ``require_gpu``
is called before it is used. This file needs only the standard library: ``doctor`` uses it where packages are broken.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

from samkr_edge.errors import SamkrError, reason_of

LIBRARY = "libcuda.so.1"
# Its functions that are called here and in ``samkr_edge.machine.device``.
FUNCTIONS = (
    "cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceTotalMem_v2", "cuDriverGetVersion",
    "cuDeviceGetAttribute",
)  # fmt: skip
_STUB = 34  # CUDA_ERROR_STUB_LIBRARY


def load_driver() -> Any | None:
    """The CUDA driver library, initialised and with a GPU; None without one."""
    return _load_driver()[0]


def require_gpu() -> Any:
    """The CUDA driver library.

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
    """Why ``load_driver`` returns None; '' if it returns a driver."""
    return _load_driver()[1]


@cache
def _load_driver() -> tuple[Any | None, str]:
    return open_driver(ctypes.CDLL)


def open_driver(load: Callable[[str], Any]) -> tuple[Any | None, str]:
    """The driver library that ``load`` returns, initialised; or None, and why it cannot be used.

    An existing library may be the toolkit's stub, half of an update, or an incomplete mount in a container.
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
    """Number of GPUs that the driver shows to this process."""
    driver, count = load_driver(), ctypes.c_int(0)
    return 0 if driver is None or driver.cuDeviceGetCount(ctypes.byref(count)) else count.value


def cuda_version(driver: Any) -> str | None:
    """The highest CUDA version that the driver supports, ``12.8``. ``driver`` comes from ``load_driver``."""
    version = ctypes.c_int(0)
    if driver.cuDriverGetVersion(ctypes.byref(version)):
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"
