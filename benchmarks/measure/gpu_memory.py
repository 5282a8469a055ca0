"""GPU memory in use, in bytes, on the whole machine: other programs count too.

A card has memory of its own, and the driver says how much of it is free. Where GPU and CPU share one memory (Jetson)
the driver's free figure is the kernel's ``MemFree``: the host's own pages and the cache of files lower it as well.
There JetPack's kernel is asked: ``NvMapMemUsed`` of ``/proc/meminfo``, what NVIDIA's allocator has handed out (CUDA for
Tegra, "Estimating Total Allocatable Device Memory"); where it has no such line, what is no longer available and is not
this process's own either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from targets.device import Device

ROOT = Path("/")


@dataclass(frozen=True)
class GpuMemory:
    """A way to read it.

    Attributes:
        source: the figure's name where it comes from.
        shared: whether it is the same memory as the host's.
        used: bytes in use now, from an arbitrary zero: only differences mean something.
        close: to be called at the end.
    """

    source: str
    shared: bool
    used: Callable[[], int]
    close: Callable[[], None] = field(default=lambda: None)


def open_gpu_memory(device: Device, root: Path = ROOT) -> GpuMemory:
    """The reading that fits the device.

    A card's needs a CUDA context, whose own memory is therefore not in its differences; in shared memory it is.

    Raises:
        SamkrError: what opening CUDA raises.
    """
    if device.shares_memory:
        if _kilobytes(root / "proc/meminfo", "NvMapMemUsed") is not None:
            return GpuMemory("NvMapMemUsed", True, lambda: _bytes(root / "proc/meminfo", "NvMapMemUsed"))
        return GpuMemory("MemAvailable", True, lambda: _taken_by_others(root))
    from samkr_edge.runtime.cuda import open_cuda

    cuda = open_cuda()

    def used() -> int:
        with cuda.bound():
            free, total = cuda.memory()
        return total - free

    return GpuMemory("cuMemGetInfo", False, used, cuda.close)


def _taken_by_others(root: Path) -> int:
    """Minus available memory, minus this process's own pages: grows with the GPU's use; file caches are neutral."""
    status = root / "proc/self/status"
    own = _bytes(status, "RssAnon") + _bytes(status, "RssShmem")
    return -_bytes(root / "proc/meminfo", "MemAvailable") - own


def _bytes(path: Path, key: str) -> int:
    return 1024 * (_kilobytes(path, key) or 0)


def _kilobytes(path: Path, key: str) -> int | None:
    """A line ``Key:   123 kB`` of one of the kernel's lists."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), None)
