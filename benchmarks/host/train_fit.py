"""Two pictures of a network fitted to photographs: its people next to the labelled ones, and its curve.

    python -m benchmarks.host.train_fit poses fp32.pt int8.pt --data lspet200 -o docs/train-fit.svg
    python -m benchmarks.host.train_fit curve benchmarks/results/lspet-train-fit.log.jsonl -o docs/train-fit-curve.svg

The people stand on blank ground: photographs of others are not ours to show. The images are every n-th of the split;
nobody picks them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from benchmarks.report.pareto_plot import ticks
from samkr_edge.dataset.keypoint_dataset import ImageRecord, KeypointDataset, open_dataset
from samkr_edge.files.artefact import replacing
from samkr_edge.images import read_image
from samkr_edge.pose.oks import is_labelled
from samkr_edge.pose.poses import SURE_JOINT
from samkr_edge.pose_model import PoseModel, load_model

# People scoring below this share of the image's best are not drawn: evaluation weighs by score, a reader cannot.
SHOWN_SHARE = 0.3
PANEL, GAP, HEAD, COLUMNS = 104, 14, 30, 3  # user units; images side by side
INK, FAINT, PAPER, GROUND = "#1f2328", "#c4cad1", "#ffffff", "#f4f5f7"
SERIES = ("#0f62b4", "#c2410c")
STYLE = (
    f"<style>text{{font:12px sans-serif;fill:{INK}}}.t{{fill:#57606a}}path,line{{fill:none;stroke-linecap:round;"
    "stroke-linejoin:round}</style>"
)
Joints = np.ndarray  # (K, 3) x, y in image pixels, and whether to draw it


def poses_picture(models: Sequence[Path], data: Path, split: str, count: int) -> str:
    """For each image, a panel with the labels, and one per model with its people over the labels in gray."""
    dataset = open_dataset(data, split)
    labelled = [record for record in dataset.images if dataset.annotations[record.id]]
    chosen = labelled[:: max(1, len(labelled) // count)][:count]
    opened = [load_model(path) for path in models]
    names = ["labelled", *(_name(model) for model in opened)]
    colours = [INK, *itertools.islice(itertools.cycle(SERIES), len(opened))]
    block = len(names) * (PANEL + 4) + GAP
    width = COLUMNS * block + GAP
    height = HEAD + -(-len(chosen) // COLUMNS) * (PANEL + GAP)
    parts = [_open(width, height, f"{len(chosen)} images of {split}: {', '.join(names)}")]
    for column, (number, name) in itertools.product(range(COLUMNS), enumerate(names)):
        at = GAP + column * block + number * (PANEL + 4) + PANEL / 2
        parts.append(f'<text x="{at:g}" y="{HEAD - 9}" text-anchor="middle">{escape(name)}</text>')
    for number, record in enumerate(chosen):
        left = GAP + number % COLUMNS * block
        top = HEAD + number // COLUMNS * (PANEL + GAP)
        truth = _labelled(dataset, record)
        found = [truth, *(_found(model, record) for model in opened)]
        for panel, (people, colour) in enumerate(zip(found, colours, strict=True)):
            view = _view(truth, left + panel * (PANEL + 4), top)
            parts.append(_panel(people, truth if panel else [], dataset.skeleton.edges, view, colour))
    return "".join([*parts, "</svg>\n"])


def _name(model: PoseModel) -> str:
    return "INT8, PTQ" if model.card.precision == "int8" else "FP32"


def _labelled(dataset: KeypointDataset, record: ImageRecord) -> list[Joints]:
    people = [np.array(a["keypoints"], float).reshape(-1, 3) for a in dataset.annotations[record.id]]
    for joints in people:
        joints[:, 2] = is_labelled(joints)
    return people


def _found(model: PoseModel, record: ImageRecord) -> list[Joints]:
    poses = model(read_image(record.path), None)
    if not len(poses):
        return []
    shown = poses.above(SHOWN_SHARE * float(poses.scores.max()))
    sure = shown.joint_scores[..., None] >= SURE_JOINT
    return list(np.concatenate([shown.keypoints, sure], axis=2))


@dataclass(frozen=True)
class View:
    """A square crop (x, y, side) in image pixels, shown in a square panel at (left, top)."""

    x: float
    y: float
    side: float
    left: float
    top: float

    def __call__(self, x: float, y: float) -> tuple[float, float]:
        unit = PANEL / self.side
        return self.left + (x - self.x) * unit, self.top + (y - self.y) * unit


def _view(people: Sequence[Joints], left: float, top: float) -> View:
    """A view of the labelled people with a margin."""
    points = np.concatenate([joints[is_labelled(joints), :2] for joints in people])
    low, high = points.min(axis=0), points.max(axis=0)
    side = 1.3 * float((high - low).max())
    x, y = (low + high - side) / 2
    return View(float(x), float(y), side, left, top)


def _panel(
    people: Sequence[Joints],
    under: Sequence[Joints],
    edges: Sequence[tuple[int, int]],
    view: View,
    colour: str,
) -> str:
    """People in a panel, drawn over the labels in gray."""
    drawn = [_person(joints, edges, view, FAINT, 5.0) for joints in under]
    drawn += [_person(joints, edges, view, colour, 1.8) for joints in people]
    at = f'x="{view.left:g}" y="{view.top:g}" width="{PANEL}" height="{PANEL}"'
    # An inner <svg> clips at its panel.
    return (
        f'<rect {at} rx="4" fill="{GROUND}"/><svg {at} viewBox="{view.left:g} {view.top:g} {PANEL} {PANEL}">'
        f"{''.join(drawn)}</svg>"
    )


def _person(joints: Joints, edges: Sequence[tuple[int, int]], view: View, colour: str, width: float) -> str:
    points = [view(float(x), float(y)) for x, y, _ in joints]
    shown = is_labelled(joints).tolist()
    bones = "".join(
        f"M{points[a][0]:.1f} {points[a][1]:.1f}L{points[b][0]:.1f} {points[b][1]:.1f}"
        for a, b in edges
        if shown[a] and shown[b]
    )
    dots = "".join(f"M{x:.1f} {y:.1f}h0" for (x, y), there in zip(points, shown, strict=True) if there)
    return (
        f'<path d="{bones}" stroke="{colour}" stroke-width="{width:g}"/>'
        f'<path d="{dots}" stroke="{colour}" stroke-width="{width + 2.4:g}"/>'
    )


@dataclass(frozen=True)
class PlotArea:
    """A plot's rectangle in user units and its value ranges."""

    x0: float
    x1: float
    y0: float
    y1: float
    updates: float
    low: float
    high: float

    def x(self, update: float) -> float:
        return self.x0 + update / self.updates * (self.x1 - self.x0)

    def y(self, value: float) -> float:
        return self.y1 - (value - self.low) / (self.high - self.low) * (self.y1 - self.y0)


