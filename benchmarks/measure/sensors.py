"""The machine's sensors: clocks, temperatures, throttling and the power mode.

Three families. A CPU is read from sysfs; a Jetson adds its GPU's devfreq node (``tegrastats`` where there is none that
we know), its over-current counters and ``nvpmodel``; a desktop GPU adds NVML (package ``nvidia-ml-py``), or
``nvidia-smi`` where that is not installed.
Reading costs well below a millisecond (``nvidia-smi``: tens of them), and happens between frames, never within one.
"""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.measure.tegrastats import Reading, Tegrastats, open_tegrastats
from samkr_edge.machine.device import described_by_files
from targets.device import is_gpu_node

ROOT = Path("/")
Family = Literal["cpu", "jetson", "rtx"]


@dataclass(frozen=True)
class MachineState:
    """One reading; None where unreadable.

    Attributes:
        mhz: clock of the fastest CPU core: the measuring one is busy, others may idle at a low clock.
        celsius: the hottest thermal zone.
        gpu_mhz, gpu_celsius: the GPU's.
        throttled: what limits the clock at this moment, in words.
        throttle_events: a counter that grows when the hardware cuts power or clock (Jetson over-current, cooling).
    """

    mhz: float | None = None
    celsius: float | None = None
    gpu_mhz: float | None = None
    gpu_celsius: float | None = None
    throttled: tuple[str, ...] = ()
    throttle_events: int | None = None


@dataclass(frozen=True)
class Sensors:
    """How to read this machine.

    Attributes:
        family: decides which clocks matter and what to advise.
        read: one ``MachineState``.
        power_mode: the mode in words, or None; may start a program, so it is called before and after a run only.
        fix: command that makes the clocks stand still.
        modes: (name, id) of every power mode that this board has; none where there are no such modes.
    """

    family: Family
    read: Callable[[], MachineState]
    power_mode: Callable[[], str | None] = field(default=lambda: None)
    fix: str = ""
    modes: tuple[tuple[str, int], ...] = ()


def find_sensors(root: Path = ROOT, *, on_gpu: bool = True) -> Sensors:
    """The device that the models run on.

    Args:
        root: ``/``, or a tree of recorded files in a test.
        on_gpu: False where no model runs on a GPU: a desktop's GPU is then not read.
    """
    if described_by_files(root).is_jetson:
        # Used only where needed: the program itself takes some of a core.
        monitor = open_tegrastats(interval_ms=500) if gpu_devfreq(root) is None else None
        return Sensors(
            "jetson",
            lambda: read_jetson(root, monitor),
            lambda: jetson_power_mode(_output_of("nvpmodel", "-q"), root),
            "sudo jetson_clocks   # locks the clocks; if it throttles, let it cool down or choose a lower power mode",
            parse_nvpmodel_conf(_text(root / "etc/nvpmodel.conf") or ""),
        )
    gpu = open_nvidia() if on_gpu else None
    if gpu is not None:
        return Sensors(
            "rtx",
            lambda: _join(read_cpu(root), gpu.read()),
            gpu.power_mode,
            "sudo nvidia-smi -pm 1 && sudo nvidia-smi -lgc 1500   # a clock it can hold; undo with -rgc",
        )
    return Sensors(
        "cpu",
        lambda: read_cpu(root),
        lambda: cpu_power_mode(root),
        "close other programs, sudo cpupower frequency-set -g performance, and measure again",
    )


# -- CPU ---------------------------------------------------------------------------------------------------------


def read_cpu(root: Path = ROOT) -> MachineState:
    """Clock and temperature from sysfs or, for the clock, ``/proc/cpuinfo``."""
    return MachineState(_cpu_mhz(root), _hottest(root))


def cpu_power_mode(root: Path = ROOT) -> str | None:
    """The frequency governor, ``performance`` for example; several where the cores differ."""
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
    names = sorted({text for path in files if (text := _text(path))})
    return "governor " + ", ".join(names) if names else None


def _cpu_mhz(root: Path) -> float | None:
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    khz = [value for path in files if (value := _number(path)) is not None]
    if khz:
        return max(khz) / 1e3
    lines = (_text(root / "proc/cpuinfo") or "").splitlines()
    mhz = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    return max(mhz, default=None)


