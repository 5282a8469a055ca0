"""This machine's CPU, as Linux tells of it; the standard library alone."""

from __future__ import annotations

import platform
from pathlib import Path


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
    """All that the kernel says this CPU can; empty where it does not say."""
    return set(_cpuinfo().split())


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
