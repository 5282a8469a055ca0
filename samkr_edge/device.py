"""The running device, asked without loading anything that could end the process: files and the CUDA driver.

TensorRT kills a process that has no GPU (``Runtime``) or fails with a riddle (``Builder``), so whatever uses it asks
:func:`require_gpu` first.
"""

from __future__ import annotations

import ctypes
import platform
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from samkr_edge.errors import SamkrError, reason_of
from targets.jetpack import parse_tegra_release
from targets.recognise import Device, parse_compatible, parse_model, parse_power_mode

LIBRARY = "libcuda.so.1"
# What is called in this file.
FUNCTIONS = (
    "cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceTotalMem_v2", "cuDriverGetVersion",
    "cuDeviceGetAttribute",
)  # fmt: skip
# CUdevice_attribute
_SMS, _MAJOR, _MINOR = 16, 75, 76
_STUB = 34  # CUDA_ERROR_STUB_LIBRARY


def running_device() -> Device:
    """What this machine says about itself."""
    compatible = parse_compatible(_read("/proc/device-tree/compatible"))
    jetson = any("tegra" in part for part in compatible)
    return Device(
        machine=platform.machine(),
        system=platform.system(),
        model=parse_model(_read("/proc/device-tree/model")),
        compatible=compatible,
        l4t=parse_tegra_release(_read("/etc/nv_tegra_release").decode("utf-8", "replace")),
        power_mode=_power_mode() if jetson else None,
        **(ask_driver(driver) if (driver := load_driver()) else {}),
    )


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
            "there is no NVIDIA GPU that this process can use, so TensorRT was not touched",
            [f"reason     {reason}"],
            fix="samkr-edge doctor   # or build for this machine: samkr-edge build MODEL.onnx --target cpu",
        )
    return driver


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
        return None, f"{LIBRARY} is there and cannot be loaded: {reason_of(error)}"
    missing = [name for name in FUNCTIONS if not hasattr(driver, name)]
    if missing:
        return None, f"{LIBRARY} is there and is no NVIDIA driver: it has no {missing[0]}"
    code = driver.cuInit(0)
    if code:
        stub = ": this is the toolkit's stub, not a driver" if code == _STUB else ""
        return None, f"cuInit failed with CUDA error {code}{stub}"
    count = ctypes.c_int(0)
    code = driver.cuDeviceGetCount(ctypes.byref(count))
    if code or not count.value:
        return None, f"the driver shows no GPU (CUDA error {code})" if code else "the driver shows no GPU"
    return driver, ""


def count_gpus(driver: Any) -> int:
    """GPUs that the driver shows to this process. ``driver`` is what :func:`load_driver` gives."""
    count = ctypes.c_int(0)
    return 0 if driver.cuDeviceGetCount(ctypes.byref(count)) else count.value


def ask_driver(driver: Any) -> dict[str, Any]:
    """GPU 0 as fields of :class:`Device`. ``driver`` is what :func:`load_driver` gives."""
    device, version, memory = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_size_t(0)
    name = ctypes.create_string_buffer(256)
    if driver.cuDeviceGet(ctypes.byref(device), 0):
        return {}
    driver.cuDeviceGetName(name, 256, device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    driver.cuDriverGetVersion(ctypes.byref(version))
    return {
        "gpu": name.value.decode("utf-8", "replace"),
        "compute_capability": f"{_attribute(driver, _MAJOR, device)}.{_attribute(driver, _MINOR, device)}",
        "sms": _attribute(driver, _SMS, device),
        "memory_bytes": memory.value,
        "cuda": f"{version.value // 1000}.{version.value % 1000 // 10}",
    }


def available_memory() -> int | None:
    """Bytes that a build may still take from the CPU's memory (on a Jetson: the GPU's as well)."""
    return parse_available_memory(_read("/proc/meminfo").decode("utf-8", "replace"))


def parse_available_memory(meminfo: str) -> int | None:
    """``MemAvailable`` of ``/proc/meminfo`` in bytes."""
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _attribute(driver: Any, number: int, device: Any) -> int:
    value = ctypes.c_int(0)
    driver.cuDeviceGetAttribute(ctypes.byref(value), number, device)
    return value.value


def _power_mode() -> str | None:
    try:
        done = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_power_mode(done.stdout)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
