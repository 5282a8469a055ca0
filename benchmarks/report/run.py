"""Part of the report: one run. Its verdict, key figures, table, latency split and accuracy, as texts and numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.judge.wording import (
    bounds,
    interval,
    is_significant,
    milliseconds,
    short_labels,
    signed,
    with_interval,
)
from benchmarks.paper import beside_the_paper
from benchmarks.report.bounds import bounds_part
from benchmarks.report.facts import facts, facts_line, flat
from benchmarks.report.pictures import Budget, pictures
from benchmarks.report.svg import mark_icon
from benchmarks.report.table import accuracy_columns, conditions, extras, has_paper
from benchmarks.schema import AGAINST_FP32, ModelResult, Results, SplitMs
from samkr_edge.printable import counted

STAGES_SHOWN = tuple(SplitMs.model_fields)


@dataclass(frozen=True)
class ModelRow:
    """One model as the template shows it; all numbers are text."""

    model: ModelResult
    label: str
    series: int
    icon: str
    recommended: bool
    ap: str
    difference: str
    difference_note: str
    against_fp32: list[tuple[str, str]]
    p50: str
    p90: str
    p99: str
    speed: str
    speed_interval: str
    extras: list[tuple[str, str]]
    size: str
    paper: str
    split: list[tuple[str, float, str]]
    split_total: str
    reasons: list[str] = field(default_factory=list)


def run_part(number: int, results: Results, folder: Path, budget: Budget, name: str) -> dict[str, Any]:
    """What the template shows of run ``number``; ``name`` is its heading if there are several."""
    labels = short_labels(results.models)
    slowest = max(model.split_ms.total for model in results.models)
    rows = [
        _row(model, labels[model.name], series, results, slowest)
        for series, model in enumerate(results.models)
    ]
    head, _, rest = results.verdict.partition(": ")
    short = head.startswith(("Take ", "Keep ")) and bool(rest)
    return {
        "results": results,
        "anchor": f"run-{number + 1}",
        "name": name,
        "extras": [column.heading for column in extras(results)],
        "stages": {stage for row in rows for stage, _, _ in row.split},
        "headline": _unbroken(head + "." if short else results.verdict),
        "lead": _unbroken(rest[:1].upper() + rest[1:]) if short else "",
        "rows": rows,
        "tiles": _tiles(results, labels),
        "has_ap": results.dataset is not None,
        "against_fp32": [_two_lines(column.heading) for column in accuracy_columns(results)]
        if results.metric == AGAINST_FP32
        else [],
        "has_paper": has_paper(results),
        "beside_paper": beside_the_paper(results),
        "ap_label": results.ap_label,
        "pictures": pictures(number, results, folder, labels, budget),
        "bounds": bounds_part(results, labels),
        "accuracy": _accuracy_table(results, labels),
        "conditions": conditions(results),
        "facts": facts(results),
        "environment": flat(results.environment),
        "facts_line": facts_line(results),
    }


def _unbroken(text: str) -> str:
    """No line break between a number and its unit, nor within an interval."""
    for unit in ("ms", "AP", "images"):
        text = text.replace(f" {unit}", f"\u00a0{unit}")
    return text.replace(", +", ",\u00a0+").replace(", −", ",\u00a0−")


def _two_lines(text: str) -> tuple[str, str]:
    """``98.5 [94.5, 100.0]``, or another text that ends in brackets: what stands before them, and they."""
    start = re.search(r" [\[(]", text)
    return (text, "") if start is None else (text[: start.start()], text[start.start() + 1 :])


def _row(model: ModelResult, label: str, series: int, results: Results, slowest: float) -> ModelRow:
    speed, difference = model.speed_up, model.change
    note = ""
    if difference is not None:
        note = "beyond noise" if is_significant(difference) else "within noise"
    return ModelRow(
        model=model,
        label=label,
        series=series % 4,
        icon=mark_icon(series % 4),
        recommended=model.name == results.recommended,
        ap="–" if model.ap is None else f"{model.ap:.1f}",
        difference="baseline" if difference is None else signed(difference.value),
        difference_note="" if difference is None else f"{interval(difference)} {note}",
        against_fp32=[_two_lines(column.cell(model)) for column in accuracy_columns(results)],
        p50=milliseconds(model.latency.p50_ms),
        p90=milliseconds(model.latency.p90_ms),
        p99=milliseconds(model.latency.p99_ms),
        speed="1×" if speed is None else f"{speed.value:.2f}×",
        speed_interval="" if speed is None else f"[{speed.low:.2f}, {speed.high:.2f}]",
        extras=[(column.heading, column.cell(model)) for column in extras(results)],
        size=f"{model.size_mb:.1f}",
        paper="" if model.paper is None else f"{model.paper.ap:.1f}",
        split=_split(model.split_ms, slowest),
        split_total=milliseconds(model.split_ms.total),
        reasons=model.reasons,
    )


def _split(parts: SplitMs, slowest: float) -> list[tuple[str, float, str]]:
    """(stage, share of the longest bar in percent, text) of each visible stage."""
    values = [(stage, float(getattr(parts, stage))) for stage in STAGES_SHOWN]
    return [
        (stage, 100 * value / slowest, milliseconds(value))
        for stage, value in values
        if value >= 0.001 * slowest
    ]


def _focus(results: Results) -> ModelResult:
    """The model the key figures are about: the recommended one, or else the fastest that is not the baseline."""
    others = [model for model in results.models if not model.is_baseline]
    chosen = next((model for model in others if model.name == results.recommended), None)
    return chosen or min(others or results.models, key=lambda model: model.latency.p50_ms)


def _tiles(results: Results, labels: dict[str, str]) -> list[tuple[str, str, str, str]]:
    """(what, number, unit, small print) of the key figures."""
    model, base = _focus(results), results.baseline()
    against = labels[base.name]
    alone = model is base
    tiles = []
    if model.speed_up is not None and not model.simulated:
        spread = model.speed_up
        small = f"of {against} · {spread.low:.2f} to {spread.high:.2f}"
        tiles.append((f"{labels[model.name]} speed", f"{spread.value:.2f}", "×", small))
    small = f"{against} {milliseconds(base.latency.p50_ms)} ms"
    if alone:
        small = f"p90 {milliseconds(model.latency.p90_ms)} ms"
    if not model.simulated:
        tiles.append(("Latency, p50", milliseconds(model.latency.p50_ms), "ms", small))
    if model.against_fp32 is not None:
        tiles.append(_agreement_tile(model, results.scored_on))
    elif model.ap is not None:
        small = counted(results.dataset.images, "image") if results.dataset else ""
        if model.change is not None:
            small = f"{with_interval(model.change)} to {against}"
        tiles.append(("Train-fit" if model.trained_on else "Accuracy", f"{model.ap:.1f}", "AP", small))
    smaller = base.size_mb / model.size_mb
    small = model.file
    if not alone:
        small = f"{against} {base.size_mb:.1f} MB" + (f" · {smaller:.1f}× smaller" if smaller > 1.05 else "")
    tiles.append(("Model file", f"{model.size_mb:.1f}", "MB", small))
    return tiles


def _agreement_tile(model: ModelResult, photos: str) -> tuple[str, str, str, str]:
    found = model.against_fp32
    assert found is not None
    if model.is_baseline:
        return "People found", str(found.kept), "", f"on {photos}"
    people = counted(found.kept + found.lost, "person", "people")
    small = f"{bounds(found.ap)} · keeps {found.kept} of {people}"
    return "Against FP32", f"{found.ap.value:.1f}", "AP", small


def _accuracy_table(results: Results, labels: dict[str, str]) -> dict[str, Any] | None:
    """All AP figures: one row per figure, one column per model."""
    scored = [model for model in results.models if model.accuracy]
    if not scored or scored[0].accuracy is None:
        return None
    keys = list(scored[0].accuracy)
    return {
        "models": [labels[model.name] for model in scored],
        "rows": [
            (_metric(key), [f"{(model.accuracy or {}).get(key, float('nan')):.1f}" for model in scored])
            for key in keys
        ],
    }


_METRICS = {
    "ap": "AP",
    "ap50": "AP at OKS 0.50",
    "ap75": "AP at OKS 0.75",
    "apm": "AP, medium people",
    "apl": "AP, large people",
    "ar": "AR",
    "ar50": "AR at OKS 0.50",
    "ar75": "AR at OKS 0.75",
    "arm": "AR, medium people",
    "arl": "AR, large people",
    "easy": "AP, easy crowds",
    "medium": "AP, medium crowds",
    "hard": "AP, hard crowds",
}


def _metric(key: str) -> str:
    return _METRICS.get(key.lower(), key)
