"""The quality gate: limits that make the command fail, for use in CI."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results import ModelResult, Results
from benchmarks.verdict import DEFAULT_MAX_DROP, interval, signed
from samkr_edge.errors import SamkrError

# Speed against the baseline of the same run that fell by less than this is no regression, however sure.
SLOWER_TOLERANCE = 0.05


def gate_failure(
    models: Sequence[ModelResult], max_drop: float | None, max_latency: float | None
) -> SamkrError | None:
    """The error for the rows that break a limit, or None. The baseline is exempt unless it is the only row.

    Args:
        models: the rows of a run.
        max_drop: AP that a model may lose against the baseline (the point estimate, not the interval's end).
        max_latency: milliseconds that the p90 of the total time may reach, as MLPerf counts a single stream.

    Returns:
        SE-Q60 too much AP lost, SE-Q61 too slow; both name every row that failed.
    """
    judged = [model for model in models if not model.is_baseline] or list(models)
    if max_drop is not None:
        lost = [m for m in judged if m.difference is not None and -m.difference.value > max_drop]
        if lost:
            return SamkrError(
                "SE-Q60",
                f"the quality gate failed: {_names(lost)} lost more than {max_drop:g} AP",
                [
                    f"{m.name}: {signed(m.difference.value)} AP {interval(m.difference)}"
                    for m in lost[:4]
                    if m.difference
                ],
                fix="fine-tune (samkr-edge qat), or keep more layers in FP32 by the policy",
            )
    if max_latency is not None:
        slow = [m for m in judged if m.latency.p90_ms > max_latency]
        if slow:
            return SamkrError(
                "SE-Q61",
                f"the quality gate failed: {_names(slow)} took more than {max_latency:g} ms (p90)",
                [f"{m.name}: p90 {m.latency.p90_ms:.1f} ms, p50 {m.latency.p50_ms:.1f} ms" for m in slow[:4]],
                fix="build an INT8 model or a smaller one, or raise --max-latency",
            )
    return None


def _names(models: Sequence[ModelResult]) -> str:
    return ", ".join(model.name for model in models)


def regression(results: Results, earlier: Results, max_drop: float | None) -> SamkrError | None:
    """The error for rows that got worse than the row of the same name in an earlier run, or None.

    AP is compared where both runs scored the same images, and may fall by ``max_drop`` (DEFAULT_MAX_DROP where it is
    None). Speed is compared where both ran on the same machine in the same way and with the same baseline model: as
    the speed-up over that baseline, since milliseconds of two runs differ by more than a model does. A row is slower
    where the two intervals are apart.

    Returns:
        SE-Q65 AP lost, SE-Q66 slower.

    Raises:
        SamkrError: SE-U65 the runs have nothing to compare: no row, or neither images nor machine in common.
    """
    before = {model.name: model for model in earlier.models}
    pairs = [(before[model.name], model) for model in results.models if model.name in before]
    same_images = _images(results) is not None and _images(results) == _images(earlier)
    same_machine = _machine(results) == _machine(earlier)
    if not pairs or not (same_images or same_machine):
        raise SamkrError(
            "SE-U65",
            "the run and the baseline results have nothing in common, so nothing can be compared",
            [
                f"rows       {', '.join(model.name for model in results.models)}",
                f"baseline   {', '.join(before)}",
                f"images     {'the same' if same_images else 'others'}",
                f"machine    {'the same' if same_machine else 'another, or other settings'}",
            ],
            fix="measure the baseline again with the same models, data and settings",
        )
    budget = DEFAULT_MAX_DROP if max_drop is None else max_drop
    if same_images:
        lost = [
            (old, new)
            for old, new in pairs
            if old.ap is not None and new.ap is not None and old.ap - new.ap > budget
        ]
        if lost:
            return SamkrError(
                "SE-Q65",
                f"the quality gate failed: {_names([new for _, new in lost])} lost more than {budget:g} AP "
                "since the baseline results",
                [f"{new.name}: {old.ap:.1f} AP before, {new.ap:.1f} AP now" for old, new in lost[:4]],
                fix="find what changed the model: samkr-edge inspect MODEL",
            )
    if same_machine and results.baseline().sha256 == earlier.baseline().sha256:
        slow = [
            (old.speed_up, new.speed_up, new)
            for old, new in pairs
            if old.speed_up is not None
            and new.speed_up is not None
            and new.speed_up.high < old.speed_up.low
            and new.speed_up.value < old.speed_up.value * (1 - SLOWER_TOLERANCE)
        ]
        if slow:
            return SamkrError(
                "SE-Q66",
                f"the quality gate failed: {_names([new for *_, new in slow])} got slower against "
                f"{results.baseline().name} since the baseline results",
                [
                    f"{new.name}: {was.value:.2f}× [{was.low:.2f}, {was.high:.2f}] before, "
                    f"{now.value:.2f}× [{now.low:.2f}, {now.high:.2f}] now"
                    for was, now, new in slow[:4]
                ],
                fix="build the model again on this machine, and measure both with --require-stable",
            )
    return None


def _images(results: Results) -> tuple[str, str] | None:
    return (
        None
        if results.dataset is None
        else (results.dataset.annotations_sha256, results.dataset.images_digest)
    )


def _machine(results: Results) -> tuple[object, ...]:
    """What must be equal for two latencies to be comparable."""
    environment, settings = results.environment, results.settings
    return (
        environment.get("cpu"),
        environment.get("cores"),
        environment.get("jetson"),
        results.machine.power_mode_before,
        settings.threads,
        settings.mode,
        settings.batch,
    )