def _hottest(root: Path) -> float | None:
    # A zone without a sensor reports 0 or a large negative number; PMIC-Die (JetPack 4) always reports 100 degrees.
    zones = (root / "sys/class/thermal").glob("thermal_zone*")
    found = [_number(zone / "temp") for zone in zones if not (_text(zone / "type") or "").startswith("PMIC")]
    return max((value / 1e3 for value in found if value is not None and value > 0), default=None)


# -- Jetson ------------------------------------------------------------------------------------------------------


def gpu_devfreq(root: Path = ROOT) -> Path | None:
    """The devfreq folder of a Jetson's GPU, by its name or its device-tree node's.

    The device's path below ``/sys/devices`` changes with every JetPack; its entry in the class does not.
    """
    for node in sorted((root / "sys/class/devfreq").glob("*")):
        named = is_gpu_node(node.name) or is_gpu_node(_text(node / "device/of_node/name") or "")
        if named and (node / "cur_freq").exists():
            return node
    return None


def read_jetson(root: Path = ROOT, monitor: Tegrastats | None = None) -> MachineState:
    """CPU, GPU clock (devfreq, Hz), the GPU's thermal zone, and what throttles; ``monitor`` fills the gaps."""
    state = read_cpu(root)
    node = gpu_devfreq(root)
    hertz = None if node is None else _number(node / "cur_freq")
    state = replace(
        state,
        gpu_mhz=None if hertz is None else hertz / 1e6,
        gpu_celsius=_zone(root, "gpu"),
        throttled=_cooling(root),
        throttle_events=_over_current(root),
    )
    seen = None if monitor is None else monitor.read()
    return state if seen is None else filled(state, seen)


def filled(state: MachineState, seen: Reading) -> MachineState:
    """The state with what only ``tegrastats`` saw."""
    hottest = max(seen.celsius.values(), default=None)
    return replace(
        state,
        mhz=seen.cpu_mhz if state.mhz is None else state.mhz,
        celsius=hottest if state.celsius is None else state.celsius,
        gpu_mhz=seen.gpu_mhz if state.gpu_mhz is None else state.gpu_mhz,
        gpu_celsius=seen.celsius.get("gpu") if state.gpu_celsius is None else state.gpu_celsius,
    )


def jetson_power_mode(nvpmodel: str | None, root: Path = ROOT) -> str | None:
    """``MAXN (id 0), clocks locked``. The name comes first: ids mean different modes on different boards."""
    mode = parse_nvpmodel(nvpmodel or "")
    if mode is None:
        return None
    node = gpu_devfreq(root)
    low, high = (None, None) if node is None else (_number(node / "min_freq"), _number(node / "max_freq"))
    locked = "" if low is None or high is None else ", clocks locked" if low == high else ", clocks free"
    return f"{mode[0]} (id {mode[1]}){locked}"


def parse_nvpmodel(text: str) -> tuple[str, int] | None:
    """(name, id) from ``nvpmodel -q``: a line ``NV Power Mode: MODE_30W`` and the id alone on the next."""
    found = re.search(r"NV Power Mode:\s*(\S+)\s*\n\s*(\d+)", text)
    return None if found is None else (found.group(1).removeprefix("MODE_"), int(found.group(2)))


def parse_nvpmodel_conf(text: str) -> tuple[tuple[str, int], ...]:
    """(name, id) of the modes in ``/etc/nvpmodel.conf``: lines ``< POWER_MODEL ID=1 NAME=MODE_15W >``."""
    found = re.findall(r"^\s*<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", text, flags=re.MULTILINE)
    return tuple((name.removeprefix("MODE_"), int(number)) for number, name in found)


def _zone(root: Path, name: str) -> float | None:
    for folder in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        if name in (_text(folder / "type") or "").lower():
            value = _number(folder / "temp")
            return None if value is None or value <= 0 else value / 1e3
    return None


def _cooling(root: Path) -> tuple[str, ...]:
    """Active cooling devices, without fans, which do not reduce clocks."""
    active = []
    for folder in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind = _text(folder / "type") or ""
        if (_number(folder / "cur_state") or 0) > 0 and "fan" not in kind.lower():
            active.append(f"thermal: {kind or folder.name}")
    return tuple(active)


