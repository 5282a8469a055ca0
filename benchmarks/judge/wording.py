"""How figures and models read in a sentence, a table or a plot: the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.schema import ModelResult, Spread
from samkr_edge.printable import counted


def short_labels(models: Sequence[ModelResult]) -> dict[str, str]:
    """Name in a sentence: ``FP32`` or ``INT8 (QAT)`` where that is unique among the rows, else the row's name."""
    short = {model.name: _short(model) for model in models}
    unique = len(set(short.values())) == len(models)
    return short if unique else {model.name: model.name for model in models}


def _short(model: ModelResult) -> str:
    precision, stage = model.precision.upper(), model.stage.upper()
    return precision if stage in (precision, "FP32") else f"{precision} ({stage})"


def is_significant(difference: Spread) -> bool:
    """True where the interval does not contain zero."""
    return not difference.low <= 0.0 <= difference.high


def agreement(model: ModelResult) -> str:
    """How a model follows FP32 on photographs: ``keeps 281 of 285 people (6 new), ...``; empty with labels."""
    found = model.against_fp32
    if found is None:
        return ""
    text = f"keeps {found.kept} of {counted(found.kept + found.lost, 'person', 'people')}"
    text += f" ({found.new} new)" if found.new else ""
    if found.moved_px_p95 is not None:
        text += f", with 95 % of the joints within {found.moved_px_p95:.1f} px"
    return f"{text}: {found.ap.value:.1f} {model.metric} {bounds(found.ap)}"


def bounds(spread: Spread) -> str:
    """``[97.6, 99.7]``, of a figure that is no difference."""
    return f"[{spread.low:.1f}, {spread.high:.1f}]"


def signed(value: float) -> str:
    """One decimal with a true minus sign; zero has none."""
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def milliseconds(value: float) -> str:
    """Three significant digits: more than that no such measurement carries."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def interval(spread: Spread) -> str:
    """``[−0.8, +0.2]``"""
    return f"[{signed(spread.low)}, {signed(spread.high)}]"


def with_interval(spread: Spread) -> str:
    """``−0.3 [−0.8, +0.2]``"""
    return f"{signed(spread.value)} {interval(spread)}"
