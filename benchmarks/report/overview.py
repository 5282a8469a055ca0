"""The part above the single runs of a report: names of runs, the choice under a constraint, one table of all."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from benchmarks.judge.choose import Candidate, Choice, budgets, choose
from benchmarks.judge.wording import milliseconds, short_labels, with_interval
from benchmarks.schema import ModelResult, Results
from samkr_edge.printable import counted


def device_name(results: Results) -> str:
    """The Jetson, else the CPU; '' if the results do not say."""
    for key in ("jetson", "cpu"):
        value = results.environment.get(key)
        if isinstance(value, dict):  # other commands nest it in their results
            value = value.get("model") or value.get("name")
        if isinstance(value, str) and value:
            # The release follows a Jetson's model: "... R36 (release), ...", or "... L4T unknown".
            return re.split(r" (?:R\d|L4T )", value)[0].removeprefix("NVIDIA ").strip()
    return ""


def run_names(runs: Sequence[Results]) -> list[str]:
    """The shortest names that distinguish the runs: by device, cell or data, power mode, threads, batch, split and
    protocol, else time.
    """

    def parts(results: Results) -> list[str]:
        settings = results.settings
        return [
            device_name(results),
            results.label or (results.dataset.name if results.dataset else "latency"),
            results.machine.power_mode_before or "",
            f"{settings.threads} thread{'s' if settings.threads > 1 else ''}",
            f"batch {settings.batch}" if settings.mode == "offline" else "",
            results.ap_label,
        ]

    rows = [parts(results) for results in runs]
    for size in range(1, len(rows[0]) + 1):
        for chosen in combinations(range(len(rows[0])), size):
            names = [", ".join(filter(None, (row[index] for index in chosen))) for row in rows]
            if all(names) and len(set(names)) == len(names):
                return names
    return [
        f"{row[1]}, {results.time[:16].replace('T', ' ')}, run {number}"
        for number, (row, results) in enumerate(zip(rows, runs, strict=True), 1)
    ]


def candidates(runs: Sequence[tuple[str, Results]]) -> list[Candidate]:
    """All models with AP."""
    return [
        Candidate(
            label,
            model.latency.p90_ms,
            model.ap,
            results.ap_basis,
            results.stable and model.stable,
            results.metric,
        )
        for label, model, results in _labelled(runs)
        if model.ap is not None and math.isfinite(model.ap) and results.dataset is not None
    ]


def chosen(
    runs: Sequence[tuple[str, Results]], max_latency: float | None, min_ap: float | None
) -> Choice | None:
    """The choice among all models under a constraint; None without one."""
    if max_latency is None and min_ap is None:
        return None
    found = candidates(runs)
    known = {candidate.name for candidate in found}
    left_out = [label for label, *_ in _labelled(runs) if label not in known]
    return choose(found, max_latency=max_latency, min_ap=min_ap, left_out=left_out)


def _labelled(runs: Sequence[tuple[str, Results]]) -> list[tuple[str, ModelResult, Results]]:
    """Every model with its name among all runs."""
    found = []
    for name, results in runs:
        labels = short_labels(results.models)
        for model in results.models:
            label = f"{labels[model.name]} · {name}" if len(runs) > 1 else labels[model.name]
            found.append((label, model, results))
    return found


@dataclass(frozen=True)
class Overview:
    """The head of the page.

    Attributes:
        headline: the choice, if there is a constraint, else what the page shows. ``lead``: why.
        chosen: name of the chosen model.
        budgets: (range of latency budgets, model, AP, p90) of the models on the Pareto front.
        rows: every model of every run as text: run, model, AP, its split and protocol, difference, p50, p90, speed-up.
    """

    headline: str
    lead: str
    chosen: str | None
    budgets: list[tuple[str, str, str, str]]
    rows: list[dict[str, Any]]


def overview(
    runs: Sequence[tuple[str, Results]], max_latency: float | None, min_ap: float | None
) -> Overview | None:
    """None for a page of one run without a constraint, which starts with its verdict."""
    choice = chosen(runs, max_latency, min_ap)
    if len(runs) < 2 and choice is None:
        return None
    found = candidates(runs)
    comparable = len({candidate.basis for candidate in found}) == 1
    head, _, why = (choice.sentence if choice else _contents(runs)).partition(": ")
    return Overview(
        head + ("." if why else ""),
        why[:1].upper() + why[1:],
        choice.name if choice else None,
        _ranges(budgets(found)) if comparable else [],
        [_line(name, results, model) for name, results in runs for model in results.models]
        if len(runs) > 1
        else [],
    )


def _contents(runs: Sequence[tuple[str, Results]]) -> str:
    models = sum(len(results.models) for _, results in runs)
    return f"{counted(len(runs), 'run')}, {models} measured models: {'; '.join(name for name, _ in runs)}."


def _ranges(best: Sequence[Candidate]) -> list[tuple[str, str, str, str]]:
    rows = []
    for candidate, slower in zip(best, [*best[1:], None], strict=True):
        start = f"{milliseconds(candidate.p90)} ms"
        text = f"from {start}" if slower is None else f"{start} to {milliseconds(slower.p90)} ms"
        rows.append((text, candidate.name, f"{candidate.ap:.1f}", milliseconds(candidate.p90)))
    return rows


def _line(name: str, results: Results, model: ModelResult) -> dict[str, Any]:
    difference, speed = model.change, model.speed_up
    return {
        "run": name,
        "model": short_labels(results.models)[model.name],
        "ap": "" if model.ap is None else f"{model.ap:.1f}",
        "ap_label": results.ap_label,
        "difference": "" if difference is None else with_interval(difference),
        "p50": milliseconds(model.latency.p50_ms),
        "p90": milliseconds(model.latency.p90_ms),
        "speed": "" if speed is None else f"{speed.value:.2f}×",
        "recommended": model.name == results.recommended,
        "stable": results.stable and model.stable,
    }
