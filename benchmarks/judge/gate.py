"""The quality gate: limits that make the command fail, for use in CI."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.judge.wording import agreement, interval, signed
from benchmarks.schema import ModelResult
from samkr_edge.errors import SamkrError

_FAILED = "the quality gate failed: "


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
        names every row that failed, and the other limits that were broken.
    """
    judged = [model for model in models if not model.is_baseline] or list(models)
    broken = [
        None if limits.max_drop is None else _lost_too_much(models, judged, limits.max_drop),
        None if limits.max_moved is None else _moved_too_far(judged, limits.max_moved),
        None if limits.max_latency is None else _too_slow(judged, limits.max_latency),
    ]
    failures = [failure for failure in broken if failure is not None]
    if not failures:
        return None
    first, *others = failures
    also = [f"{other.message.removeprefix(_FAILED)} ({other.code})" for other in others]
    return SamkrError(first.code, first.message, {**first.facts, "and": also or None}, first.fix)


def _lost_too_much(
    models: Sequence[ModelResult], judged: Sequence[ModelResult], max_drop: float
) -> SamkrError | None:
    lost = [m for m in judged if m.change is not None and -m.change.value > max_drop]
    blind = [m for m in judged if m.change is None or not math.isfinite(m.change.value)]
    base = next(model.ap for model in models if model.is_baseline)
    if lost:
        return SamkrError(
            "SE-Q60",
            f"{_FAILED}{_names(lost)} lost more than {max_drop:g} {lost[0].metric}",
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
            f"{_FAILED}unknown whether {_names(blind or judged)} lost more than {max_drop:g} {judged[0].metric}",
            {m.name: "no AP" if m.ap is None else f"{m.ap:.1f} {m.metric}" for m in models[:4]},
            fix="use images on which the baseline finds people: samkr-edge data check DIR",
        )
    return None


def _moved_too_far(judged: Sequence[ModelResult], max_moved: float) -> SamkrError | None:
    apart = [m for m in judged if not _moved(m) <= max_moved]
    if not apart:
        return None
    return SamkrError(
        "SE-Q63",
        f"{_FAILED}{_names(apart)} moved joints by more than {max_moved:g} px",
        {m.name: f"it {agreement(m)}" if m.against_fp32 else "not compared" for m in apart[:4]},
        fix="keep more layers in FP32 by the policy (samkr-edge search --photos DIR), or raise --max-moved",
    )


def _too_slow(judged: Sequence[ModelResult], max_latency: float) -> SamkrError | None:
    slow = [m for m in judged if not m.latency.p90_ms <= max_latency]
    if not slow:
        return None
    return SamkrError(
        "SE-Q61",
        f"{_FAILED}{_names(slow)} took more than {max_latency:g} ms (p90)",
        {m.name: f"p90 {m.latency.p90_ms:.1f} ms, p50 {m.latency.p50_ms:.1f} ms" for m in slow[:4]},
        fix="build an INT8 model or a smaller one, or raise --max-latency",
    )


def _moved(model: ModelResult) -> float:
    """Pixels within which it has 95 % of FP32's joints; infinite where that is at no distance."""
    found = model.against_fp32
    return math.inf if found is None or found.moved_px_p95 is None else found.moved_px_p95


def _names(models: Sequence[ModelResult]) -> str:
    return ", ".join(model.name for model in models)
