"""Part of the report: how, when, where and on what a run was measured."""

from __future__ import annotations

from typing import Any

from benchmarks.report.overview import device_name
from benchmarks.schema import Results, Settings


def facts(results: Results) -> list[tuple[str, str]]:
    """(what, text) lines of the details."""
    settings, machine, dataset = results.settings, results.machine, results.dataset
    lines = [("Command", results.command), ("Time", results.time), ("samkr-edge", results.version)]
    lines.append(
        (
            "Timing",
            f"{settings.rounds} rounds in {settings.seconds:.1f} s after {settings.warmup_rounds} warm-up rounds; "
            f"{_a_round(settings)} of each model a round, in rotating order; {settings.threads} thread"
            f"{'' if settings.threads == 1 else 's'} per model",
        )
    )
    if machine.mhz_before is not None:
        lines.append(("CPU clock", f"{machine.mhz_min:.0f} to {machine.mhz_max:.0f} MHz"))
    else:
        lines.append(("CPU clock", "not readable here"))
    if machine.celsius_before is not None and machine.celsius_after is not None:
        lines.append(("Temperature", f"{machine.celsius_before:.0f} to {machine.celsius_after:.0f} °C"))
    else:
        lines.append(("Temperature", "not readable here"))
    if machine.gpu_mhz_min is not None:
        lines.append(("GPU clock", f"{machine.gpu_mhz_min:.0f} to {machine.gpu_mhz_max:.0f} MHz"))
    if machine.gpu_celsius_before is not None and machine.gpu_celsius_after is not None:
        lines.append(
            ("GPU temperature", f"{machine.gpu_celsius_before:.0f} to {machine.gpu_celsius_after:.0f} °C")
        )
    if machine.power_mode_before is not None:
        lines.append(("Power mode", machine.power_mode_before))
    if machine.throttled:
        lines.append(("Throttled by", ", ".join(machine.throttled)))
    if results.power is not None:
        power = results.power
        lines.append(
            (
                "Energy",
                f"{power.rail}; {power.source}, {power.sampling_hz:g} readings a second; "
                f"{power.idle_watts:.2f} W at rest subtracted",
            )
        )
    elif results.power_reason is not None:
        lines.append(("Energy", results.power_reason))
    lines.append(
        ("Stability", "stable" if results.stable else f"unstable; for stable times: {results.stability_fix}")
    )
    if dataset is not None:
        part = "" if dataset.images == dataset.images_in_split else f" of {dataset.images_in_split}"
        lines.append(
            (
                "Data",
                f"{dataset.name}, split {dataset.split}: {dataset.images}{part} images, {dataset.people} people, "
                f"{dataset.skeleton}",
            )
        )
        lines.append(("AP by", results.protocol.label))
        if results.protocol.rescoring_sha256 is not None:
            lines.append(("Rescored by", f"sha256 {results.protocol.rescoring_sha256}"))
        lines.append(("Annotations", f"sha256 {dataset.annotations_sha256}"))
        lines.append(("Images", f"sha256 {dataset.images_digest} (ids, names, bytes)"))
    return lines


def _a_round(settings: Settings) -> str:
    return "one frame" if settings.mode == "single-stream" else f"one batch of {settings.batch} frames"


def facts_line(results: Results) -> list[str]:
    """What stands above the verdict."""
    networks = sorted({model.network for model in results.models})
    sizes = sorted({model.input_size for model in results.models})
    line = [", ".join(networks), ", ".join(f"{width}×{height}" for height, width in sizes)]
    if results.dataset is not None:
        line.append(f"{results.dataset.images} images of {results.dataset.name}/{results.ap_label}")
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
