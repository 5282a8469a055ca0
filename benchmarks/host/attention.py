"""What the attention is worth to trained networks: each with and without it, not retrained.

AP and mean OKS of both on the same images, with paired 95 % intervals over images; how far the joints of people whom
the network sees clearly move; and how sharp the attention is: its largest weight beside the mean, 1 / (H * W):

    python -m benchmarks.host.attention -o benchmarks/results/attention.json \\
        --network "rendered people" fp32/final.pt people val --network "photographs" fit/final.pt lspet200 train
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.host.kept_run import kept_run
from calibration.analysis.scoring import Bench, MapRecorder
from calibration.inputs import use_threads
from samkr_edge.builder.check.maps import Maps
from samkr_edge.builder.check.people import clear_people, stay
from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.evaluation.scores import Interval
from samkr_edge.files.artefact import write_json
from samkr_edge.runtime.runner import Runner
from training.checkpoint import load_checkpoint, network_of
from training.torch_runner import TorchRunner
from training.without_attention import without_attention


def main() -> None:
    arguments = parse()
    use_threads(arguments.threads)
    report: dict[str, Any] = kept_run(networks={})
    for label, checkpoint, data, split in arguments.network:
        found = report["networks"][label] = measure(Path(checkpoint), Path(data), split, arguments.limit)
        print(f"{label}: {text(found)}", flush=True)
        write_json(arguments.out, report)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--network", nargs=4, action="append", required=True, metavar=("LABEL", "CHECKPOINT", "DATA", "SPLIT")
    )
    parser.add_argument("--limit", type=int, help="evaluate the first N images of each split [default: all]")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path, required=True)
    return parser.parse_args()


class Beside(Runner):
    """Passes on a runner's maps and compares them with another runner's, image by image."""

    kind = "checkpoint"

    def __init__(self, runner: TorchRunner, whole: TorchRunner) -> None:
        self.card = runner.card
        self.moved: list[np.ndarray] = []
        self.people = self.kept = 0
        self._runner, self._whole = runner, whole

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        maps = self._runner.run(batch)
        people = clear_people(Maps(*self._whole.run(batch)), self.card)
        staying = stay(people, Maps(*maps), self.card)
        self.people, self.kept = self.people + staying.people, self.kept + staying.kept
        self.moved.append(staying.moved)
        return maps

    def close(self) -> None:
        """Nothing to free."""


def measure(checkpoint: Path, data: Path, split: str, limit: int | None) -> dict[str, Any]:
    """One network with and without attention, on the first ``limit`` images of a split."""
    source = load_checkpoint(checkpoint)
    network = network_of(source)
    bench = Bench(open_dataset(data, split), limit)
    peaks: list[float] = []

    def watch(_: torch.nn.Module, __: Any, scores: torch.Tensor) -> None:
        peaks.append(float(scores.flatten(2).softmax(dim=2).max()))

    hook = network.offset_head.attention.pointwise_relu.register_forward_hook(watch)  # type: ignore[union-attr]
    whole = TorchRunner(network, source.card)
    kept = MapRecorder(whole, keep=True)
    before = bench.run(kept)
    hook.remove()
    beside = Beside(TorchRunner(without_attention(network), source.card), whole)
    now = bench.run(MapRecorder(beside, kept.kept))
    moved = np.concatenate(beside.moved)
    places = int(np.prod(source.card.input_size)) // source.card.stride**2
    return {
        "model": source.card.model,
        "input_size": list(source.card.input_size),
        "data": {"name": data.name, "split": split, **bench.facts},
        "ap": before.ap,
        "ap_without": now.ap,
        "oks": before.oks,
        "oks_without": now.oks,
        "difference": bench.compare(before, now).to_dict(),
        "offset_error": now.map_errors["offset"],
        "joints_moved": {
            "people": beside.people,
            "kept": beside.kept,
            "median": float(np.median(moved)),
            "p99": float(np.percentile(moved, 99)),
            "largest": float(moved.max()),
        },
        "attention": {"mean": 1 / places, "largest_median": float(np.median(peaks)), "largest": max(peaks)},
    }


def text(found: dict[str, Any]) -> str:
    ap = Interval(*found["difference"]["ap"])
    moved, peak = found["joints_moved"], found["attention"]
    return (
        f"{found['ap']:.2f} AP with, {found['ap_without']:.2f} without: {ap.text()} on "
        f"{found['data']['images']} images; joints of {moved['people']} people move median {moved['median']:.3f}, 99 % "
        f"{moved['p99']:.3f}, largest {moved['largest']:.2f} px; its weights: mean {peak['mean']:.1e}, largest of an "
        f"image {peak['largest_median']:.1e} in the median, {peak['largest']:.1e} at most"
    )


if __name__ == "__main__":
    main()
