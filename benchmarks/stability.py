"""Was the machine the same machine from the first frame to the last? Clock, temperature and the spread of times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# A clock that moved by more than this between the first and the last quarter of a run makes the run unstable.
CLOCK_TOLERANCE = 0.03
# The same for the network time itself, which also sees what no sensor shows: a busy neighbour, a hypervisor.
DRIFT_TOLERANCE = 0.05
# Coefficient of variation of the network time. trtexec warns at 2.5 % on an idle GPU; a CPU that shares its cores
# with an operating system never gets there.
CV_TOLERANCE = 0.10
# Fewer rounds than this say nothing about a trend.
_TREND_ROUNDS = 20

_CPUFREQ = "/sys/devices/system/cpu"
_THERMAL = "/sys/class/thermal"
_CPUINFO = "/proc/cpuinfo"


@dataclass(frozen=True)
class MachineState:
    """Clock of the fastest core in MHz and temperature of the hottest zone in Celsius; None where unreadable."""

    mhz: float | None = None
    celsius: float | None = None


def read_machine() -> MachineState:
    """Clock and temperature now, from sysfs or, for the clock, ``/proc/cpuinfo``."""
    return MachineState(_read_mhz(), _read_celsius())


def _read_mhz() -> float | None:
    # The fastest core: the one that is measuring is busy, the others may sleep at a low clock.
    found = [_number(path) for path in Path(_CPUFREQ).glob("cpu[0-9]*/cpufreq/scaling_cur_freq")]
    khz = [value for value in found if value is not None]
    if khz:
        return max(khz) / 1e3
    try:
        lines = Path(_CPUINFO).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    mhz = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    return max(mhz) if mhz else None


def _read_celsius() -> float | None:
    found = [_number(path) for path in Path(_THERMAL).glob("thermal_zone*/temp")]
    # A zone without a sensor reports 0 or a large negative number.
    celsius = [value / 1e3 for value in found if value is not None and value > 0]
    return max(celsius) if celsius else None


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None


def clock_change(states: Sequence[MachineState]) -> float | None:
    """Relative change of the clock from the first to the last quarter of the samples; None if unreadable."""
    mhz = np.array([state.mhz for state in states if state.mhz], float)
    return _change(mhz) if len(mhz) >= 2 else None


def time_drift(network_ms: np.ndarray) -> float | None:
    """Relative change of the network time, first to last quarter of the rounds, over all models together.

    Args:
        network_ms: (R, M), one row a round, one column a model. Each column counts alike, however slow.
    """
    if len(network_ms) < _TREND_ROUNDS:
        return None
    return _change((network_ms / np.median(network_ms, axis=0)).mean(axis=1))


def _change(values: np.ndarray) -> float:
    quarter = max(1, len(values) // 4)
    return float(np.median(values[-quarter:]) / np.median(values[:quarter]) - 1)


def reasons_of_run(states: Sequence[MachineState], network_ms: np.ndarray) -> list[str]:
    """Why the run as a whole cannot be trusted; empty when it can."""
    reasons = []
    clock = clock_change(states)
    if clock is not None and abs(clock) > CLOCK_TOLERANCE:
        reasons.append(f"the CPU clock moved by {clock:+.1%} (limit {CLOCK_TOLERANCE:.0%})")
    drift = time_drift(network_ms)
    if drift is not None and abs(drift) > DRIFT_TOLERANCE:
        reasons.append(
            f"network times drifted by {drift:+.1%} from start to end (limit {DRIFT_TOLERANCE:.0%})"
        )
    return reasons


def reasons_of_model(network_ms: np.ndarray) -> list[str]:
    """Why one model's times cannot be trusted; empty when they can."""
    cv = float(network_ms.std() / network_ms.mean())
    if cv > CV_TOLERANCE:
        return [f"network time varied by {cv:.0%} (coefficient of variation, limit {CV_TOLERANCE:.0%})"]
    return []
