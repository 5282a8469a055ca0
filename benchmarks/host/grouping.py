"""How long grouping takes: ours against the plain procedure, which looks at whole maps for every joint of every person.

    python -m benchmarks.host.grouping -o benchmarks/results/grouping.json

Both group the same maps of a crowd in turns, on one thread, and must find the same people. ``deployed`` is what a
device does: heatmaps at half the input's side, tags at a quarter, one pass. ``papers`` is the papers' test: both at the
input's size, and two tags a pixel, of the image and of its mirror image. The time of the plain procedure there is a
part of the 816 ms that the paper measured for SWAHR (its Table 6, with an input of 640, on a computer of its own).

The plain procedure is benchmarks/host/plain_grouping.py: whole-array NumPy, and SciPy's assignment. The official code
solves the assignment by the package munkres, in Python; where that is installed, the plain procedure is also timed with
it (``official_ms``).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.host.kept_run import kept_run
from benchmarks.host.plain_grouping import by_munkres, plain_group
from benchmarks.scripts.host_cost import interleaved
from samkr_edge.files.artefact import write_json
from samkr_edge.pose.grouping import group
from samkr_edge.pose.grouping_settings import GroupingSettings

KEYPOINTS = 17
# Name -> (side of the heatmap, side of the tag map, tags a pixel).
SETTINGS = {"deployed": (256, 128, 1), "papers": (640, 640, 2)}


def crowd_maps(
    people: int, side: int, tag_side: int, numbers: int, *, missing: float = 0.2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Maps like a good network's: heatmap float32 (K, h, w), tag float32 (K, H, W, T).

    Args:
        people: how many, in a grid.
        side: h and w.
        tag_side: H and W.
        numbers: T.
        missing: share of the joints without a peak above the threshold; the heatmap has a faint one.
        seed: of everything random.
    """
    rng = np.random.default_rng(seed)
    heatmap = rng.normal(0, 0.004, (KEYPOINTS, side, side))
    tag = rng.normal(0, 0.1, (KEYPOINTS, tag_side, tag_side, numbers))
    cells = int(np.ceil(np.sqrt(people)))
    cell = side / cells
    sigma = side / 128
    reach = int(4 * sigma)
    for person in range(people):
        corner = np.array([person % cells, person // cells]) * cell
        for joint in range(KEYPOINTS):
            x, y = corner + rng.uniform(0.15, 0.85, 2) * cell
            height = rng.uniform(0.02, 0.08) if rng.random() < missing else rng.uniform(0.3, 0.95)
            rows, columns = (slice(max(int(at) - reach, 0), int(at) + reach + 1) for at in (y, x))
            py, px = np.mgrid[rows.start : min(rows.stop, side), columns.start : min(columns.stop, side)]
            bump = height * np.exp(-((px - x) ** 2 + (py - y) ** 2) / (2 * sigma**2))
            heatmap[joint, rows, columns] = np.maximum(heatmap[joint, rows, columns], bump)
            share = tag_side / side
            near = tuple(
                slice(int(part.start * share), int(part.stop * share) + 1) for part in (rows, columns)
            )
            tag[joint][near] = 2.0 * (person - people / 2) + rng.normal(0, 0.1, tag[joint][near].shape)
    return heatmap.astype(np.float32), tag.astype(np.float32)


def compared(people: int, setting: str, repeats: int) -> dict[str, Any]:
    """Medians of both, in milliseconds, and their ratio."""
    heatmap, tag = crowd_maps(people, *SETTINGS[setting])
    settings = GroupingSettings()
    ways: dict[str, Callable[[], Any]] = {
        "plain": lambda: plain_group(heatmap, tag, settings),
        "ours": lambda: group(heatmap, tag, settings, 1),
    }
    if importlib.util.find_spec("munkres"):
        ways["official"] = lambda: plain_group(heatmap, tag, settings, by_munkres)
    medians = {name: row["median_ms"] for name, row in interleaved(ways, repeats).items()}
    (poses, scores), found = ways["plain"](), ways["ours"]()
    order = np.argsort(-scores, kind="stable")[: settings.max_people]
    np.testing.assert_allclose(found.keypoints, poses[order, :, :2], atol=1e-3)
    return {
        "setting": setting,
        "people": people,
        "found": len(found),
        **{f"{name}_ms": round(median, 2) for name, median in medians.items()},
        "ratio": round(medians["plain"] / medians["ours"], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--people", type=int, nargs="+", default=[1, 5, 30])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("-o", "--json", type=Path, help="JSON file to write")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    rows = []
    for setting in SETTINGS:
        for people in given.people:
            row = compared(people, setting, given.repeats)
            rows.append(row)
            official = f"   with munkres {row['official_ms']:.1f} ms" if "official_ms" in row else ""
            print(
                f"{setting:9s} {people:3d} people: plain {row['plain_ms']:8.1f} ms   ours {row['ours_ms']:6.2f} ms   "
                f"{row['ratio']:.1f}x{official}",
                flush=True,
            )
    if given.json:
        load = os.getloadavg()[0]
        write_json(
            given.json,
            kept_run(
                command="python -m benchmarks.host.grouping", repeats=given.repeats, load=load, rows=rows
            ),
        )


if __name__ == "__main__":
    main()
