"""Part of the report: how, when, where and on what a run was measured."""

from __future__ import annotations

from typing import Any

from benchmarks.report.overview import device_name
from benchmarks.schema import Machine, Results, Settings
from samkr_edge.printable import counted


def facts(results: Results) -> list[tuple[str, str]]:
    """(what, text) lines of the details."""
    settings = results.settings
    return [
        ("Command", results.command),
        ("Time", results.time),
        ("samkr-edge", results.version),
        (
            "Timing",
            f"{settings.rounds} rounds in {settings.seconds:.1f} s after {settings.warmup_rounds} warm-up rounds; "
            f"{_a_round(settings)} of each model a round, in rotating order; "
            f"{counted(settings.threads, 'thread')} per model",
        ),
        *_machine(results.machine),
        *_energy(results),
        ("Stability", "stable" if results.stable else f"unstable; for stable times: {results.stability_fix}"),
        *_data(results),
    ]


def _machine(machine: Machine) -> list[tuple[str, str]]:
    unreadable = "not readable here"
    lines = [
        ("CPU clock", _range(machine.mhz_min, machine.mhz_max, "MHz") or unreadable),
        ("Temperature", _range(machine.celsius_before, machine.celsius_after, "°C") or unreadable),
        ("GPU clock", _range(machine.gpu_mhz_min, machine.gpu_mhz_max, "MHz")),
        ("GPU temperature", _range(machine.gpu_celsius_before, machine.gpu_celsius_after, "°C")),
        ("Power mode", machine.power_mode_before or ""),
        ("Throttled by", ", ".join(machine.throttled)),
    ]
    return [line for line in lines if line[1]]


def _range(low: float | None, high: float | None, unit: str) -> str:
    return "" if low is None or high is None else f"{low:.0f} to {high:.0f} {unit}"


def _energy(results: Results) -> list[tuple[str, str]]:
    power = results.power
    if power is None:
        return [] if results.power_reason is None else [("Energy", results.power_reason)]
    text = (
        f"{power.rail}; {power.source}, {power.sampling_hz:g} readings a second; "
        f"{power.idle_watts:.2f} W at rest subtracted"
    )
    return [("Energy", text)]


def _data(results: Results) -> list[tuple[str, str]]:
    dataset, rescoring = results.dataset, results.protocol.rescoring_sha256
    if dataset is None:
        return []
    if dataset.labelled_by:
        people = counted(dataset.people, "person", "people")
        return [
            ("Photos", f"{counted(dataset.images, 'photo')}, on which {dataset.labelled_by} finds {people}"),
            ("In place of labels", f"the people of {results.baseline().file}, {dataset.skeleton}"),
            ("Images", f"sha256 {dataset.images_digest} (numbers, names, bytes)"),
        ]
    part = "" if dataset.images == dataset.images_in_split else f" of {dataset.images_in_split}"
    scored = (
        f"{dataset.images}{part} images, {counted(dataset.people, 'person', 'people')}, {dataset.skeleton}"
    )
    return [
        ("Data", f"{dataset.name}, split {dataset.split}: {scored}"),
        ("AP by", results.protocol.label),
        *([] if rescoring is None else [("Rescored by", f"sha256 {rescoring}")]),
        ("Annotations", f"sha256 {dataset.annotations_sha256}"),
        ("Images", f"sha256 {dataset.images_digest} (ids, names, bytes)"),
    ]


def _a_round(settings: Settings) -> str:
    return (
        "one frame"
        if settings.mode == "single-stream"
        else f"one batch of {counted(settings.batch, 'frame')}"
    )


def facts_line(results: Results) -> list[str]:
    """The line above the verdict."""
    networks = sorted({model.network for model in results.models})
    sizes = sorted({model.input_size for model in results.models})
    line = [", ".join(networks), ", ".join(f"{width}×{height}" for height, width in sizes)]
    if results.dataset is not None:
        line.append(results.scored_on)
    device = device_name(results)
    if device:
        line.append(device)
    line.append(results.time[:10])
    return line


def flat(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested object as (dotted key, text) lines."""
    if isinstance(tree, dict):
        return [
            line
            for key, value in tree.items()
            for line in flat(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(tree, list):
        return [(prefix, ", ".join(str(value) for value in tree))] if tree else []
    return [] if tree is None else [(prefix.replace("_", " "), str(tree))]
