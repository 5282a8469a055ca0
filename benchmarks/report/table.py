"""The table on the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.judge.wording import bounds, with_interval
from benchmarks.paper import beside_the_paper
from benchmarks.schema import AGAINST_FP32, ModelResult, Results
from samkr_edge.printable import counted

if TYPE_CHECKING:
    from rich.console import RenderableType


def render(results: Results) -> RenderableType:
    """Table, verdict and notes as text."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    # Only names wrap on a narrow terminal: a truncated number is worse than a name on two lines.
    table.add_column("model", overflow="fold", min_width=12)
    for heading in (
        *(column.heading for column in accuracy_columns(results)),
        "p50 ms",
        "p90",
        "p99",
        "speed-up",
        *(column.heading for column in extras(results)),
        "MB",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    if has_paper(results):
        table.add_column("paper AP", justify="right", no_wrap=True)
    for model in results.models:
        table.add_row(*_cells(model, results), style="bold" if model.name == results.recommended else None)
    lines: list[RenderableType] = [table, Text(""), Text(results.verdict, style="bold")]
    lines += [Text(note, style="yellow") for note in results.notes]
    lines += [Text(line) for line in bound_lines(results)]
    if results.stability_fix:
        lines.append(Text(f"for stable times: {results.stability_fix}", style="yellow"))
    lines.append(Text(conditions(results), style="dim"))
    if has_paper(results):
        lines.append(Text(f"paper AP: {beside_the_paper(results)}", style="dim"))
    return Group(*lines)


@dataclass(frozen=True)
class Extra:
    """A column that not every run has."""

    heading: str
    cell: Callable[[ModelResult], str]


def accuracy_columns(results: Results) -> list[Extra]:
    """AP and its difference; or what changes against FP32; none without images."""
    if results.dataset is None:
        return []
    if results.metric == AGAINST_FP32:
        return [
            Extra(f"{AGAINST_FP32} [95 %]", _against_fp32),
            Extra("kept/lost/new", _people),
            Extra("moved px (p95)", _moved),
            Extra("OKS (p5)", _similar),
        ]
    return [
        Extra("AP", lambda m: "" if m.ap is None else f"{m.ap:.1f}"),
        Extra("difference [95 %]", lambda m: "baseline" if m.change is None else with_interval(m.change)),
    ]


def _against_fp32(model: ModelResult) -> str:
    found = model.against_fp32
    if model.is_baseline or found is None:
        return "reference"
    return f"{found.ap.value:.1f} {bounds(found.ap)}"


def _people(model: ModelResult) -> str:
    found = model.against_fp32
    if model.is_baseline or found is None:
        return "" if found is None else counted(found.kept, "person", "people")
    return f"{found.kept}/{found.lost}/{found.new}"


def _moved(model: ModelResult) -> str:
    found = model.against_fp32
    if model.is_baseline or found is None:
        return ""
    median, most = ("∞" if far is None else f"{far:.1f}" for far in (found.moved_px, found.moved_px_p95))
    return f"{median} ({most})"


def _similar(model: ModelResult) -> str:
    found = model.against_fp32
    if model.is_baseline or found is None:
        return ""
    return f"{found.oks:.3f} ({found.oks_p5:.3f})"


def extras(results: Results) -> list[Extra]:
    """The optional columns of a run, in order. A requested energy column is shown, empty, even without a meter."""
    models = results.models
    columns = []
    if any(m.accuracy and "hard" in m.accuracy for m in models):
        columns.append(Extra("easy/med/hard", _crowding))
    if results.settings.mode == "offline":
        columns.append(Extra("img/s", lambda m: f"{m.latency.throughput_fps:.1f}"))
    if any(m.split_ms.copy_in or m.split_ms.copy_out for m in models):
        # GPU time; the rest of a frame is preprocessing, decoding, and host work between them.
        columns.append(Extra("in+network+out ms", _on_device))
    if any(m.int8_share for m in models):
        columns.append(Extra("INT8", lambda m: "" if m.int8_share is None else f"{m.int8_share:.0%}"))
    if any(m.bound for m in models):
        columns.append(Extra("of bound", lambda m: "" if m.bound is None else f"{m.bound.share:.0%}"))
    if any(m.memory_mb for m in models):
        cards = any(m.memory_mb.gpu is not None and not m.memory_mb.shared for m in models if m.memory_mb)
        columns.append(Extra("peak host+GPU MB" if cards else "peak MB", _memory))
    if results.power is not None or results.power_reason is not None:
        columns.append(
            Extra("mJ", lambda m: "" if m.energy is None else f"{m.energy.millijoules_per_frame:.1f}")
        )
    return columns


def bound_lines(results: Results) -> list[str]:
    """Each network's lower bound, a bound and no measurement, and the layers that lose most against theirs."""
    lines = []
    for model in results.models:
        if model.bound is None:
            continue
        least = model.bound
        lines += [
            "",
            f"{model.name}: the network at {least.share:.0%} of its bound, {least.ms:.2f} ms at least by {least.by}; "
            f"{least.peaks}",
        ]
        width = max((len(layer.module) for layer in least.layers), default=0)
        lines += [
            f"  {layer.module:<{width}}  {layer.ms:.3f} ms, bound {layer.bound_ms:.3f}"
            for layer in least.layers
        ]
    return lines


def _memory(model: ModelResult) -> str:
    """One sum if host and GPU share their memory, two figures if the GPU has its own."""
    memory = model.memory_mb
    if memory is None:
        return ""
    if memory.gpu is None:
        return f"{memory.peak:.0f}"
    return f"{memory.peak + memory.gpu:.0f}" if memory.shared else f"{memory.peak:.0f}+{memory.gpu:.0f}"


def _on_device(model: ModelResult) -> str:
    """Copy in, network and copy out; a runtime without a device copies nothing."""
    ms = model.split_ms
    if not (ms.copy_in or ms.copy_out):
        return f"{ms.network:.2f}"
    return f"{ms.copy_in:.2f}+{ms.network:.2f}+{ms.copy_out:.2f}"


def _crowding(model: ModelResult) -> str:
    """AP of CrowdPose's three crowding levels; a level without images has none."""
    scores = model.accuracy or {}
    return "/".join(
        f"{scores[level]:.1f}" if level in scores else "–" for level in ("easy", "medium", "hard")
    )


def has_paper(results: Results) -> bool:
    """Whether the paper's AP is shown: only next to ours, never instead of it."""
    return (
        results.dataset is not None
        and results.metric == "AP"
        and any(model.paper for model in results.models)
    )


def _cells(model: ModelResult, results: Results) -> list[str]:
    mark = "" if model.stable and not results.reasons else " *"
    cells = [model.name, *(column.cell(model) for column in accuracy_columns(results))]
    cells += [
        f"{model.latency.p50_ms:.2f}{mark}",
        f"{model.latency.p90_ms:.2f}",
        f"{model.latency.p99_ms:.2f}",
        "" if model.speed_up is None else f"{model.speed_up.value:.2f}×",
        *(column.cell(model) for column in extras(results)),
        f"{model.size_mb:.1f}",
    ]
    if has_paper(results):
        cells.append("" if model.paper is None else f"{model.paper.ap:.1f}")
    return cells


def conditions(results: Results) -> str:
    """How it was measured, in one line."""
    settings = results.settings
    threads = counted(settings.threads, "thread")
    if settings.cuda_graph:
        threads += ", CUDA graph"
    pictures = "one random image" if settings.random_image else counted(settings.images, "image")
    frames = f"{settings.rounds} interleaved frames each"
    if settings.mode == "offline":
        frames = f"offline, {settings.rounds} interleaved batches of {settings.batch} each, times per image"
    parts = [f"{frames} on {pictures}, {threads}"]
    if results.dataset is not None:
        parts.append(f"{results.metric} on {results.scored_on}")
    before, after = results.machine.mhz_before, results.machine.mhz_after
    if before is not None and after is not None:
        moved = f"clock {before:.0f} to {after:.0f} MHz"
        parts.append(f"clock steady at {after:.0f} MHz" if round(before) == round(after) else moved)
    if results.machine.celsius_before is not None and results.machine.celsius_after is not None:
        parts.append(f"{results.machine.celsius_before:.0f} to {results.machine.celsius_after:.0f} °C")
    if results.machine.gpu_mhz_min is not None and any(m.kind == "engine" for m in results.models):
        parts.append(f"GPU {results.machine.gpu_mhz_min:.0f} to {results.machine.gpu_mhz_max:.0f} MHz")
    if results.machine.power_mode_before is not None:
        parts.append(results.machine.power_mode_before)
    if results.power is not None:
        power = results.power
        parts.append(
            f"energy above {power.idle_watts:.2f} W idle, {power.rail}, {power.source} at {power.sampling_hz:g} Hz"
        )
    if results.power_reason is not None:
        parts.append(f"no energy: {results.power_reason}")
    sources = {m.memory_mb.gpu_source for m in results.models if m.memory_mb and m.memory_mb.gpu_source}
    if sources:
        parts.append(
            f"GPU memory by {', '.join(sorted(sources))}, of the whole machine: other programs count too"
        )
    if not results.stable:
        parts.append("* unstable")
    return "; ".join(parts)
