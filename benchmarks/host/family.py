"""The three systems side by side, small: SAMKR, DEKR and SWAHR trained alike on rendered people, FP32 and INT8.

    samkr-edge data synth people --liveliness 0.3
    python -m benchmarks.host.family --data people --out runs -o benchmarks/results/family.json

The tiny networks share a trunk and a recipe, so what differs is the head, its loss and its decoding. With the first
seed each is trained for the recipe's minutes, which are of a machine that does nothing else; with the other seeds for
as many updates as that gave, on one thread, so that others may use the machine or two networks train at a time. Each is
quantized (PTQ), built for this CPU and scored on the val split, one pass. Then all models of a seed are timed in turns
on the same images: from image to poses, one thread, on a quiet machine again. Seeds take turns over the networks, and
the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.host.kept_run import kept_run
from benchmarks.host.recipe_runs import spread, trained
from benchmarks.schema import read_results
from samkr_edge.child_process import command
from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.files.artefact import sha256_of, write_json
from training.checkpoint import load_checkpoint

NETWORKS = ("samkr_tiny", "dekr_tiny", "swahr_tiny")
PRECISIONS = ("fp32", "int8")
# What the table shows: accuracy by COCO's keys, times by the stage, milliseconds.
SCORES, TIMES = ("ap", "ar"), ("network", "decode", "total")


def samkr_edge(*words: str) -> None:
    """Run a command of ours; its output goes to stderr."""
    subprocess.run(command(*words), check=True, stdout=sys.stderr)


def built(network: str, data: Path, folder: Path, settings: list[str]) -> dict[str, Path]:
    """Precision -> the model for this CPU, of a network trained in ``folder``; what is there is kept."""
    final, ptq = trained(network, data, folder / "fp32", settings), folder / "ptq.pt"
    models: dict[str, Path] = {}
    for precision, source in zip(PRECISIONS, (final, ptq), strict=True):
        models[precision] = folder / f"{network}-{precision}.built.onnx"
        if models[precision].is_file():
            continue
        if precision == "int8":
            samkr_edge("quantize", str(final), "--data", str(data), "-o", str(ptq))
        exported = folder / f"{network}-{precision}.onnx"
        samkr_edge("export", str(source), "-o", str(exported))
        samkr_edge("build", str(exported), "--target", "cpu", "-o", str(models[precision]))
    return models


def measured(models: list[Path], data: Path, folder: Path, seconds: float) -> list[dict[str, Any]]:
    """AP, AR and times of models in turns, by ``bench``; a finished measurement of the same files is kept."""
    results, wanted = folder / "results.json", [sha256_of(model) for model in models]
    if not results.is_file() or [row.sha256 for row in read_results(results).models] != wanted:
        words = ("--data", str(data), "--seconds", f"{seconds:g}", "--threads", "1", "--out", str(folder))
        samkr_edge("bench", *map(str, models), *words)
    return [
        {
            "network": row.network,
            "precision": row.precision,
            **{key: (row.accuracy or {})[key] for key in SCORES},
            **{f"{stage}_ms": getattr(row.split_ms, stage) for stage in TIMES},
            "stable": row.stable,
        }
        for row in read_results(results).models
    ]


def as_long_as(run: Path) -> list[str]:
    """Settings by which a network is trained as long as in a finished run, in updates."""
    steps = int(load_checkpoint(run / "final.pt").card.provenance["training"]["steps"])
    return ["threads=1", "schedule.minutes=null", f"schedule.steps={steps}"]


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each network and precision: of every figure the mean over the seeds, its least and its largest."""
    table = []
    for network in NETWORKS:
        for precision in PRECISIONS:
            own = [row for row in rows if (row["network"], row["precision"]) == (network, precision)]
            if not own:
                continue
            figures = (*SCORES, *(f"{stage}_ms" for stage in TIMES))
            of = {name: [float(row[name]) for row in own] for name in figures}
            table.append(
                {
                    "network": network,
                    "precision": precision,
                    "seeds": len(own),
                    **{name: spread(values) for name, values in of.items()},
                }
            )
    return table


def as_markdown(table: list[dict[str, Any]]) -> str:
    """The rows of ``summary``, a network a line: means over the seeds, and of AP the least and the largest."""
    lines = [
        "| | AP FP32 | AP INT8 | AR FP32 | AR INT8 | ms FP32 | ms INT8 | of it decoding |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for network in NETWORKS:
        rows = {row["precision"]: row for row in table if row["network"] == network}
        if rows.keys() != set(PRECISIONS):
            continue
        fp32, int8 = (rows[precision] for precision in PRECISIONS)
        ap = ("{mean:.1f} [{least:.1f}, {largest:.1f}]".format(**row["ap"]) for row in (fp32, int8))
        ar = (f"{row['ar']['mean']:.1f}" for row in (fp32, int8))
        ms = (f"{row['total_ms']['mean']:.1f}" for row in (fp32, int8))
        lines.append(f"| {' | '.join((network, *ap, *ar, *ms, '{mean:.2f}'.format(**int8['decode_ms'])))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a data directory with train and val")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--minutes", type=float, help="of training, in place of the recipes'")
    parser.add_argument("--seconds", type=float, default=20, help="of timing, each model")
    parser.add_argument("--set", nargs="+", default=[], dest="settings", help="key=value of all recipes")
    parser.add_argument("-o", "--json", type=Path, help="JSON file to write, after every seed")
    given = parser.parse_args()
    minutes = [] if given.minutes is None else [f"schedule.minutes={given.minutes:g}"]
    rows: list[dict[str, Any]] = []
    for seed in given.seeds:
        folder, first = (given.out / f"seed{number}" for number in (seed, given.seeds[0]))
        models: list[Path] = []
        for network in given.networks:
            length = minutes if folder == first else as_long_as(first / network / "fp32")
            settings = [f"seed={seed}", *length, *given.settings]
            models += built(network, given.data, folder / network, settings).values()
        rows += [
            {"seed": seed, **row} for row in measured(models, given.data, folder / "bench", given.seconds)
        ]
        if given.json:
            splits = {split: open_dataset(given.data, split) for split in ("train", "val")}
            write_json(
                given.json,
                kept_run(
                    command="python -m benchmarks.host.family",
                    settings=[*minutes, *given.settings],
                    images={split: len(each) for split, each in splits.items()},
                    annotations_sha256={
                        split: sha256_of(each.annotation_path) for split, each in splits.items()
                    },
                    table=summary(rows),
                    rows=rows,
                ),
            )
    print(as_markdown(summary(rows)))


if __name__ == "__main__":
    main()
