"""The quality gate: limits that make the command fail, for use in CI."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.judge.wording import agreement, interval, signed
from benchmarks.schema import ModelResult
from samkr_edge.errors import SamkrError


@dataclass(frozen=True)
class Limits:
    """What a model may cost; None: anything.

    Attributes:
        max_drop: AP, or AP against FP32, that a model may lose against the baseline (the point estimate, not the
            interval's end).
        max_moved: pixels within which it must have 95 % of the joints that FP32 finds.
        max_latency: milliseconds that the p90 of the total time may reach, as MLPerf counts a single stream.
    """

    max_drop: float | None = None
    max_moved: float | None = None
    max_latency: float | None = None


def gate_failure(models: Sequence[ModelResult], limits: Limits) -> SamkrError | None:
    """The error for the rows that break a limit, or None. The baseline is exempt unless it is the only row.

    Unknown values break a limit: a gate must not pass what it cannot judge.

    Returns:
        SE-Q60 too much AP lost, SE-Q61 too slow, SE-Q62 AP that cannot be judged, SE-Q63 joints too far away; each
        names every row that failed.
    """
    max_drop, max_latency = limits.max_drop, limits.max_latency
    judged = [model for model in models if not model.is_baseline] or list(models)
    if max_drop is not None:
        lost = [m for m in judged if m.change is not None and -m.change.value > max_drop]
        blind = [m for m in judged if m.change is None or not math.isfinite(m.change.value)]
        base = next(model.ap for model in models if model.is_baseline)
        if lost:
            return SamkrError(
                "SE-Q60",
                f"the quality gate failed: {_names(lost)} lost more than {max_drop:g} {lost[0].metric}",
                {
                    m.name: f"{signed(m.change.value)} {m.metric} {interval(m.change)}"
                    for m in lost[:4]
                    if m.change
                },
                fix="fine-tune (samkr-edge qat), or keep more layers in FP32 by the policy",
            )
        if blind or base is None or not base > max_drop:
            return SamkrError(
                "SE-Q62",
                f"the quality gate failed: unknown whether {_names(blind or judged)} lost more than "
                f"{max_drop:g} {judged[0].metric}",
                {m.name: "no AP" if m.ap is None else f"{m.ap:.1f} {m.metric}" for m in models[:4]},
                fix="use images on which the baseline finds people: samkr-edge data check DIR",
            )
    if limits.max_moved is not None:
        apart = [m for m in judged if not _moved(m) <= limits.max_moved]
        if apart:
            return SamkrError(
                "SE-Q63",
                f"the quality gate failed: {_names(apart)} moved joints by more than {limits.max_moved:g} px",
                {m.name: f"it {agreement(m)}" if m.against_fp32 else "not compared" for m in apart[:4]},
                fix="keep more layers in FP32 by the policy (samkr-edge search --photos DIR), or raise --max-moved",
            )
    if max_latency is not None:
        slow = [m for m in judged if not m.latency.p90_ms <= max_latency]
        if slow:
            return SamkrError(
                "SE-Q61",
                f"the quality gate failed: {_names(slow)} took more than {max_latency:g} ms (p90)",
                {m.name: f"p90 {m.latency.p90_ms:.1f} ms, p50 {m.latency.p50_ms:.1f} ms" for m in slow[:4]},
                fix="build an INT8 model or a smaller one, or raise --max-latency",
            )
    return None


def _moved(model: ModelResult) -> float:
    """Pixels within which it has 95 % of FP32's joints; infinite where that is at no distance."""
    found = model.against_fp32
    return math.inf if found is None or found.moved_px_p95 is None else found.moved_px_p95


def _names(models: Sequence[ModelResult]) -> str:
    return ", ".join(model.name for model in models)
