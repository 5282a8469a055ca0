"""Energy per frame above idle, if the machine has a power meter.

Energy is measured apart from latency: a meter gives ten to a hundred readings a second, so it cannot tell the
interleaved frames of two models from each other. Each model runs alone, once in the order of the table and once in
reverse, so that a drifting temperature hits all alike. What the machine draws at rest is subtracted, and both are
written down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import numpy as np

from benchmarks.measure.latency import Timed
from benchmarks.measure.sensors import ROOT, Nvidia, open_nvidia
from benchmarks.measure.tegrastats import open_tegrastats
from benchmarks.schema import Energy, PowerFacts

# Rails of the whole module's input: if one of them exists, the others are parts of it and not added.
_TOTALS = ("VDD_IN", "POM_5V_IN", "VDD_SYS_IN", "VIN")
# Where none exists (AGX modules), these are supplied side by side and their sum is the module. VDDQ_VDD2_1V8AO hangs
# below VIN_SYS_5V0 and would be counted twice.
_PARTS = (
    "VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0",  # AGX Orin
    "GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V",  # AGX Xavier, JetPack 4 and 5
    "VDD_GPU", "VDD_CPU_SOC_MSS",  # Thor
)  # fmt: skip
_FEWEST_SAMPLES = 3


@dataclass(frozen=True)
class PowerSource:
    """A meter.

    Attributes:
        name: how it is read.
        rail: what it measures, in words.
        interval_s: time between two readings.
        watts: one reading; None where this one failed.
    """

    name: str
    rail: str
    interval_s: float
    watts: Callable[[], float | None]


def find_power(*, on_gpu: bool) -> tuple[PowerSource | None, str]:
    """The meter for the processor that the models run on, or the reason why there is none.

    A Jetson's monitor sees the whole module; elsewhere models on the GPU are metered by its driver, others by the
    CPU's counters.
    """
    module = ina3221() or tegrastats_power()
    if module is not None:
        return module, ""
    if not on_gpu:
        return rapl()
    gpu = open_nvidia()
    source = None if gpu is None else nvidia_power(gpu)
    return source, "" if source else "the GPU's driver reports no power"


# -- Jetson: INA3221 ---------------------------------------------------------------------------------------------


def pick_rails(names: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """(rails to add up, the same in words); empty if no rail is known."""
    for total in _TOTALS:
        if total in names:
            return (total,), f"{total} (module input, the total)"
    parts = tuple(name for name in _PARTS if name in names)
    return parts, " + ".join(parts) + " (module rails; no total available here)" if parts else ""


def ina3221(root: Path = ROOT) -> PowerSource | None:
    """The module's own power monitor: hwmon since JetPack 5, iio before."""
    readers = {**_iio_rails(root), **_hwmon_rails(root)}
    rails, words = pick_rails(list(readers))
    if not rails or any(readers[name]() is None for name in rails):
        return None

    def watts() -> float | None:
        found = [readers[name]() for name in rails]
        known = [value for value in found if value is not None]
        return sum(known) if len(known) == len(found) else None

    return PowerSource("INA3221 through sysfs", words, 0.05, watts)


def _hwmon_rails(root: Path) -> dict[str, Callable[[], float | None]]:
    rails: dict[str, Callable[[], float | None]] = {}
    for label in sorted((root / "sys/bus/i2c/drivers/ina3221").glob("*/hwmon/hwmon*/in*_label")):
        number = label.name[2:-6]
        volts, amperes = label.with_name(f"in{number}_input"), label.with_name(f"curr{number}_input")
        if amperes.exists():
            # mV x mA = uW
            rails[_read(label)] = lambda v=volts, a=amperes: _product(v, a, 1e-6)  # type: ignore[misc]
    return rails


def _iio_rails(root: Path) -> dict[str, Callable[[], float | None]]:
    rails: dict[str, Callable[[], float | None]] = {}
    for label in sorted((root / "sys/bus/i2c/drivers/ina3221x").glob("*/iio:device*/rail_name_*")):
        power = label.with_name(f"in_power{label.name.rsplit('_', 1)[1]}_input")
        rails[_read(label)] = lambda p=power: _product(p, None, 1e-3)  # type: ignore[misc]
    return rails


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _product(first: Path, second: Path | None, scale: float) -> float | None:
    try:
        return float(_read(first)) * (1.0 if second is None else float(_read(second))) * scale
    except ValueError:
        return None


# -- Jetson: tegrastats ------------------------------------------------------------------------------------------


def tegrastats_power() -> PowerSource | None:
    """For modules whose monitor only root may read; the program may."""
    program = open_tegrastats(interval_ms=100)
    sample = None if program is None else program.read()
    rails, words = pick_rails(list(sample.watts)) if sample else ((), "")
    if program is None or not rails:
        return None

    def watts() -> float | None:
        found = program.read()
        return sum(found.watts[name] for name in rails) if found and set(rails) <= set(found.watts) else None

    return PowerSource("tegrastats", words, 0.1, watts)


# -- Desktop -----------------------------------------------------------------------------------------------------


