"""Was the machine in the same state from the first frame to the last? Clock, temperature and the spread of times."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.measure.sensors import MachineState
from samkr_edge.errors import SamkrError

# A clock that moved by more than this between the first and the last quarter of a run makes the run unstable.
CLOCK_TOLERANCE = 0.03
# The same for the network time itself, which also sees what no sensor shows: a busy neighbour, a hypervisor.
DRIFT_TOLERANCE = 0.05
# Coefficient of variation of the network time. trtexec warns at 2.5 % on an idle GPU; a CPU that shares its cores
# with an operating system never gets there.
CV_TOLERANCE = 0.10
# Fewer rounds than this say nothing about a trend.
_TREND_ROUNDS = 20


def clock_change(
    states: Sequence[MachineState], clock: Callable[[MachineState], float | None] = lambda state: state.mhz
) -> float | None:
    """Relative change of a clock from the first to the last quarter of the samples; None if unreadable."""
    mhz = np.array([value for state in states if (value := clock(state))], float)
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


def reasons_of_run(
    states: Sequence[MachineState],
    network_ms: np.ndarray,
    *,
    on_gpu: bool = False,
    one_chip: bool = False,
    power_modes: tuple[str | None, str | None] = (None, None),
) -> list[str]:
    """Why the run as a whole cannot be trusted; empty when it can.

    Args:
        states: readings from the first frame to the last.
        network_ms: (R, M), as ``time_drift`` takes it.
        on_gpu: a model ran on the GPU. The clock and the throttling of a GPU that only idles mean nothing.
        one_chip: CPU and GPU share power and heat (Jetson): what throttles, throttles both.
        power_modes: before and after.
    """
    reasons = []
    clocks = {"CPU": clock_change(states)}
    if on_gpu:
        clocks["GPU"] = clock_change(states, lambda state: state.gpu_mhz)
    if on_gpu or one_chip:
        reasons += _throttling(states)
    for name, change in clocks.items():
        if change is not None and abs(change) > CLOCK_TOLERANCE:
            reasons.append(f"the {name} clock moved by {change:+.1%} (limit {CLOCK_TOLERANCE:.0%})")
    if power_modes[0] != power_modes[1]:
        reasons.append(f"the power mode changed from {power_modes[0]} to {power_modes[1]}")
    drift = time_drift(network_ms)
    if drift is not None and abs(drift) > DRIFT_TOLERANCE:
        reasons.append(
            f"network times drifted by {drift:+.1%} from start to end (limit {DRIFT_TOLERANCE:.0%})"
        )
    return reasons


def _throttling(states: Sequence[MachineState]) -> list[str]:
    reasons = []
    names = sorted({name for state in states for name in state.throttled})
    if names:
        share = sum(bool(state.throttled) for state in states) / len(states)
        reasons.append(f"the device throttled in {share:.0%} of the readings ({', '.join(names)})")
    events = [state.throttle_events for state in states if state.throttle_events is not None]
    if events and events[-1] > events[0]:
        reasons.append(f"the hardware cut the clock {events[-1] - events[0]} times (over-current)")
    return reasons


def reasons_of_model(network_ms: np.ndarray) -> list[str]:
    """Why one model's times (N,) cannot be trusted; empty when they can."""
    cv = float(network_ms.std() / network_ms.mean())
    if cv > CV_TOLERANCE:
        return [f"network time varied by {cv:.0%} (coefficient of variation, limit {CV_TOLERANCE:.0%})"]
    return []


def unstable_error(reasons: Sequence[str], fix: str | None) -> SamkrError | None:
    """The error of ``--require-stable``, or None where there is no reason."""
    if not reasons:
        return None
    return SamkrError(
        "SE-V65",
        "the run was unstable, and --require-stable was given",
        {"reason": reasons[:4]},
        fix=fix or "close other programs on this machine, then measure again",
    )
