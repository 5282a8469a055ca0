"""Make the shipped network from a finished run, and keep what it is: recipe, seed, log, curve, AP in half precision.

    samkr-edge data synth people --train 30000 --val 1000 --seed 19 --liveliness 0.3
    samkr-edge train samkr_tiny_long --data people --out run
    python -m benchmarks.host.ship_network run people
    samkr-edge quantize zoo:samkr_tiny --data people -o ptq.pt  # the same network for the self-test, and for devices
    python -m benchmarks.host.selftest_networks trained ptq.pt  # without torch

The AP of both precisions is that of the split val, which the network did not learn from. It writes the package's file
(``training.ready.shipped_file``), and in the checkout ``benchmarks/results/shipped-NAME.json``, the run's log next to
it (each tenth line of the training, every AP) and ``docs/NAME-curve.svg``.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.host.kept_run import kept_run
from benchmarks.host.train_fit import curve_picture
from samkr_edge.dataset.keypoint_dataset import KeypointDataset, open_dataset
from samkr_edge.evaluation.ap import predict_dataset, score
from samkr_edge.files.artefact import replacing, sha256_of, write_json
from samkr_edge.pose_model import PoseModel
from training.checkpoint import Checkpoint, load_checkpoint, network_of
from training.ready.shipped_file import FOLDER, read_shipped, write_shipped
from training.torch_runner import TorchRunner

ROOT = Path(__file__).parents[2]
KEPT_LINES = 10


def ship(run: Path, data: Path) -> None:
    """Write the shipped files of ``run``, whose training data are ``data``."""
    finished, held_out = load_checkpoint(run / "final.pt"), open_dataset(data)
    name, training = finished.card.model, finished.card.provenance["training"]
    file, log = FOLDER / f"{name}.npz", ROOT / f"benchmarks/results/shipped-{name}.log.jsonl"
    rendered = json.loads((data / "synth.json").read_text(encoding="utf-8"))["settings"]
    in_full = _scores(finished, held_out)
    write_shipped(file, finished)
    in_half = _scores(read_shipped(file), held_out)
    images = len(held_out.images)
    ready = {
        "name": name,
        "by": "samkr-edge",
        "trained": f"{training['images']} images of {rendered['train']} rendered ones, seed {rendered['seed']}",
        "knows": "rendered people",
        "published": f"{in_half['ap']:.1f} AP on {images} rendered images",
        "weights": "float16",
    }
    write_shipped(file, replace(finished, card=finished.card.with_provenance(ready=ready)))
    _keep_log(run / "log.jsonl", log)
    write_json(
        log.with_name(f"shipped-{name}.json"),
        kept_run(
            recipe=training["recipe"],
            seed=training["seed"],
            training={
                key: training[key] for key in ("steps", "images", "minutes", "precision", "validation")
            },
            rendered=rendered,
            curve=[[entry["step"], round(entry["ap"], 2)] for entry in _entries(log) if "ap" in entry],
            held_out={"split": held_out.split, "images": images, "float32": in_full, "float16": in_half},
            file={"bytes": file.stat().st_size, "sha256": sha256_of(file)},
        ),
    )
    with replacing(ROOT / f"docs/{name.replace('_', '-')}-curve.svg") as temporary:
        temporary.write_text(curve_picture(log, "AP"), encoding="utf-8")
    print(
        f"{file}: {file.stat().st_size / 1e6:.2f} MB; AP {in_full['ap']:.2f} in float32, {in_half['ap']:.2f} in float16"
    )


def _scores(checkpoint: Checkpoint, dataset: KeypointDataset) -> dict[str, float]:
    model = PoseModel(TorchRunner(network_of(checkpoint), checkpoint.card), Path(checkpoint.card.model))
    found = score(dataset, predict_dataset(model, dataset)).to_dict()
    return {name: round(value, 3) for name, value in found.items()}


def _entries(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def _keep_log(log: Path, out: Path) -> None:
    entries = _entries(log)
    kept = [entry for number, entry in enumerate(entries) if "ap" in entry or number % KEPT_LINES == 0]
    with replacing(out) as temporary:
        temporary.write_text("".join(f"{json.dumps(entry)}\n" for entry in kept), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    given = parser.parse_args()
    ship(given.run, given.data)


if __name__ == "__main__":
    main()
