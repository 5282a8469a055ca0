"""The running device, from files and the CUDA driver: nothing is loaded that could end the process."""

from __future__ import annotations

import ctypes
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted
from samkr_edge.machine.driver import cuda_version, load_driver
from targets.device import Device, parse_compatible, parse_model, parse_power_mode
from targets.jetpack import parse_tegra_release

if TYPE_CHECKING:
    from targets.profile import BrokenProfile, Target

# CUdevice_attribute
_SMS, _INTEGRATED, _MAJOR, _MINOR = 16, 18, 75, 76
ROOT = Path("/")


def running_device() -> Device:
    """This machine by its files, its driver and, on a Jetson, its power mode."""
    device = described_by_files()
    return replace(
        device,
        power_mode=_power_mode() if device.is_jetson else None,
        **(ask_driver(driver) if (driver := load_driver()) else {}),
    )


def described_by_files(root: Path = ROOT) -> Device:
    """The device by the files below ``root``: ``/``, or in a test recorded files. Without GPU and power mode."""
    soc, devfreq = root / "sys/devices/soc0", root / "sys/class/devfreq"
    return Device(
        machine=platform.machine(),
        system=platform.system(),
        kernel=_text(root / "proc/sys/kernel/osrelease"),
        # Newer kernels repeat the model line at a path visible to containers.
        model=parse_model(_read(root / "proc/device-tree/model")) or _text(soc / "machine"),
        compatible=parse_compatible(_read(root / "proc/device-tree/compatible")),
        l4t=parse_tegra_release(_text(root / "etc/nv_tegra_release")),
        soc_family=_text(soc / "family"),
        soc_id=_text(soc / "soc_id"),
        devfreq=tuple(sorted(entry.name for entry in devfreq.iterdir())) if devfreq.is_dir() else (),
    )


def ask_driver(driver: Any) -> dict[str, Any]:
    """GPU 0 as fields of ``Device``. ``driver`` comes from ``samkr_edge.machine.driver.load_driver``."""
    device, memory = ctypes.c_int(0), ctypes.c_size_t(0)
    name = ctypes.create_string_buffer(256)
    codes = (
        driver.cuDeviceGet(ctypes.byref(device), 0),
        driver.cuDeviceGetName(name, 256, device),
        driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device),
    )
    if any(codes):
        return {}
    return {
        "gpu": name.value.decode("utf-8", "replace"),
        "compute_capability": f"{_attribute(driver, _MAJOR, device)}.{_attribute(driver, _MINOR, device)}",
        "sms": _attribute(driver, _SMS, device),
        "memory_bytes": memory.value,
        "integrated": bool(_attribute(driver, _INTEGRATED, device)),
        "cuda": cuda_version(driver),
    }


def gpu_device(device: Device) -> dict[str, Any]:
    """The facts that decide whether an engine runs as built, and the conditions of its build.

    ``model`` is the GPU's model: a card's name, and on a Jetson the profile of the module, since all Orins call
    themselves "Orin". ``sms`` counts the SMs that were live: a power mode changes it.
    """
    return {
        "machine": device.machine,
        "system": device.system,
        "model": gpu_model(device),
        "compute_capability": device.compute_capability,
        "sms": device.sms,
        "memory_bytes": device.memory_bytes,
        "l4t": device.l4t,
        "jetpack": device.jetpack,
        "power_mode": device.power_mode,
        "cuda": device.cuda,
    }


def any_gpu(device: Device, compute_capabilities: Sequence[str]) -> dict[str, Any]:
    """The same for an engine built ahead of time: any GPU of these capabilities."""
    return {
        "machine": device.machine,
        "system": device.system,
        "compute_capabilities": list(compute_capabilities),
    }


def gpu_model(device: Device) -> str | None:
    """The name that a plain engine is bound to."""
    target = target_of(device)
    return target.name if target.family == "jetson" else device.gpu


def target_of(device: Device) -> Target:
    """The profile of a device, as ``targets.recognise.recognise`` finds it.

    Raises:
        SamkrError: SE-U52 the one that may be the device's cannot be read.
    """
    # They need YAML, and doctor uses this file where that is missing.
    from targets.profile import BrokenProfile
    from targets.recognise import recognise

    try:
        return recognise(device)
    except BrokenProfile as error:
        raise broken_profile(error) from error


def broken_profile(error: BrokenProfile) -> SamkrError:
    """SE-U52: the profile of a target cannot be read, which stops only commands that need it."""
    return SamkrError(
        "SE-U52",
        f"{error.path} is not a valid profile of a target",
        {key: " ".join(reason.split())[:200] for key, reason in error.reasons.items()},
        fix=f"ls {quoted(error.path.parent)}   # other profiles to compare it with",
    )


def jetson_release(root: Path = ROOT) -> str | None:
    """Model and release: ``NVIDIA Jetson AGX Orin R36 (release), REVISION: 4.3, ...``; None if it is not one."""
    device = described_by_files(root)
    if not device.is_jetson:
        return None
    release = _text(root / "etc/nv_tegra_release").splitlines() or ["L4T unknown"]
    return f"{device.model or device.chip or 'Jetson'} {release[0].strip('# ')}"


def total_memory() -> int | None:
    """Bytes of the CPU's memory (on a Jetson: the GPU's as well)."""
    return parse_memory(_text(ROOT / "proc/meminfo"), "MemTotal")


def available_memory() -> int | None:
    """Bytes of it that are available to a build."""
    return parse_memory(_text(ROOT / "proc/meminfo"), "MemAvailable")


def parse_memory(meminfo: str, what: str) -> int | None:
    """A line of ``/proc/meminfo`` in bytes: ``MemTotal``, ``MemAvailable``."""
    for line in meminfo.splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024
    return None


def _attribute(driver: Any, number: int, device: Any) -> int:
    value = ctypes.c_int(0)
    driver.cuDeviceGetAttribute(ctypes.byref(value), number, device)
    return value.value


def _power_mode() -> str | None:
    try:
        done = subprocess.run(
            ["nvpmodel", "-q"], capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_power_mode(done.stdout)


def _text(path: Path) -> str:
    return _read(path).decode("utf-8", "replace").strip("\0 \n")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