def nvidia_power(gpu: Nvidia) -> PowerSource | None:
    """The board power of a GPU, host not counted."""
    if gpu.reading().watts is None:
        return None
    # NVML averages over about 25 to 100 ms; `nvidia-smi` itself takes as long.
    interval = 0.05 if gpu.name == "NVML" else 0.2
    return PowerSource(gpu.name, "GPU board power (without the host)", interval, lambda: gpu.reading().watts)


class _EnergyCounter:
    """Watts from a counter of microjoules that wraps at its maximum."""

    def __init__(self, counter: Path, maximum: Path, clock: Callable[[], float]) -> None:
        self._counter, self._clock = counter, clock
        self._range = float(_read(maximum) or 0)
        self._last: tuple[float, float] | None = None

    def watts(self) -> float | None:
        text = _read(self._counter)
        if not text:
            return None
        now, joules = self._clock(), float(text) / 1e6
        last, self._last = self._last, (now, joules)
        if last is None or now <= last[0]:
            return None
        used = joules - last[1]
        return (used if used >= 0 else used + self._range / 1e6) / (now - last[0])


def rapl(root: Path = ROOT, clock: Callable[[], float] = time.perf_counter) -> tuple[PowerSource | None, str]:
    """The CPU packages through powercap. On most systems only root may read it; the reason then says so."""
    folders = sorted((root / "sys/class/powercap").glob("*-rapl:[0-9]"))
    if not folders:
        return None, "no power meter: neither INA3221 (Jetson), NVML (NVIDIA GPU) nor RAPL (x86) is available"
    counters = [
        _EnergyCounter(folder / "energy_uj", folder / "max_energy_range_uj", clock) for folder in folders
    ]
    for folder in folders:
        if not _read(folder / "energy_uj"):
            return (
                None,
                "RAPL is available, but only root may read it: sudo chmod a+r /sys/class/powercap/*/energy_uj",
            )

    def watts() -> float | None:
        found = [counter.watts() for counter in counters]
        known = [value for value in found if value is not None]
        return sum(known) if len(known) == len(found) else None

    names = ", ".join(_read(folder / "name") or folder.name for folder in folders)
    return PowerSource("RAPL through powercap", f"CPU {names} (without memory and board)", 0.05, watts), ""


# -- Measuring ---------------------------------------------------------------------------------------------------


class Sampler:
    """Reads a meter in a thread inside ``with``; ``samples`` holds the watts."""

    def __init__(self, source: PowerSource) -> None:
        self._source = source
        self._stop = Event()
        self._thread = Thread(target=self._work, daemon=True)
        self.samples: list[float] = []

    def _work(self) -> None:
        while not self._stop.wait(self._source.interval_s):
            value = self._source.watts()
            if value is not None:
                self.samples.append(value)

    def __enter__(self) -> Sampler:
        self._source.watts()  # a counter needs a first value to count from
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def measure_energy(
    models: Mapping[str, Timed],
    images: Sequence[np.ndarray],
    source: PowerSource,
    *,
    seconds: float = 4.0,
    idle_seconds: float = 3.0,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[PowerFacts, dict[str, Energy]]:
    """Idle power, then every model alone.

    Args:
        models: name -> model.
        images: uint8 (H, W, 3) RGB, shown in turn.
        source: the meter.
        seconds: time of each model, in two halves.
        idle_seconds: time at rest before the models run; the same time passes unmeasured first, until clocks are down.

    Returns:
        The facts for the results, and the energy of each model with enough readings of the meter.
    """
    time.sleep(idle_seconds)
    with Sampler(source) as resting:
        time.sleep(idle_seconds)
    # Without a figure at rest nothing can be subtracted, and the idle power would count as the models' energy.
    known = len(resting.samples) >= _FEWEST_SAMPLES
    idle = float(np.mean(resting.samples)) if known else 0.0
    joules = dict.fromkeys(models, 0.0)
    frames = dict.fromkeys(models, 0)
    samples: dict[str, list[float]] = {name: [] for name in models}
    names = list(models)
    for name in [*names, *reversed(names)]:
        model = models[name]
        model.timed(images[0])  # so that the first reading is not of what ran before
        started, done = clock(), 0
        with Sampler(source) as sampler:
            while clock() - started < seconds / 2 or done == 0:
                model.timed(images[done % len(images)])
                done += 1
            elapsed = clock() - started
        if sampler.samples:
            joules[name] += (float(np.mean(sampler.samples)) - idle) * elapsed
            frames[name] += done
            samples[name] += sampler.samples
    facts = PowerFacts(
        source=source.name,
        rail=source.rail,
        sampling_hz=round(1 / source.interval_s, 1),
        idle_watts=round(idle, 3),
    )
    return facts, {
        name: Energy(
            millijoules_per_frame=1e3 * joules[name] / frames[name],
            watts=float(np.mean(samples[name])),
            frames=frames[name],
            samples=len(samples[name]),
        )
        for name in models
        if known and len(samples[name]) >= _FEWEST_SAMPLES
    }
