"""What a setting of a recipe is worth: one recipe trained in several variants and seeds, AP by two protocols.

    samkr-edge data synth wide --train 3000 --val 300 --size 128 --aspect 1.5 --people 1-4 --height 0.4-0.95
    python -m benchmarks.host.recipe_runs --data wide --out runs --steps 700 --seeds 0 1 2 \\
        --variant fit data.crop=fit --variant short data.crop=short -o benchmarks/results/recipe_runs_crop.json

Every network is scored on the val split, or on another ``--split`` (on train it is train-fit AP): as it would be
deployed, and by the papers' protocol without rescoring: flip, and their resize. Seeds take turns over the variants, so
that a stopped comparison is a fair one; the same command goes on where it stopped, inside a run too. The table gives
means, and in brackets the least and the largest over the seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.host.kept_run import kept_run
from samkr_edge.child_process import command
from samkr_edge.dataset.keypoint_dataset import KeypointDataset, open_dataset
from samkr_edge.evaluation.ap import predict_dataset, score
from samkr_edge.evaluation.protocol import PAPER, Protocol
from samkr_edge.files.artefact import sha256_of, write_json
from samkr_edge.pose_model import load_model

PROTOCOLS = {"deployment": Protocol(), "paper": PAPER}


def trained(recipe: str, data: Path, out: Path, settings: list[str]) -> Path:
    """The network of the run in ``out``; starts or resumes the run if it is not finished."""
    options = [option for setting in settings for option in ("--set", setting)]
    line = command("train", recipe, "--data", str(data), "--out", str(out), "--resume", *options)
    subprocess.run(line, check=True, stdout=sys.stderr)
    return out / "final.pt"


def scores_of(network: Path, dataset: KeypointDataset) -> dict[str, dict[str, float]]:
    """AP and AR under each protocol."""
    model = load_model(network)
    return {
        name: score(dataset, predict_dataset(model, dataset, protocol=protocol)).to_dict()
        for name, protocol in PROTOCOLS.items()
    }


def finished(folder: Path, settings: list[str], annotations: dict[str, str]) -> dict[str, Any] | None:
    """The record of a finished run, or None.

    Raises:
        ValueError: the run had other settings or data.
    """
    record = folder / "scores.json"
    if not record.is_file():
        return None
    found: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    if (found["settings"], found["annotations"]) != (settings, annotations):
        raise ValueError(f"{folder} holds a run with other settings or data: choose another --out")
    return found


def spread(values: list[float]) -> dict[str, float]:
    """Mean, least and largest of a figure over the seeds."""
    return {
        "mean": round(statistics.mean(values), 2),
        "least": round(min(values), 2),
        "largest": round(max(values), 2),
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Variant -> protocol -> mean, lowest and highest AP over its seeds."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for variant in dict.fromkeys(run["variant"] for run in runs):
        aps = {
            protocol: [run["scores"][protocol]["ap"] for run in runs if run["variant"] == variant]
            for protocol in PROTOCOLS
        }
        table[variant] = {
            protocol: {**spread(values), "seeds": len(values)} for protocol, values in aps.items()
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="samkr_tiny")
    parser.add_argument("--data", type=Path, required=True, help="a data directory with train and --split")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--variant", nargs="+", action="append", required=True, metavar="NAME [KEY=VALUE]",
                        help="its settings on top of --set; repeatable")  # fmt: skip
    parser.add_argument("--split", default="val", help="what the networks are scored on")
    parser.add_argument("--set", nargs="+", default=[], dest="settings", help="key=value of all variants")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("-o", "--json", type=Path, help="JSON file to write, after every run")
    given = parser.parse_args()
    variants = {name: settings for name, *settings in given.variant}
    scored = open_dataset(given.data, given.split)
    train = open_dataset(given.data, "train")
    annotations = {each.split: sha256_of(each.annotation_path) for each in (train, scored)}
    runs: list[dict[str, Any]] = []
    for seed in given.seeds:
        for variant, own in variants.items():
            folder = given.out / f"{variant}-seed{seed}"
            settings = [f"schedule.steps={given.steps}", f"seed={seed}", *given.settings, *own]
            run = finished(folder, settings, annotations)
            if run is None:
                scores = scores_of(trained(given.recipe, given.data, folder, settings), scored)
                run = {"settings": settings, "annotations": annotations, "scores": scores}
                write_json(folder / "scores.json", run)
            runs.append({"variant": variant, "seed": seed, "scores": run["scores"]})
            if given.json:
                write_json(
                    given.json,
                    kept_run(
                        recipe=given.recipe,
                        steps=given.steps,
                        settings=given.settings,
                        variants=variants,
                        annotations_sha256=annotations,
                        images={"train": len(train), "scored": len(scored)},
                        scored_on=given.split,
                        ap=summary(runs),
                        runs=runs,
                    ),
                )
    for variant, protocols in summary(runs).items():
        parts = (
            f"{name} {found['mean']:5.1f} [{found['least']:.1f}, {found['largest']:.1f}]"
            for name, found in protocols.items()
        )
        print(f"{variant:20s} {'   '.join(parts)}")


if __name__ == "__main__":
    main()
