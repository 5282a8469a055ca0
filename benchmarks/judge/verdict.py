"""One sentence: which model to take and why; and the caveats to know before trusting it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.judge.wording import (
    agreement,
    interval,
    is_significant,
    milliseconds,
    short_labels,
    with_interval,
)
from benchmarks.schema import ModelResult
from samkr_edge.evaluation.scores import LEAST_AP
from samkr_edge.printable import counted

# AP that a model may lose and still be recommended, where the user gives no budget of their own.
DEFAULT_MAX_DROP = 1.0
# The same of AP against FP32, which falls further (docs/quantization.md): a single person lost costs about a point.
DEFAULT_MAX_DROP_AGAINST_FP32 = 2.0
# Two models whose speed differs by less than this are equally fast; the more accurate one is then the better.
_SAME_SPEED = 0.05
# Fewer images give an interval so wide that it rarely decides anything.
_FEW_IMAGES = 100


@dataclass(frozen=True)
class Verdict:
    """The recommendation.

    Attributes:
        sentence: one sentence for the terminal and the head of the report.
        recommended: the model's name, or None where nothing can be recommended.
        notes: what limits the sentence; whole sentences.
    """

    sentence: str
    recommended: str | None
    notes: list[str] = field(default_factory=list)


def decide(
    models: Sequence[ModelResult],
    *,
    images: int | None,
    max_drop: float | None = None,
    unstable: Sequence[str] = (),
) -> Verdict:
    """Judge the rows of one run.

    Args:
        models: all rows; exactly one is the baseline.
        images: images evaluated; None where accuracy was not measured.
        max_drop: AP that may be lost; None for the default.
        unstable: why the run's times cannot be trusted.
    """
    baseline = next(model for model in models if model.is_baseline)
    others = [model for model in models if not model.is_baseline]
    notes = _notes(models, images, unstable)
    labels = short_labels(models)
    if not others:
        return Verdict(_alone(baseline, labels), None, notes)
    judged = [model for model in others if not model.simulated]
    if baseline.simulated or not judged:
        return Verdict(_without_times(baseline, others, labels, images or 0), None, notes)
    if baseline.ap is None:
        return Verdict(_latency_only(baseline, judged, labels), None, notes)
    if max(model.ap or 0.0 for model in models) < LEAST_AP:
        return Verdict(_too_low(baseline, judged, labels), None, notes)
    usual = DEFAULT_MAX_DROP if baseline.against_fp32 is None else DEFAULT_MAX_DROP_AGAINST_FP32
    budget = usual if max_drop is None else max_drop
    return _compare(baseline, judged, labels, images or 0, budget, notes)


def _is_faster(model: ModelResult) -> bool:
    return model.speed_up is not None and model.speed_up.low > 1.0


def _pace(model: ModelResult, baseline: str) -> str:
    speed = model.speed_up.value if model.speed_up else 1.0
    if _is_faster(model):
        return f"{speed:.2f}× as fast as {baseline}"
    if model.speed_up is not None and model.speed_up.high < 1.0:
        return f"slower than {baseline} at {speed:.2f}× its speed"
    return f"not measurably faster than {baseline} at {speed:.2f}× its speed"


def _times(model: ModelResult, baseline: ModelResult) -> str:
    return f"p50 {milliseconds(model.latency.p50_ms)} ms against {milliseconds(baseline.latency.p50_ms)} ms"


def _fastest(models: Sequence[ModelResult]) -> ModelResult:
    return max(models, key=lambda model: model.speed_up.value if model.speed_up else 0.0)


def _alone(baseline: ModelResult, labels: dict[str, str]) -> str:
    ap = "" if baseline.ap is None else f" and scores {baseline.ap:.1f} {baseline.metric}"
    if baseline.against_fp32 is not None:
        ap = f" and finds {counted(baseline.against_fp32.kept, 'person', 'people')}"
    return (
        f"{labels[baseline.name]} takes {milliseconds(baseline.latency.p50_ms)} ms a frame (p50){ap}; "
        "there is no second model to compare it with."
    )


def _latency_only(baseline: ModelResult, others: Sequence[ModelResult], labels: dict[str, str]) -> str:
    best = _fastest(others)
    return (
        f"{labels[best.name]} is {_pace(best, labels[baseline.name])} ({_times(best, baseline)}); "
        "accuracy was not measured, so nothing is recommended."
    )


def _without_times(
    baseline: ModelResult, others: Sequence[ModelResult], labels: dict[str, str], images: int
) -> str:
    best = min(others, key=_drop)
    highest = max(model.ap or 0.0 for model in (baseline, *others))
    low = f", but AP {highest:.1f} is too low for that to mean much" if highest < LEAST_AP else ""
    return (
        f"{labels[best.name]} against {labels[baseline.name]}: {_cost(best, images)}{low if best.change else ''}; "
        "quantized checkpoints have no latency of their own, so nothing is recommended."
    )


def _too_low(baseline: ModelResult, others: Sequence[ModelResult], labels: dict[str, str]) -> str:
    best = _fastest(others)
    return (
        f"{labels[best.name]} is {_pace(best, labels[baseline.name])} ({_times(best, baseline)}), and "
        f"AP {max(model.ap or 0.0 for model in (baseline, *others)):.1f} is too low for an accuracy difference to "
        "mean much: train longer; real photographs need a GPU or imported weights."
    )


def _compare(
    baseline: ModelResult,
    others: Sequence[ModelResult],
    labels: dict[str, str],
    images: int,
    budget: float,
    notes: list[str],
) -> Verdict:
    base = labels[baseline.name]
    faster = [model for model in others if _is_faster(model)]
    if not faster:
        best = _fastest(others)
        sentence = f"Keep {base}: {labels[best.name]} is {_pace(best, base)} ({_times(best, baseline)})."
        return Verdict(sentence, baseline.name, notes)
    affordable = [model for model in faster if _drop(model) <= budget]
    if not affordable:
        best = min(faster, key=_drop)
        return Verdict(
            f"Keep {base}: {labels[best.name]} is {_pace(best, base)} but {_cost(best, images)}"
            + _beyond(best, budget),
            baseline.name,
            notes,
        )
    top = _speed(_fastest(affordable))
    best = min((m for m in affordable if _speed(m) >= top * (1 - _SAME_SPEED)), key=_drop)
    return Verdict(
        f"Take {labels[best.name]}: it is {_pace(best, base)} ({_times(best, baseline)}) and "
        f"{_cost(best, images)}.",
        best.name,
        notes,
    )


def _beyond(model: ModelResult, budget: float) -> str:
    if model.against_fp32 is not None:
        return f", below the {100 - budget:g} that are wanted."
    return f", more than the {budget:g} AP allowed." if model.change else "."


def _speed(model: ModelResult) -> float:
    return model.speed_up.value if model.speed_up else 1.0


def _drop(model: ModelResult) -> float:
    return -model.change.value if model.change else math.inf


def _cost(model: ModelResult, images: int) -> str:
    difference = model.change
    if model.against_fp32 is not None:
        return agreement(model)
    if difference is None:
        return "its accuracy is unknown"
    if not is_significant(difference):
        return (
            f"its {model.ap:.1f} {model.metric} differ by {with_interval(difference)}, "
            f"which {images} images cannot tell from noise"
        )
    verb = "loses" if difference.value < 0 else "gains"
    return f"{verb} {abs(difference.value):.1f} {model.metric} {interval(difference)}"


def _notes(models: Sequence[ModelResult], images: int | None, unstable: Sequence[str]) -> list[str]:
    notes = [f"The times are unstable: {reason}." for reason in unstable]
    shaky = [f"{model.name}: {reason}" for model in models for reason in model.reasons]
    if shaky:
        notes.append(f"The times are unstable: {'; '.join(shaky)}.")
    simulated = [model.name for model in models if model.simulated]
    if simulated:
        notes.append(
            f"The times of {', '.join(simulated)} are those of torch, which computes INT8 and FP8 in floats; only a "
            "built model shows its speed."
        )
    if images is None:
        notes.append(
            "Accuracy was not measured: give --data DIR for AP and its difference to the baseline, or --photos DIR, "
            "pictures without labels, for what changes against FP32."
        )
    elif images < _FEW_IMAGES:
        verb = "was" if images == 1 else "were"
        metric = models[0].metric
        notes.append(
            f"Only {counted(images, 'image')} {verb} scored: small differences of {metric} cannot be seen with so few."
        )
    if any(model.against_fp32 for model in models):
        notes.append(
            "Photos have no labels, so the people that FP32 finds stand for them: this shows what a model changes, not "
            "how good FP32 is."
        )
    return notes
