"""The report's plot: AP against latency, the Pareto front as a stepped line, and a place for every label.

Sizes are in user units, one of which is about a CSS pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.judge.choose import front
from benchmarks.judge.wording import short_labels
from benchmarks.report.svg import mark
from benchmarks.schema import Results


@dataclass(frozen=True)
class Point:
    """One model in the plot.

    Attributes:
        label: drawn next to the mark.
        series: number of its colour and mark.
        p50, p90: latency in ms.
        ap: 0..100.
        ap_low, ap_high: interval of AP (the baseline's AP plus the interval of the difference); None for none.
        recommended: drawn with a ring.
    """

    label: str
    series: int
    p50: float
    p90: float
    ap: float
    ap_low: float | None = None
    ap_high: float | None = None
    recommended: bool = False


@dataclass(frozen=True)
class Box:
    """A rectangle in user units."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: Box) -> float:
        """Shared area."""
        width = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        height = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return max(0.0, width) * max(0.0, height)


_FONT = 13.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 20.0, 26.0, 50.0


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) within [low, high], about so many."""
    if high <= low:
        return [low]
    raw = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999), 10 * power)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 10) + 0.0 for number in range(first, last + 1)]


def _number(value: float, step: float) -> str:
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    return f"{value:.{decimals}f}"


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def pareto_plots(runs: Sequence[tuple[str, Results]]) -> list[str]:
    """The plot in a wide and a narrow drawing (text must not shrink with the screen); none without accuracy, or if the
    runs scored different images or by different protocols, since their AP cannot share an axis.
    """
    if len({results.ap_basis for _, results in runs if results.dataset}) > 1:
        return []
    points: list[Point] = []
    for name, results in runs:
        labels = short_labels(results.models)
        base_ap = results.baseline().ap
        for model in results.models:
            if model.ap is None or base_ap is None:
                continue
            spread = model.change
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
    metric = next(results.metric for _, results in runs if results.dataset)
    title = f"Accuracy ({metric}) against latency (ms) of " + ", ".join(point.label for point in points)
    return [
        scatter(points, width=920, height=400, title=title, css_class="wide", metric=metric),
        scatter(points, width=380, height=360, title=title, css_class="narrow", metric=metric),
    ]


def _clipped(text: str, length: int = 34) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip(",· ") + "…"


def scatter(
    points: Sequence[Point], *, width: float, height: float, title: str, css_class: str, metric: str = "AP"
) -> str:
    """``metric`` against latency. Marks with bars p50..p90 and the AP interval, the Pareto front as a stepped line.

    The latency axis starts at 0, so that distances are ratios; the AP axis is fitted to the data.
    """
    x = _latency_scale(points, width)
    y = _ap_scale(points, height)
    parts = [
        f'<svg class="plot {css_class}" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
        *_axes(x, y, width, height, metric),
        *_front_line(points, x, y),
    ]
    boxes = place_labels(
        points, [(x(p.p50), y(p.ap)) for p in points], _obstacles(points, x, y), width, height
    )
    for point, box in zip(points, boxes, strict=True):
        parts += _mark(point, x, y, metric)
        parts.append(
            f'<text class="label s{point.series}" x="{box.x:.1f}" y="{box.y + _FONT * 0.8:.1f}">'
            f"{escape(point.label)}</text>"
        )
    parts.append("</svg>")
    return "".join(parts)


def _latency_scale(points: Sequence[Point], width: float) -> _Axis:
    top = max(max(p.p50, p.p90) for p in points) * 1.08
    return _Axis(0.0, top or 1.0, _LEFT, width - _RIGHT)


def _ap_scale(points: Sequence[Point], height: float) -> _Axis:
    low = min(p.ap if p.ap_low is None else min(p.ap, p.ap_low) for p in points)
    high = max(p.ap if p.ap_high is None else max(p.ap, p.ap_high) for p in points)
    # Never zoom so far that a tenth of a point looks like a cliff.
    room = max((high - low) * 0.22, (4.0 - (high - low)) / 2, 0.5)
    # A little below 0 is shown where needed, so that no mark sits on the axis.
    return _Axis(max(-0.3 * room, low - room), min(100.0 + 0.3 * room, high + room), height - _BOTTOM, _TOP)


def _axes(x: _Axis, y: _Axis, width: float, height: float, metric: str) -> list[str]:
    parts = []
    marks = ticks(y.low, y.high, 5)
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    for value in marks:
        at = y(value)
        parts.append(f'<line class="grid" x1="{x.start:g}" x2="{x.end:g}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{x.start - 10:g}" y="{at + 4:.1f}" text-anchor="end">'
            f"{_number(value, step)}</text>"
        )
    marks = ticks(x.low, x.high, 6 if width > 500 else 4)
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    for value in marks:
        at = x(value)
        parts.append(
            f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{y.start:g}" y2="{y.start + 5:g}"/>'
        )
        parts.append(
            f'<text class="tick" x="{at:.1f}" y="{y.start + 20:g}" text-anchor="middle">'
            f"{_number(value, step)}</text>"
        )
    parts.append(f'<line class="axis" x1="{x.start:g}" x2="{x.end:g}" y1="{y.start:g}" y2="{y.start:g}"/>')
    parts.append(
        f'<text class="axis-name" x="{x.end:g}" y="{height - 8:g}" text-anchor="end">'
        "latency per frame, ms →</text>"
    )
    parts.append(f'<text class="axis-name" x="{x.start - 44:g}" y="14">↑ {metric}</text>')
    parts.append(
        f'<text class="axis-name" x="{x.end:g}" y="14" text-anchor="end">up and left is better</text>'
    )
    return parts


def _front_line(points: Sequence[Point], x: _Axis, y: _Axis) -> list[str]:
    """What is reachable: a step down to the left of each model on the front, and flat to its right."""
    best = [points[index] for index in front([(p.p50, p.ap) for p in points])]
    if not best:
        return []
    path = [f"M{x(best[0].p50):.1f} {y.start:.1f}", f"V{y(best[0].ap):.1f}"]
    for point in best[1:]:
        path += [f"H{x(point.p50):.1f}", f"V{y(point.ap):.1f}"]
    path.append(f"H{x.end:.1f}")
    area = " ".join([*path, f"V{y.start:.1f}", "Z"])
    return [f'<path class="reach" d="{area}"/>', f'<path class="front" d="{" ".join(path)}"/>']


def _mark(point: Point, x: _Axis, y: _Axis, metric: str) -> list[str]:
    cx, cy = x(point.p50), y(point.ap)
    parts = [f'<g class="s{point.series}">', f"<title>{escape(_describe(point, metric))}</title>"]
    right = x(max(point.p50, point.p90))
    parts.append(f'<path class="bar" d="M{cx:.1f} {cy:.1f}H{right:.1f}M{right:.1f} {cy - 4:.1f}v8"/>')
    if point.ap_low is not None and point.ap_high is not None:
        bottom, top = y(point.ap_low), y(point.ap_high)
        parts.append(
            f'<path class="bar" d="M{cx:.1f} {bottom:.1f}V{top:.1f}'
            f'M{cx - 4:.1f} {bottom:.1f}h8M{cx - 4:.1f} {top:.1f}h8"/>'
        )
    if point.recommended:
        parts.append(f'<circle class="ring" cx="{cx:.1f}" cy="{cy:.1f}" r="11"/>')
    parts.append(mark(point.series, cx, cy))
    parts.append("</g>")
    return parts


def _describe(point: Point, metric: str) -> str:
    text = f"{point.label}: {point.ap:.1f} {metric}, p50 {point.p50:.1f} ms, p90 {point.p90:.1f} ms"
    if point.ap_low is not None and point.ap_high is not None:
        text += f", interval {point.ap_low:.1f} to {point.ap_high:.1f}"
    return text


def _obstacles(points: Sequence[Point], x: _Axis, y: _Axis) -> list[Box]:
    boxes = []
    for point in points:
        cx, cy = x(point.p50), y(point.ap)
        boxes.append(Box(cx - 11, cy - 11, 22, 22))
        boxes.append(Box(cx, cy - 4, x(max(point.p50, point.p90)) - cx, 8))
        if point.ap_low is not None and point.ap_high is not None:
            boxes.append(Box(cx - 4, y(point.ap_high), 8, y(point.ap_low) - y(point.ap_high)))
    return boxes


def text_width(text: str) -> float:
    """Width of a label in user units; system fonts differ, so this is on the wide side."""
    return 0.58 * _FONT * len(text)


def place_labels(
    points: Sequence[Point],
    at: Sequence[tuple[float, float]],
    obstacles: Sequence[Box],
    width: float,
    height: float,
) -> list[Box]:
    """A box for every label: near its mark, inside the plot, without overlap if possible.

    Greedy: each label in turn takes the cheapest of the places around its mark, in growing circles.
    """
    placed: list[Box] = []
    inside = (_LEFT + 2, _TOP - 4, width - _RIGHT, height - _BOTTOM - 2)
    for point, (cx, cy) in zip(points, at, strict=True):
        size = (text_width(point.label), _FONT * 1.15)
        best, lowest = Box(cx, cy, *size), math.inf
        for distance in (15.0, 24.0, 36.0, 52.0, 72.0, 96.0, 124.0):
            for rank, (dx, dy) in enumerate(_DIRECTIONS):
                box = Box(
                    cx + dx * distance - size[0] * (1 - dx) / 2,
                    cy + dy * distance - size[1] * (1 - dy) / 2,
                    *size,
                )
                cost = distance + 2.0 * rank + 1000.0 * _outside(box, inside)
                cost += 40.0 * sum(box.overlap(other) for other in placed)
                cost += 2.0 * sum(box.overlap(other) for other in obstacles)
                if cost < lowest:
                    best, lowest = box, cost
        placed.append(best)
    return placed


# Right above, right below, left above, left below, above, below, right, left of the mark.
_DIRECTIONS = ((1, -1), (1, 1), (-1, -1), (-1, 1), (0, -1), (0, 1), (1, 0), (-1, 0))


def _outside(box: Box, inside: tuple[float, float, float, float]) -> float:
    left, top, right, bottom = inside
    return (
        max(0.0, left - box.x)
        + max(0.0, top - box.y)
        + max(0.0, box.x + box.width - right)
        + max(0.0, box.y + box.height - bottom)
    )