def _over_current(root: Path) -> int | None:
    counts = [_number(path) for path in (root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt")]
    known = [int(value) for value in counts if value is not None]
    return sum(known) if known else None


# -- Desktop GPU -------------------------------------------------------------------------------------------------

# NVML's clock event bits that mean "slower than it could be"; idle, and clocks that the user has set, are no fault.
_THROTTLES = {
    0x04: "power limit",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
_SMI_FIELDS = "clocks.sm,temperature.gpu,power.draw,power.limit,clocks_throttle_reasons.active"


def throttle_names(bits: int) -> tuple[str, ...]:
    """NVML's bit mask in words."""
    return tuple(name for bit, name in _THROTTLES.items() if bits & bit)


@dataclass(frozen=True)
class GpuReading:
    """One reading of a desktop GPU: MHz, Celsius, watts, watts allowed, throttle bits; None where unsupported."""

    mhz: float | None
    celsius: float | None
    watts: float | None
    limit_watts: float | None
    throttle_bits: int

    def state(self) -> MachineState:
        return MachineState(
            gpu_mhz=self.mhz, gpu_celsius=self.celsius, throttled=throttle_names(self.throttle_bits)
        )


class Nvidia:
    """A desktop GPU, whichever way it is read."""

    def __init__(self, name: str, reading: Callable[[], GpuReading]) -> None:
        self.name = name
        self.reading = reading

    def read(self) -> MachineState:
        return self.reading().state()

    def power_mode(self) -> str | None:
        limit = self.reading().limit_watts
        return None if limit is None else f"power limit {limit:.0f} W"


def open_nvidia() -> Nvidia | None:
    """The first GPU through NVML, else through ``nvidia-smi``; None without a driver."""
    try:
        return nvml_gpu(importlib.import_module("pynvml"))
    except Exception:  # no package, no driver, no GPU: NVML has a class for each
        pass
    text = _output_of("nvidia-smi", f"--query-gpu={_SMI_FIELDS}", "--format=csv,noheader,nounits")
    if not text:
        return None

    def read() -> GpuReading:
        return parse_smi(
            _output_of("nvidia-smi", f"--query-gpu={_SMI_FIELDS}", "--format=csv,noheader,nounits") or ""
        )

    return Nvidia("nvidia-smi", read)


def nvml_gpu(nvml: Any) -> Nvidia:
    """The first GPU of a ``pynvml`` module; raises what NVML raises."""
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByIndex(0)

    def value(name: str, *arguments: Any) -> float | None:
        try:
            return float(getattr(nvml, name)(handle, *arguments))
        except Exception:  # a figure that this GPU or driver does not have
            return None

    def read() -> GpuReading:
        watts, limit = value("nvmlDeviceGetPowerUsage"), value("nvmlDeviceGetEnforcedPowerLimit")  # mW
        bits = value("nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:  # the name until NVML 12.2
            bits = value("nvmlDeviceGetCurrentClocksThrottleReasons")
        return GpuReading(
            value("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            value("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            None if watts is None else watts / 1e3,
            None if limit is None else limit / 1e3,
            int(bits or 0),
        )

    return Nvidia("NVML", read)


def parse_smi(text: str) -> GpuReading:
    """The first line of ``nvidia-smi --query-gpu`` in the order of our fields; ``[N/A]`` is None."""
    cells = [cell.strip() for cell in (text.splitlines() or [""])[0].split(",")]
    cells += [""] * (5 - len(cells))

    def number(cell: str) -> float | None:
        try:
            return float(cell)
        except ValueError:
            return None

    bits = int(cells[4], 16) if cells[4].startswith("0x") else 0
    return GpuReading(number(cells[0]), number(cells[1]), number(cells[2]), number(cells[3]), bits)


# -- Helpers -----------------------------------------------------------------------------------------------------


def _join(cpu: MachineState, gpu: MachineState) -> MachineState:
    return replace(gpu, mhz=cpu.mhz, celsius=cpu.celsius)


def _output_of(program: str, *arguments: str) -> str | None:
    """Standard output of a program, None if it is missing or fails."""
    if shutil.which(program) is None:
        return None
    try:
        return subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=10,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return None


def _number(path: Path) -> float | None:
    try:
        return float(_text(path) or "")
    except ValueError:
        return None
