"""The sensitivity chart: horizontal bars with their intervals, as one self-contained SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from calibration.analysis.sensitivity import Sensitivity
from calibration.analysis.trials import Trial

_ROW, _LEFT, _PLOT, _RIGHT, _TOP, _BOTTOM = 24.0, 150.0, 460.0, 110.0, 64.0, 64.0
_STYLE = """
  svg { background: #fff; color: #1d2733; font: 13px system-ui, sans-serif }
  text { fill: #1d2733 } .quiet { fill: #66717d; font-size: 12px } .title { font-weight: 600; font-size: 15px }
  .grid { stroke: #e3e7eb } .zero { stroke: #66717d }
  .lost { fill: #b5482a } .noise { fill: #b9c2cb } .whisker { stroke: #1d2733; stroke-width: 1.4; fill: none }
"""


@dataclass(frozen=True)
class IntervalBar:
    """One row: a value with its interval. ``strong`` bars are coloured; ``note`` is printed on the right."""

    label: str
    value: float
    low: float
    high: float
    strong: bool
    note: str


def bar_chart(bars: Sequence[IntervalBar], *, title: str, axis: str, foot: str) -> str:
    """An SVG document; the zero line is always in the plot."""
    low = min(0.0, *(bar.low for bar in bars))
    high = max(0.0, *(bar.high for bar in bars))
    room = 0.04 * (high - low) or 1.0
    low, high = low - room, high + room
    width, bottom = _LEFT + _PLOT + _RIGHT, _TOP + _ROW * len(bars)
    height = bottom + _BOTTOM

    def x(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * _PLOT

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" '
        f'aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="16" y="26">{escape(title)}</text>',
        f'<text class="quiet" x="{_LEFT:g}" y="48">{escape(axis)}</text>',
        f'<text class="quiet" x="{width - 16:g}" y="48" text-anchor="end">share of MACs</text>',
    ]
    for value in _ticks(low, high):
        kind = "zero" if value == 0 else "grid"
        parts.append(
            f'<line class="{kind}" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{_TOP:g}" y2="{bottom:g}"/>'
        )
        parts.append(
            f'<text class="quiet" x="{x(value):.1f}" y="{bottom + 18:g}" text-anchor="middle">{value:g}</text>'
        )
    for index, bar in enumerate(bars):
        parts += _row(bar, _TOP + _ROW * (index + 0.5), x, width)
    parts.append(f'<text class="quiet" x="16" y="{height - 16:g}">{escape(foot)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def sensitivity_chart(
    results: Sequence[Sensitivity],
    title: str,
    images: int,
    without_attention: Trial | None = None,
    metric: str = "AP",
    against_fp32: bool = False,
) -> str:
    """Change of AP by each group alone in INT8, in the order given, and below them the float network without
    attention; ``against_fp32`` says whether that AP itself is against FP32's people."""
    bars = [_bar(result.group.name, result.alone, f"{100 * result.macs_share:.1f} %") for result in results]
    if without_attention:
        bars.append(_bar("without attention", without_attention, "float"))
    foot = (
        f"whiskers: 95 % over {images} images; gray: indistinguishable from no loss ({metric} and mean OKS)"
    )
    return bar_chart(
        bars,
        title=title,
        axis=f"{metric} won or lost" + ("" if against_fp32 else " against FP32"),
        foot=foot,
    )


def _bar(label: str, trial: Trial, note: str) -> IntervalBar:
    ap = trial.difference.ap
    return IntervalBar(label, ap.difference, ap.low, ap.high, trial.difference.worse, note)


def _row(bar: IntervalBar, y: float, x: Callable[[float], float], width: float) -> list[str]:
    start, end = sorted((x(0.0), x(bar.value)))
    left, right = x(bar.low), x(bar.high)
    return [
        f'<text x="{_LEFT - 10:g}" y="{y + 4:.1f}" text-anchor="end">{escape(bar.label)}</text>',
        f'<rect class="{"lost" if bar.strong else "noise"}" x="{start:.1f}" y="{y - 7:.1f}" '
        f'width="{max(end - start, 1):.1f}" height="14"/>',
        f'<path class="whisker" d="M{left:.1f} {y - 4:.1f}v8m0-4H{right:.1f}m0-4v8"/>',
        f'<text class="quiet" x="{width - 16:g}" y="{y + 4:.1f}" text-anchor="end">{escape(bar.note)}</text>',
    ]


def _ticks(low: float, high: float) -> list[float]:
    """About six round numbers in [low, high], 0 among them."""
    raw = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    return [round(n * step, 10) + 0.0 for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