def curve_picture(log: Path, metric: str = "train-fit AP") -> str:
    """AP, called ``metric``, and loss against the number of weight updates."""
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    scores = [(e["step"], e["ap"]) for e in entries if "ap" in e]
    losses = [(e["step"], math.log10(e["heatmap"] + e["offset"])) for e in entries if "heatmap" in e]
    last = max(e["step"] for e in entries)
    width, height = 760, 250
    left = PlotArea(48, 356, 34, height - 44, last, 0, 100)
    low, high = (bound(value for _, value in losses) for bound in (min, max))
    right = PlotArea(438, width - 24, 34, height - 44, last, low - 0.05, high + 0.05)
    steps = [math.log10(part) + power for power in range(-6, 2) for part in (1, 2, 5)]
    x, y = left.x(scores[-1][0]), left.y(scores[-1][1])
    return "".join(
        [
            _open(width, height, f"{metric} and loss against updates of the weights"),
            *_axes(left, [(value, f"{value:g}") for value in ticks(0, 100, 5)], metric),
            _line(left, scores, SERIES[0]),
            *(
                f'<circle cx="{left.x(m):.1f}" cy="{left.y(v):.1f}" r="3.5" fill="{SERIES[0]}"/>'
                for m, v in scores
            ),
            f'<text x="{x:.1f}" y="{y + 20:.1f}" text-anchor="end">{scores[-1][1]:.1f}</text>',
            *_axes(
                right,
                [(value, f"{10**value:.3g}") for value in steps if right.low <= value <= right.high],
                "loss of a batch, logarithmic",
            ),
            _line(right, losses, SERIES[1]),
            "</svg>\n",
        ]
    )


def _axes(frame: PlotArea, values: Sequence[tuple[float, str]], name: str) -> list[str]:
    x0, x1, bottom = f"{frame.x0:g}", f"{frame.x1:g}", frame.y1
    parts = [f'<text x="{x0}" y="{frame.y0 - 14:g}">{escape(name)}</text>']
    for value, label in values:
        y = frame.y(value)
        parts.append(f'<line x1="{x0}" x2="{x1}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e3e6ea"/>')
        parts.append(f'<text class="t" x="{frame.x0 - 8:g}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for update in ticks(0, frame.updates, 6):
        x = frame.x(update)
        parts.append(
            f'<text class="t" x="{x:.1f}" y="{bottom + 18:g}" text-anchor="middle">{update:g}</text>'
        )
    parts.append(f'<line x1="{x0}" x2="{x1}" y1="{bottom:g}" y2="{bottom:g}" stroke="{INK}"/>')
    parts.append(
        f'<text class="t" x="{x1}" y="{bottom + 36:g}" text-anchor="end">updates of the weights</text>'
    )
    return parts


def _line(frame: PlotArea, points: Sequence[tuple[float, float]], colour: str) -> str:
    path = "L".join(f"{frame.x(at):.1f} {frame.y(value):.1f}" for at, value in points)
    return f'<path d="M{path}" stroke="{colour}" stroke-width="2"/>'


def _open(width: float, height: float, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img"><title>{escape(title)}</title>{STYLE}'
        f'<rect width="{width:g}" height="{height:g}" fill="{PAPER}"/>'
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    poses = commands.add_parser("poses")
    poses.add_argument("models", type=Path, nargs="+")
    poses.add_argument("--data", type=Path, required=True)
    poses.add_argument("--split", default="train")
    poses.add_argument("--count", type=int, default=12, help="images")
    curve = commands.add_parser("curve")
    curve.add_argument("log", type=Path)
    for each in (poses, curve):
        each.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    if given.command == "poses":
        picture = poses_picture(given.models, given.data, given.split, given.count)
    else:
        picture = curve_picture(given.log)
    with replacing(given.out) as temporary:
        temporary.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
