"""The gate against an earlier run: it fails on what got worse or could not be compared, unless that may differ."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from benchmarks.judge.row_pairs import Pair, pair_rows
from benchmarks.judge.verdict import DEFAULT_MAX_DROP
from benchmarks.schema import Results, Spread
from benchmarks.where_measured import machine_facts
from samkr_edge.errors import SamkrError
from samkr_edge.printable import counted

What = Literal["rows", "accuracy", "speed"]
WHAT: tuple[What, ...] = get_args(What)
# A smaller drop of the speed-up over the run's own baseline is no regression, however certain.
SLOWER_TOLERANCE = 0.05


@dataclass(frozen=True)
class Uncompared:
    """Something of two runs that could not be compared, and why."""

    what: What
    why: str

    def __str__(self) -> str:
        return f"{self.what:<10} {self.why}"

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """A run against an earlier one.

    Attributes:
        lost: rows that lost more AP than they may. ``slower``: rows whose speed-up fell, beyond both intervals.
        uncompared: what nothing can be said of.
        compared: how many figures were compared.
    """

    lost: list[Pair]
    slower: list[tuple[Pair, Spread, Spread]]
    uncompared: list[Uncompared]
    compared: int


def compare_runs(results: Results, earlier: Results, max_drop: float) -> Comparison:
    """Row by row, paired by ``pair_rows``.

    AP is compared where both runs scored the same images with the same labels by the same protocol. Speed is compared
    where both ran on the same machine in the same way and with the same baseline model: as the speed-up over that
    baseline, since milliseconds of two runs differ by more than a model does. A row is slower where the two intervals
    are apart.
    """
    rows = pair_rows(earlier.models, results.models)
    uncompared = [Uncompared("rows", f"{old.name} ({old.file}) is missing now") for old in rows.gone]
    uncompared += [Uncompared("rows", f"{new.name} ({new.file}) has no earlier row") for new in rows.new]
    lost: list[Pair] = []
    slower: list[tuple[Pair, Spread, Spread]] = []
    compared = 0

    other = _other_images(results, earlier)
    uncompared += [Uncompared("accuracy", other)] if other and rows.pairs else []
    for old, new in rows.pairs if not other and results.dataset else []:
        if old.ap is None or new.ap is None or not math.isfinite(old.ap - new.ap):
            uncompared.append(Uncompared("accuracy", f"{new.name}: AP was {old.ap}, is {new.ap}"))
        elif old.ap <= max_drop:
            why = f"{new.name}: its {old.ap:.1f} {old.metric} could not have fallen by more than {max_drop:g}"
            uncompared.append(Uncompared("accuracy", why))
        else:
            compared += 1
            lost += [(old, new)] if not old.ap - new.ap <= max_drop else []

    other = _other_conditions(results, earlier)
    uncompared += [Uncompared("speed", other)] if other and rows.pairs else []
    for old, new in rows.pairs if not other else []:
        before, now = old.speed_up, new.speed_up
        if old.is_baseline and new.is_baseline:
            continue
        if before is None or now is None or not math.isfinite(before.value - now.value):
            uncompared.append(Uncompared("speed", f"{new.name}: one of the runs has no speed-up for it"))
            continue
        fell = now.value < before.value * (1 - SLOWER_TOLERANCE)
        if fell and now.high < before.low:
            slower.append(((old, new), before, now))
        elif fell and not (results.stable and earlier.stable):
            why = f"{new.name}: {before.value:.2f}× before, {now.value:.2f}× now, and the times are unstable"
            uncompared.append(Uncompared("speed", why))
            continue
        compared += 1
    return Comparison(lost, slower, uncompared, compared)


def regression(
    found: Comparison, results: Results, max_drop: float | None, may_differ: Collection[str] = ()
) -> SamkrError | None:
    """The error for what got worse, or could not be compared and is not among ``WHAT`` that ``may_differ``.

    Returns:
        SE-Q65 AP lost, SE-Q66 slower, SE-Q67 not compared; None where everything was compared and is as good.
    """
    if found.lost:
        return SamkrError(
            "SE-Q65",
            f"the quality gate failed: {_names(found.lost)} lost more than {drop_of(max_drop):g} "
            f"{results.metric} since the baseline results",
            {
                new.name: f"{old.ap:.1f} {old.metric} before, {new.ap:.1f} {new.metric} now"
                for old, new in found.lost[:4]
            },
            fix="find what changed the model: samkr-edge inspect MODEL",
        )
    if found.slower:
        return SamkrError(
            "SE-Q66",
            f"the quality gate failed: {_names([pair for pair, *_ in found.slower])} got slower against "
            f"{results.baseline().name} since the baseline results",
            {
                new.name: f"{was.value:.2f}× [{was.low:.2f}, {was.high:.2f}] before, "
                f"{now.value:.2f}× [{now.low:.2f}, {now.high:.2f}] now"
                for (_, new), was, now in found.slower[:4]
            },
            fix="build the model again on this machine, and measure both with --require-stable",
        )
    if not found.compared:
        return SamkrError(
            "SE-Q67",
            "the quality gate failed: nothing could be compared with the baseline results",
            _reasons(found.uncompared)
            or {"speed": "a single model has no speed-up, and its accuracy was not measured"},
            fix="measure the baseline again with the same models, data and settings",
        )
    open_points = [one for one in found.uncompared if one.what not in may_differ]
    if open_points:
        wanted = " ".join(
            f"--may-differ {what}" for what in WHAT if any(one.what == what for one in open_points)
        )
        return SamkrError(
            "SE-Q67",
            f"the quality gate failed: {counted(len(open_points), 'thing')} "
            "could not be compared with the baseline results",
            _reasons(open_points),
            fix=f"measure the same models, data and settings, or add {wanted}",
        )
    return None


def drop_of(max_drop: float | None) -> float:
    """AP that a row may lose against its earlier self."""
    return DEFAULT_MAX_DROP if max_drop is None else max_drop


def _reasons(uncompared: Sequence[Uncompared]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for one in uncompared[:4]:
        reasons.setdefault(one.what, []).append(one.why)
    return reasons


def _names(pairs: Sequence[Pair]) -> str:
    return ", ".join(new.name for _, new in pairs)


def _other_images(results: Results, earlier: Results) -> str:
    """Why AP of the two runs cannot be compared; empty if it can, or if neither measured any."""
    now, before = results.dataset, earlier.dataset
    if now is None and before is None:
        return ""
    if now is None or before is None:
        return f"measured {'only then' if now is None else 'only now'}"
    if results.metric != earlier.metric:
        return f"{earlier.metric} then, {results.metric} now"
    if now.labelled_images == before.labelled_images:
        return _other_protocol(results, earlier)
    told = [
        f"{one.images} of {one.images_in_split} images of {one.name}/{one.split}" for one in (before, now)
    ]
    if told[0] == told[1]:
        return f"{told[0]} then and now, but the images or their labels have changed"
    return f"{told[0]} then, {told[1]} now"


def _other_protocol(results: Results, earlier: Results) -> str:
    now, before = results.protocol, earlier.protocol
    if now == before:
        return ""
    if now.label != before.label:
        return f"AP by {before.label} then, by {now.label} now"
    return f"AP by {now.label} then and now, but with another rescoring network"


def _other_conditions(results: Results, earlier: Results) -> str:
    """Why speed of the two runs cannot be compared; empty if it can."""
    before, now = _conditions(earlier), _conditions(results)
    different = [f"{name} {before[name]} then, {now[name]} now" for name in now if before[name] != now[name]]
    if different:
        return "; ".join(different)
    old, new = earlier.baseline(), results.baseline()
    if old.sha256 != new.sha256:
        return f"measured against {old.name} ({old.file}) then, and now against different bytes: {new.file}"
    return "" if len(results.models) > 1 else "a single model has no speed-up"


def _conditions(results: Results) -> dict[str, object]:
    """What must be equal for two speed-ups to be comparable."""
    settings = results.settings
    return {
        **machine_facts(results.environment),
        "power mode": results.machine.power_mode_before,
        "mode": settings.mode,
        "batch": settings.batch,
        "threads": settings.threads,
        "CUDA graph": settings.cuda_graph,
        "random image": settings.random_image,
    }
