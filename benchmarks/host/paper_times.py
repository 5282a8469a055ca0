"""Table 6 of the paper with ours beside it: networks timed by a sweep, decoding on maps that hold a crowd.

    samkr-edge sweep paper --out sweep-paper
    python -m benchmarks.host.paper_times sweep-paper -o benchmarks/results/paper_times.json

A network is as fast with random weights as with trained ones; its decoder is not, since random maps hold no people.
So the decoders are timed apart, on maps of W48's size with a known number of people, and ``total`` is the frame as the
sweep timed it, from the image to poses, with the decoding of a crowd in place of its own.

Each decoder is timed in turns with the plain procedure of its authors' papers, on one thread: DEKR's in torch, and for
HigherHRNet and SWAHR benchmarks/host/plain_grouping.py, which compares every person with whole maps. As in their test
these maps are of the input's size, with one tag a pixel; to enlarge them is not counted, and SciPy solves the
assignment. benchmarks/host/grouping.py proves on equal maps that ours finds the same people.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2

from benchmarks.host.kept_run import kept_run
from benchmarks.judge.wording import milliseconds
from benchmarks.paper import TABLES
from benchmarks.schema import ModelResult, Results, read_results
from benchmarks.sweep.index import cell_files
from samkr_edge.files.artefact import require_writable, write_json

SIZE = 640
# How a network is decoded -> pixels of the input for one of its heatmap.
STRIDES = {"grouping": 2, "offsets": 4}
PAPER = TABLES[5]
CROWD = 30


def decoders(people: int) -> dict[str, Callable[[], int]]:
    """By ``grouping`` and ``offsets``, and with ``, plain`` the plain procedure: each returns how many it finds."""
    import torch

    from benchmarks.host.decode import official
    from benchmarks.host.grouping import crowd_maps
    from benchmarks.host.plain_grouping import plain_group
    from benchmarks.scripts.host_cost import synthetic_maps
    from samkr_edge.pose.decode import decode
    from samkr_edge.pose.decode_settings import DecodeSettings
    from samkr_edge.pose.grouping import group
    from samkr_edge.pose.grouping_settings import GroupingSettings

    torch.set_num_threads(1)
    grouping, offsets = GroupingSettings(), DecodeSettings()
    heatmap, tag = crowd_maps(people, SIZE // STRIDES["grouping"], SIZE // 4, 1)
    enlarged = crowd_maps(people, SIZE, SIZE, 1)
    maps = synthetic_maps(people, SIZE // STRIDES["offsets"])
    tensors = [torch.from_numpy(one)[None] for one in maps]
    return {
        "grouping": lambda: len(group(heatmap, tag, grouping, STRIDES["grouping"])),
        "grouping, plain": lambda: len(plain_group(*enlarged, grouping)[1]),
        "offsets": lambda: len(decode(*maps, offsets, STRIDES["offsets"])),
        "offsets, plain": lambda: len(official(tensors[0], tensors[1], offsets)[1]),
    }


def timed(people: int, rounds: int) -> dict[str, Any]:
    """What each decoder finds, and its milliseconds: median and quartiles over the rounds."""
    from benchmarks.scripts.host_cost import interleaved

    work = decoders(people)
    found = {name: call() for name, call in work.items()}
    return {name: {"found": found[name], **row} for name, row in interleaved(work, rounds).items()}


def decoding_table(run: dict[str, Any]) -> str:
    """Markdown: a row for each kind of decoding and number of people."""
    lines = [
        "| decoding | people | plain procedure, ms | ours, ms | times as fast |",
        "|---|---|---|---|---|",
    ]
    for kind in STRIDES:
        for people, rows in run["decoding"].items():
            ours, theirs = (rows[name]["median_ms"] for name in (kind, f"{kind}, plain"))
            shown = (kind, people, milliseconds(theirs), milliseconds(ours), f"{theirs / ours:.0f}")
            lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def times_table(run: dict[str, Any]) -> str:
    """Markdown: a row for each model of the sweep, with the paper's milliseconds in a column of their own."""
    lines = [
        f"| network | | network, ms | decoding {CROWD} people, ms | total, ms | paper: ms on an RTX 3090 |",
        "|---|---|---|---|---|---|",
    ]
    for cell in run["cells"]:
        for model in Results.model_validate(cell).models:
            printed = PAPER.printed(model.network, "ms, RTX 3090")
            shown = (
                model.network,
                model.precision.upper(),
                milliseconds(model.split_ms.network),
                milliseconds(_decode_ms(run, model)),
                milliseconds(model.split_ms.total - model.split_ms.decode + _decode_ms(run, model)),
                "" if printed is None or not model.is_baseline else f"{printed:g}",
            )
            lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def _decode_ms(run: dict[str, Any], model: ModelResult) -> float:
    return float(run["decoding"][str(CROWD)][run["decoded_by"][model.network]]["median_ms"])


def cells_in(folder: Path) -> list[Results]:
    """The cells of a sweep that are rows of Table 6, in its order."""
    networks = [name for row in PAPER.rows for name in row.networks]
    runs = [read_results(file) for file in cell_files(folder)]
    timed_alone = [run for run in runs if run.dataset is None and run.models[0].network in networks]
    return sorted(timed_alone, key=lambda run: networks.index(run.models[0].network))


def main(arguments: Sequence[str] | None = None) -> None:
    """Time the decoders, print both tables, and write JSON if ``--out`` is given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweep", type=Path, help="folder of `samkr-edge sweep paper`")
    parser.add_argument("--people", type=int, nargs="+", default=[1, 5], help=f"besides {CROWD}")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("-o", "--out", type=Path, help="JSON file to write")
    given = parser.parse_args(arguments)
    if given.out:
        require_writable(given.out)
    from training.models.zoo import model_config

    cv2.setNumThreads(1)
    cells = cells_in(given.sweep)
    run = kept_run(
        kind="the paper's Table 6: networks by a sweep, decoding on maps of a crowd",
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        command="python -m benchmarks.host.paper_times",
        settings={"input": SIZE, "threads": 1, "rounds": given.rounds},
        load=os.getloadavg()[0],
        decoding={str(people): timed(people, given.rounds) for people in sorted({*given.people, CROWD})},
        decoded_by={run.models[0].network: model_config(run.models[0].network).decoding for run in cells},
        cells=[run.model_dump(mode="json") for run in cells],
    )
    print(decoding_table(run), times_table(run), sep="\n\n")
    if given.out:
        write_json(given.out, run)


if __name__ == "__main__":
    main()
