"""``tegrastats``, NVIDIA's monitor on every Jetson: the lines it prints, and the newest one while it runs.

It is asked where sysfs does not answer: rails that only root may read, a GPU whose clock has no node.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import weakref
from dataclasses import dataclass
from threading import Event, Thread

_FIRST_LINE_S = 3.0


@dataclass(frozen=True)
class Reading:
    """One line.

    Attributes:
        watts: by rail, now (not the average, not the peak).
        celsius: by zone, its name in lower case.
        cpu_mhz: clock of the fastest core.
        gpu_mhz: of the fastest part of the GPU; None where none is printed, or where it sleeps.
        gpu_load: percent.
    """

    watts: dict[str, float]
    celsius: dict[str, float]
    cpu_mhz: float | None = None
    gpu_mhz: float | None = None
    gpu_load: int | None = None


# `POM_5V_IN 4567/4500` until JetPack 4, `VDD_IN 5014mW/5014mW` since, a peak after them since JetPack 7.2. RAM and
# SWAP have units after the slash only.
_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]+) (\d+)(?:mW)?/\d+(?:mW)?(?:/\d+mW)?(?=\s|$)")
# `GPU@41.2C`; JetPack 7.2 adds the highest so far: `gpu@56.9C/66.6C`.
_ZONE = re.compile(r"\b(\w+)@(-?\d+(?:\.\d+)?)C\b")
# `99%@921` until JetPack 4, `98%@[611,611]` on Orin, `@[1574,1574,1574]` on Thor, which also prints none at all.
_GPU = re.compile(r"GR3D_FREQ (?:(\d+)%)?(?:@\[?([\d,]+))?")
# `[2%@1190,off]`, and `[2%,off]@1190` where all cores share a clock.
_CPU = re.compile(r"CPU \[([^\]]*)\](?:@(\d+))?")


def parse(line: str) -> Reading:
    """One line of any JetPack.

    Zones that read -256 have no sensor, and PMIC always reads 100; ``NC`` is a rail that is not connected.
    """
    gpu, cpu = _GPU.search(line), _CPU.search(line)
    gpu_clocks = [int(text) for text in gpu.group(2).split(",") if text] if gpu and gpu.group(2) else []
    cpu_clocks = [int(text) for text in re.findall(r"@(\d+)", cpu.group(0))] if cpu else []
    return Reading(
        watts={name: int(now) / 1e3 for name, now in _RAIL.findall(line) if name != "NC"},
        celsius={
            name.lower(): float(value)
            for name, value in _ZONE.findall(line)
            if float(value) > -100 and name != "PMIC"
        },
        cpu_mhz=max(cpu_clocks, default=None),
        gpu_mhz=max(gpu_clocks, default=0) or None,
        gpu_load=int(gpu.group(1)) if gpu and gpu.group(1) else None,
    )


class Tegrastats:
    """The program in the background, a line every ``interval_ms``; it ends with this object or this process."""

    def __init__(self, interval_ms: int) -> None:
        self._program = subprocess.Popen(
            ["tegrastats", "--interval", str(interval_ms)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        # Also at exit. A killed process needs nothing: the next line then finds no reader, which ends the program.
        self.close = weakref.finalize(self, _end, self._program)
        self._latest = _Latest()
        Thread(target=_follow, args=(self._program, self._latest), daemon=True).start()

    def read(self) -> Reading | None:
        """The newest line; None where there is none, or where the program has ended."""
        if not self._latest.came.wait(_FIRST_LINE_S) or self._program.poll() is not None:
            return None
        return parse(self._latest.line)


class _Latest:
    def __init__(self) -> None:
        self.line = ""
        self.came = Event()


def _follow(program: subprocess.Popen[str], latest: _Latest) -> None:
    for line in program.stdout or ():
        latest.line = line
        latest.came.set()


def _end(program: subprocess.Popen[str]) -> None:
    program.terminate()
    program.wait()


def open_tegrastats(interval_ms: int) -> Tegrastats | None:
    """The running program, None where there is none or where it prints nothing."""
    if shutil.which("tegrastats") is None:
        return None
    try:
        program = Tegrastats(interval_ms)
    except OSError:
        return None
    if program.read() is None:
        program.close()
        return None
    return program
