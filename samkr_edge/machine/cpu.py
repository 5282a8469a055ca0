"""This machine's CPU, as Linux describes it, and how many threads may be requested."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from samkr_edge.errors import SamkrError


def require_cores(threads: object) -> int:
    """The number of threads, if this machine has a core for each.

    Runtimes start as many as requested: thousands keep a machine busy and never finish an inference.

    Raises:
        SamkrError: SE-U55 it has fewer cores, or the number is below 1.
    """
    cores = os.cpu_count() or 1
    if type(threads) is int and 1 <= threads <= cores:
        return threads
    raise SamkrError(
        "SE-U55",
        f"{threads!r:.40} threads cannot run here, so nothing was started",
        {"expected": f"1 to {cores}, the number of this machine's cores"},
        fix=f"--threads {cores}",
    )


def cpu_device() -> dict[str, Any]:
    """The facts that decide whether a CPU model runs as built."""
    return {"machine": platform.machine(), "cpu_features": cpu_features()}


def cpu_name() -> str:
    for line in _cpuinfo().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cpu_features() -> list[str]:
    """The vector instructions that ONNX Runtime's INT8 kernels choose by."""
    flags = cpu_flags()
    known = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimd", "asimddp", "i8mm")
    return [name for name in known if name in flags]


def cpu_flags() -> set[str]:
    """All CPU features that the kernel lists; empty if it lists none."""
    return set(_cpuinfo().split())


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
