"""A results row and a whole run with chosen numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.results import (
    DatasetFacts,
    LatencyStats,
    Machine,
    ModelResult,
    Results,
    Settings,
    SplitMs,
    Spread,
)
from benchmarks.verdict import decide

RowMaker = Callable[..., ModelResult]
RunMaker = Callable[..., Results]


def _row(
    name: str,
    p50: float,
    ap: float | None = None,
    difference: tuple[float, float, float] | None = None,
    speed: tuple[float, float, float] | None = None,
    **changes: Any,
) -> ModelResult:
    precision, _, stage = name.lower().partition(" ")
    fields: dict[str, Any] = {
        "name": f"samkr_tiny {name}",
        "file": f"{stage or precision}.cpu.onnx",
        "sha256": f"{name:0<64}".replace(" ", "0"),
        "size_mb": 4.2 if precision == "fp32" else 1.3,
        "network": "samkr_tiny",
        "kind": "onnx",
        "precision": precision,
        "stage": stage or "fp32",
        "input_size": (128, 128),
        "is_baseline": speed is None,
        "latency": LatencyStats(
            frames=400,
            p50_ms=p50,
            p90_ms=p50 * 1.08,
            p99_ms=p50 * 1.3,
            mean_ms=p50 * 1.02,
            min_ms=p50 * 0.9,
            max_ms=p50 * 1.9,
            cv=0.04,
            throughput_fps=1000 / p50,
        ),
        "split_ms": SplitMs(preprocess=0.2, network=p50 - 1.2, decode=0.9, other=0.1),
        "speed_up": None if speed is None else Spread(value=speed[0], low=speed[1], high=speed[2]),
        "accuracy": None if ap is None else {"ap": ap, "ap50": ap + 20, "ap75": ap + 2, "ar": ap + 5},
        "difference": None
        if difference is None
        else Spread(value=difference[0], low=difference[1], high=difference[2]),
        "stable": True,
    }
    return ModelResult(**{**fields, **changes})


def _run(models: list[ModelResult], images: int | None = 400, **changes: Any) -> Results:
    verdict = decide(models, images=images)
    dataset = None
    if images is not None:
        dataset = DatasetFacts(
            name="people",
            split="val",
            kind="coco",
            skeleton="coco17",
            annotations_sha256="a" * 64,
            images=images,
            images_in_split=images,
            people=900,
            images_digest="b" * 64,
        )
    fields: dict[str, Any] = {
        "time": "2026-11-24T14:00:00+00:00",
        "command": "samkr-edge bench fp32.cpu.onnx qat.cpu.onnx --data people",
        "version": "0.1.0",
        "environment": {"cpu": {"model": "Example CPU", "cores": 2}, "python": "3.11.2"},
        "settings": Settings(
            threads=1,
            rounds=400,
            seconds=20.1,
            warmup_rounds=12,
            warmup_settled=True,
            images=50,
            random_image=False,
        ),
        "machine": Machine(mhz_before=2600, mhz_after=2600, mhz_min=2600, mhz_max=2600),
        "stable": True,
        "dataset": dataset,
        "verdict": verdict.sentence,
        "notes": verdict.notes,
        "recommended": verdict.recommended,
        "models": models,
    }
    return Results(**{**fields, **changes})


@pytest.fixture
def row() -> RowMaker:
    return _row


@pytest.fixture
def run_of() -> RunMaker:
    return _run


@pytest.fixture
def three_models() -> list[ModelResult]:
    return [
        _row("FP32", 24.1, 57.4),
        _row("INT8 PTQ", 12.4, 56.5, (-0.9, -1.6, -0.3), (1.94, 1.91, 1.96)),
        _row("INT8 QAT", 12.6, 57.1, (-0.3, -0.8, 0.2), (1.92, 1.89, 1.94)),
    ]
