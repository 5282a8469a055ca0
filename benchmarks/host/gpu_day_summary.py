"""Target numbers against the records of ``benchmarks.host.gpu_day``; nothing is estimated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.host.gpu_day_run import why


@dataclass(frozen=True)
class Goal:
    """A number to reach; ``found`` is None if it was not measured."""

    what: str
    found: float | None
    limit: float
    at_least: bool
    unit: str = ""

    @property
    def verdict(self) -> str:
        if self.found is None:
            return "not measured"
        reached = self.found >= self.limit if self.at_least else self.found <= self.limit
        return "pass" if reached else "falls short"


def goals(records: dict[str, dict[str, Any]]) -> list[Goal]:
    """The numbers to reach, each with what was measured."""
    milliseconds = {
        precision: measured(records, f"times-samkr_w32-{precision}-8", "gpu_ms")
        for precision in ("fp32", "fp16", "int8")
    }
    times = measured_times(records, "times-samkr_w32-int8-1")
    return [
        Goal("INT8 against FP16, samkr_w32, batch 8", ratio(milliseconds, "fp16"), 1.3, True, "x"),
        Goal("INT8 against FP32, samkr_w32, batch 8", ratio(milliseconds, "fp32"), 2.0, True, "x"),
        Goal("offset head's share of the INT8 engine, batch 8", head_share(records), 0.3, False),
        Goal("load and first inference, samkr_w32 INT8", times, 2.0, False, " s"),
    ]


def result_of(records: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    record = records.get(name, {})
    found = record.get("result") if record.get("state") == "done" else None
    return found if isinstance(found, dict) else {}


def measured(records: dict[str, dict[str, Any]], name: str, key: str) -> float | None:
    return result_of(records, name).get(key)


def measured_times(records: dict[str, dict[str, Any]], name: str) -> float | None:
    parts = [measured(records, name, key) for key in ("open_s", "first_inference_s")]
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def ratio(milliseconds: dict[str, float | None], other: str) -> float | None:
    ours, theirs = milliseconds["int8"], milliseconds[other]
    return theirs / ours if ours and theirs else None


def head_share(records: dict[str, dict[str, Any]]) -> float | None:
    """Share of the time of all layers spent in the offset head, identified by layer name."""
    report = result_of(records, "layers-samkr_w32-int8-8")
    layers = [layer for layer in report.get("layers", []) if layer.get("ms") is not None]
    total = sum(layer["ms"] for layer in layers) + report.get("unlisted_ms", 0.0)
    head = sum(layer["ms"] for layer in layers if "offset_head" in f"{layer['name']} {layer['module']}")
    return head / total if total else None


def table(records: dict[str, dict[str, Any]]) -> str:
    rows = [("", "found", "to reach", "verdict")]
    for goal in goals(records):
        found = "" if goal.found is None else f"{goal.found:.2f}{goal.unit}"
        limit = f"{'at least' if goal.at_least else 'at most'} {goal.limit:g}{goal.unit}"
        rows.append((goal.what, found, limit, goal.verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    measured_engines = {
        name.removeprefix("times-"): result
        for name in records
        if name.startswith("times-") and "gpu_ms" in (result := result_of(records, name))
    }
    times = [
        f"{name:<24} {result['gpu_ms'] / result['batch']:8.3f} ms an image, batch {result['batch']}"
        for name, result in measured_engines.items()
    ]
    failed = [
        f"failed: {name}{why(record)}" for name, record in records.items() if record["state"] == "failed"
    ]
    return "\n".join(line.rstrip() for line in [*lines, "", *times, *failed])
