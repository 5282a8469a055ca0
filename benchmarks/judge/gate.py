"""The quality gate: limits that make the command fail, for use in CI."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.judge.wording import interval, signed
from benchmarks.schema import ModelResult
from samkr_edge.errors import SamkrError


def gate_failure(
    models: Sequence[ModelResult], max_drop: float | None, max_latency: float | None
) -> SamkrError | None:
    """The error for the rows that break a limit, or None. The baseline is exempt unless it is the only row.

    Unknown values break a limit: a gate must not pass what it cannot judge.

    Args:
        models: the rows of a run.
        max_drop: AP that a model may lose against the baseline (the point estimate, not the interval's end).
        max_latency: milliseconds that the p90 of the total time may reach, as MLPerf counts a single stream.

    Returns:
        SE-Q60 too much AP lost, SE-Q61 too slow, SE-Q62 AP that cannot be judged; each names every row that failed.
    """
    judged = [model for model in models if not model.is_baseline] or list(models)
    if max_drop is not None:
        lost = [m for m in judged if m.difference is not None and -m.difference.value > max_drop]
        blind = [m for m in judged if m.difference is None or not math.isfinite(m.difference.value)]
        base = next(model.ap for model in models if model.is_baseline)
        if lost:
            return SamkrError(
                "SE-Q60",
                f"the quality gate failed: {_names(lost)} lost more than {max_drop:g} AP",
                {
                    m.name: f"{signed(m.difference.value)} AP {interval(m.difference)}"
                    for m in lost[:4]
                    if m.difference
                },
                fix="fine-tune (samkr-edge qat), or keep more layers in FP32 by the policy",
            )
        if blind or base is None or not base > max_drop:
            return SamkrError(
                "SE-Q62",
                f"the quality gate failed: unknown whether {_names(blind or judged)} lost more than {max_drop:g} AP",
                {m.name: "no AP" if m.ap is None else f"{m.ap:.1f} AP" for m in models[:4]},
                fix="use images on which the baseline finds people: samkr-edge data check DIR",
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


def _names(models: Sequence[ModelResult]) -> str:
    return ", ".join(model.name for model in models)
