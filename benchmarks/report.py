"""Results to one self-contained HTML page: no network, no script, below 2 MB."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.choose import choose
from benchmarks.latency import STAGES
from benchmarks.overview import candidates, device_name, overview, run_names
from benchmarks.paper_tables import TABLES, ours
from benchmarks.results import FILE_NAME, ModelResult, Results, Settings, SplitMs, read_results
from benchmarks.samples import Samples, compare, read_samples
from benchmarks.sensitivity_part import SensitivityPart, read_sensitivity
from benchmarks.svg import Point, mark_icon, scatter, skeletons
from benchmarks.sweep import INDEX, cell_files
from benchmarks.table import conditions, extras, has_paper
from benchmarks.verdict import interval, is_significant, milliseconds, short_labels, signed
from samkr_edge import __version__
from samkr_edge.artefact import replacing
from samkr_edge.errors import SamkrError

MAX_BYTES = 2_000_000
# Room for the pictures of all runs together; the rest of a page is far below the remaining half megabyte.
_PICTURE_BYTES = 1_400_000
_TEMPLATES = Path(__file__).parent / "templates"
_STAGES = (*STAGES, "other")


@dataclass(frozen=True)
class Written:
    """What was written."""

    size: int
    verdicts: list[str]


@dataclass(frozen=True)
class Wishes:
    """What the page shall answer or hold besides the runs.

    Attributes:
        max_latency, min_ap: constraints of the recommendation: milliseconds of the p90, and AP.
        sensitivity: file or folder of `samkr-edge sensitivity`.
        paper: lay the paper's tables out with ours beside them.
    """

    max_latency: float | None = None
    min_ap: float | None = None
    sensitivity: Path | None = None
    paper: bool = False


def write_report(paths: Sequence[Path], output: Path, wishes: Wishes | None = None) -> Written:
    """Read results files and write the page, atomically.

    Args:
        paths: ``results.json`` files, their folders, or folders of sweeps; each run becomes a part of the page, all
            share one plot.
        output: the HTML file.
        wishes: constraints and further parts.

    Raises:
        SamkrError: what :func:`read_results` raises; SE-U64 when jinja2 is not installed; SE-A69 when a sweep has no
            finished cell.
    """
    wishes = wishes or Wishes()
    runs = [(read_results(path), path.parent) for path in _results_files(paths)]
    sensitivity = None if wishes.sensitivity is None else read_sensitivity(wishes.sensitivity)
    page = render(runs, wishes, sensitivity)
    with replacing(output) as temporary:
        temporary.write_text(page, encoding="utf-8")
    verdicts = [results.verdict for results, _ in runs]
    if wishes.max_latency is not None or wishes.min_ap is not None:
        found = candidates(_named([results for results, _ in runs]))
        choice = choose(found, max_latency=wishes.max_latency, min_ap=wishes.min_ap)
        verdicts = [choice.sentence, *verdicts]
    return Written(len(page.encode()), verdicts)


def _results_files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if (path / INDEX).is_file():
            cells = cell_files(path)
            if not cells:
                raise SamkrError(
                    "SE-A69",
                    f"the sweep {path} has no finished cell, so there is nothing to report",
                    fix=f"samkr-edge sweep SUITE --out {path}",
                )
            files += cells
        else:
            files.append(path / FILE_NAME if path.is_dir() else path)
    return files


def _named(runs: Sequence[Results]) -> list[tuple[str, Results]]:
    return list(zip(run_names(runs), runs, strict=True)) if runs else []


def render(
    runs: Sequence[tuple[Results, Path]],
    wishes: Wishes | None = None,
    sensitivity: SensitivityPart | None = None,
) -> str:
    """The page for (results, folder that holds its samples) pairs."""
    try:
        import jinja2
        from markupsafe import Markup
    except ModuleNotFoundError as error:
        raise SamkrError(
            "SE-U64",
            "a report needs the package jinja2, which is not installed here",
            fix='pip install "samkr-edge[report]"',
        ) from error
    wishes = wishes or Wishes()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["safe_svg"] = Markup
    budget = _Budget(_PICTURE_BYTES)
    named = _named([results for results, _ in runs])
    parts = [
        _run(number, results, folder, budget, name if len(runs) > 1 else "")
        for number, ((name, results), (_, folder)) in enumerate(zip(named, runs, strict=True))
    ]
    return environment.get_template("report.html.j2").render(
        title=_title([results for results, _ in runs]),
        version=__version__,
        runs=parts,
        overview=overview(named, wishes.max_latency, wishes.min_ap),
        plots=_plots(named),
        stages=_STAGES,
        sensitivity=sensitivity,
        tables=[(table, [(row, ours(table, row, named)) for row in table.rows]) for table in TABLES]
        if wishes.paper
        else [],
    )


@dataclass
class _Budget:
    left: int


@dataclass(frozen=True)
class Row:
    """One model as the template shows it; all numbers are text."""

    model: ModelResult
    label: str
    series: int
    icon: str
    recommended: bool
    ap: str
    difference: str
    difference_note: str
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


def _run(number: int, results: Results, folder: Path, budget: _Budget, name: str) -> dict[str, Any]:
    labels = short_labels(results.models)
    slowest = max(model.split_ms.total for model in results.models)
    rows = [
        _row(model, labels[model.name], series, results, slowest)
        for series, model in enumerate(results.models)
    ]
    head, _, rest = results.verdict.partition(": ")
    short = head.startswith(("Take ", "Keep ")) and bool(rest)
    samples = read_samples(folder / results.samples) if results.samples else None
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
        "has_paper": has_paper(results),
        "paper_where": sorted({model.paper.where for model in results.models if model.paper}),
        "pictures": _pictures(number, results, samples, folder, labels, budget),
        "accuracy": _accuracy_table(results, labels),
        "conditions": conditions(results),
        "facts": _facts(results),
        "environment": _flat(results.environment),
        "facts_line": _facts_line(results),
    }


def _unbroken(text: str) -> str:
    """No line break between a number and its unit, nor within an interval."""
    for unit in ("ms", "AP", "images"):
        text = text.replace(f" {unit}", f"\u00a0{unit}")
    return text.replace(", +", ",\u00a0+").replace(", −", ",\u00a0−")


def _row(model: ModelResult, label: str, series: int, results: Results, slowest: float) -> Row:
    speed, difference = model.speed_up, model.difference
    note = ""
    if difference is not None:
        note = "beyond noise" if is_significant(difference) else "within noise"
    return Row(
        model=model,
        label=label,
        series=series % 4,
        icon=mark_icon(series % 4),
        recommended=model.name == results.recommended,
        ap="–" if model.ap is None else f"{model.ap:.1f}",
        difference="baseline" if difference is None else signed(difference.value),
        difference_note="" if difference is None else f"{interval(difference)} {note}",
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
    """(stage, share of the longest bar in percent, text) of each stage that can be seen at all."""
    values = [(stage, float(getattr(parts, stage))) for stage in _STAGES]
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
    if model.speed_up is not None:
        spread = model.speed_up
        small = f"of {against} · {spread.low:.2f} to {spread.high:.2f}"
        tiles.append((f"{labels[model.name]} speed", f"{spread.value:.2f}", "×", small))
    small = f"{against} {milliseconds(base.latency.p50_ms)} ms"
    if alone:
        small = f"p90 {milliseconds(model.latency.p90_ms)} ms"
    tiles.append(("Latency, p50", milliseconds(model.latency.p50_ms), "ms", small))
    if model.ap is not None:
        small = f"{results.dataset.images} images" if results.dataset else ""
        if model.difference is not None:
            small = f"{signed(model.difference.value)} {interval(model.difference)} to {against}"
        tiles.append(("Accuracy", f"{model.ap:.1f}", "AP", small))
    smaller = base.size_mb / model.size_mb
    small = model.file
    if not alone:
        small = f"{against} {base.size_mb:.1f} MB" + (f" · {smaller:.1f}× smaller" if smaller > 1.05 else "")
    tiles.append(("Model file", f"{model.size_mb:.1f}", "MB", small))
    return tiles


def _plots(runs: Sequence[tuple[str, Results]]) -> list[str]:
    """The plot in a wide and a narrow drawing (text must not shrink with the screen); none without accuracy, and none
    where the runs scored different images: their AP share no axis."""
    points: list[Point] = []
    if len({results.dataset.images_digest for _, results in runs if results.dataset}) > 1:
        return []
    for name, results in runs:
        labels = short_labels(results.models)
        base_ap = results.baseline().ap
        for model in results.models:
            if model.ap is None or base_ap is None:
                continue
            spread = model.difference
            label = labels[model.name]
            points.append(
                Point(
                    label if len(runs) == 1 else _clipped(f"{label} · {name}"),
                    results.models.index(model) % 4,
                    model.latency.p50_ms,
                    model.latency.p90_ms,
                    model.ap,
                    None if spread is None else base_ap + spread.low,
                    None if spread is None else base_ap + spread.high,
                    model.name == results.recommended,
                )
            )
    if not points:
        return []
    title = "Accuracy (AP) against latency (ms) of " + ", ".join(point.label for point in points)
    return [
        scatter(points, width=920, height=400, title=title, css_class="wide"),
        scatter(points, width=380, height=360, title=title, css_class="narrow"),
    ]


def _clipped(text: str, length: int = 34) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip(",· ") + "…"


def _pictures(
    number: int,
    results: Results,
    samples: Samples | None,
    folder: Path,
    labels: dict[str, str],
    budget: _Budget,
) -> list[dict[str, Any]]:
    if samples is None or results.samples is None:
        return []
    baseline = results.baseline().name
    order = [model.name for model in results.models]
    pictures = []
    for index, image in enumerate(samples.images):
        if baseline not in image.people:
            continue
        encoded = base64.b64encode((folder / results.samples / image.file).read_bytes()).decode()
        if len(encoded) > budget.left:
            break
        budget.left -= len(encoded)
        cells = []
        for series, name in enumerate(order):
            if name not in image.people:
                continue
            movement = compare(image.people[baseline], image.people[name], samples.sigmas)
            moved = frozenset() if name == baseline else movement.moved
            overlay = skeletons(
                image.people[name], samples.edges, moved, size=(image.width, image.height), series=series % 4
            )
            caption = _people_text(len(image.people[name]))
            if name != baseline:
                changes = [f"{len(moved)} of {movement.joints} joints moved"] if movement.joints else []
                changes += [f"{movement.missing} lost"] if movement.missing else []
                changes += [f"{movement.extra} new"] if movement.extra else []
                caption = ", ".join(changes) or caption
            cells.append(
                {"label": labels[name], "series": series % 4, "overlay": overlay, "caption": caption}
            )
        pictures.append(
            {
                "id": f"photo-{number}-{index}",
                "width": image.width,
                "height": image.height,
                "data": f"data:image/jpeg;base64,{encoded}",
                "cells": cells,
            }
        )
    return pictures


def _people_text(count: int) -> str:
    return "nobody found" if count == 0 else "1 person" if count == 1 else f"{count} people"


def _accuracy_table(results: Results, labels: dict[str, str]) -> dict[str, Any] | None:
    """Every AP number, numbers down, models across."""
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


def _facts(results: Results) -> list[tuple[str, str]]:
    settings, machine, dataset = results.settings, results.machine, results.dataset
    facts = [("Command", results.command), ("Time", results.time), ("samkr-edge", results.version)]
    facts.append(
        (
            "Timing",
            f"{settings.rounds} rounds in {settings.seconds:.1f} s after {settings.warmup_rounds} warm-up rounds; "
            f"{_a_round(settings)} of each model a round, in rotating order; {settings.threads} thread"
            f"{'' if settings.threads == 1 else 's'} per model",
        )
    )
    if machine.mhz_before is not None:
        facts.append(("CPU clock", f"{machine.mhz_min:.0f} to {machine.mhz_max:.0f} MHz"))
    else:
        facts.append(("CPU clock", "not readable here"))
    if machine.celsius_before is not None and machine.celsius_after is not None:
        facts.append(("Temperature", f"{machine.celsius_before:.0f} to {machine.celsius_after:.0f} °C"))
    else:
        facts.append(("Temperature", "not readable here"))
    if machine.gpu_mhz_min is not None:
        facts.append(("GPU clock", f"{machine.gpu_mhz_min:.0f} to {machine.gpu_mhz_max:.0f} MHz"))
    if machine.gpu_celsius_before is not None and machine.gpu_celsius_after is not None:
        facts.append(
            ("GPU temperature", f"{machine.gpu_celsius_before:.0f} to {machine.gpu_celsius_after:.0f} °C")
        )
    if machine.power_mode_before is not None:
        facts.append(("Power mode", machine.power_mode_before))
    if machine.throttled:
        facts.append(("Throttled by", ", ".join(machine.throttled)))
    if results.power is not None:
        power = results.power
        facts.append(
            (
                "Energy",
                f"{power.rail}; {power.source}, {power.sampling_hz:g} readings a second; "
                f"{power.idle_watts:.2f} W at rest subtracted",
            )
        )
    elif results.power_reason is not None:
        facts.append(("Energy", results.power_reason))
    facts.append(
        ("Stability", "stable" if results.stable else f"unstable; for stable times: {results.stability_fix}")
    )
    if dataset is not None:
        part = "" if dataset.images == dataset.images_in_split else f" of {dataset.images_in_split}"
        facts.append(
            (
                "Data",
                f"{dataset.name}, split {dataset.split}: {dataset.images}{part} images, {dataset.people} people, "
                f"{dataset.skeleton}",
            )
        )
        facts.append(("Annotations", f"sha256 {dataset.annotations_sha256}"))
        facts.append(("Images", f"sha256 {dataset.images_digest} (ids, names, sizes)"))
    return facts


def _a_round(settings: Settings) -> str:
    return "one frame" if settings.mode == "single-stream" else f"one batch of {settings.batch} frames"


def _facts_line(results: Results) -> list[str]:
    """What stands above the verdict."""
    networks = sorted({model.network for model in results.models})
    sizes = sorted({model.input_size for model in results.models})
    line = [", ".join(networks), ", ".join(f"{width}×{height}" for height, width in sizes)]
    if results.dataset is not None:
        line.append(f"{results.dataset.images} images of {results.dataset.name}/{results.dataset.split}")
    device = device_name(results)
    if device:
        line.append(device)
    line.append(results.time[:10])
    return line


def _flat(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested object as (dotted key, text) lines."""
    if isinstance(tree, dict):
        return [
            line
            for key, value in tree.items()
            for line in _flat(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(tree, list):
        return [(prefix, ", ".join(str(value) for value in tree))] if tree else []
    return [] if tree is None else [(prefix.replace("_", " "), str(tree))]


def _title(runs: Sequence[Results]) -> str:
    networks = sorted({model.network for results in runs for model in results.models})
    return f"{', '.join(networks)}: accuracy against latency" if networks else "SAMKR: the paper's tables"
