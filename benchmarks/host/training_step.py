"""Where a training step's time goes: loader, forward, backward, update; medians of rounds that take turns.

    python -m benchmarks.host.training_step --data people -o benchmarks/results/training_step.json
    python -m benchmarks.host.training_step --data people --device cuda --recipe samkr_w32_coco --set precision=bf16

The recipe decides network, batch, augmentation, targets and loss. The loader is measured alone, one thread, with its
images in memory: training overlaps it with the rest.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from pathlib import Path
from typing import Any

import cv2
import torch

from benchmarks.host.kept_run import kept_run
from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.files.artefact import write_json
from training.gpu_checks import device_title
from training.loop.batches import training_set
from training.loop.objective import loss_of, loss_settings
from training.loop.precision import allow_tf32, computed, half_type
from training.loop.recipe import Recipe
from training.loop.recipe_file import load_recipe
from training.loop.threads import keep_freed_memory
from training.models.deploy import normalise
from training.models.zoo import build_model, model_config

STAGES = ("loader", "forward", "backward", "update")


class TimedStep:
    """A training step that times each of its stages."""

    def __init__(self, recipe: Recipe, data: Path, device: torch.device) -> None:
        dataset = open_dataset(data, "train")
        config = model_config(recipe.model or "samkr_tiny", len(dataset.skeleton))
        self.recipe, self.device = recipe, device
        self.samples = training_set(recipe, dataset, config.input_size, config.decoding)
        self.network = build_model(config).train().to(device)
        self.loss = loss_of(loss_settings(recipe, config.decoding))
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4, fused=True)
        self.precision = computed(recipe.precision, device)
        self.half = half_type(self.precision)

    def run(self, number: int) -> list[float]:
        """Milliseconds of each stage; reuses the same few images so that all are in memory."""
        marks = [time.perf_counter()]
        items = [
            self.samples.sample(number, index % len(self.samples)) for index in range(self.recipe.batch_size)
        ]
        batch = {name: torch.stack([item[name] for item in items]) for name in items[0]}
        marks.append(time.perf_counter())
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        with torch.autocast(self.device.type, dtype=self.half, enabled=self.half is not None):
            maps = self.network.forward_training(normalise(batch["image"]))
        terms = self.loss({name: found.float() for name, found in maps.items()}, batch)
        marks.append(self._now())
        torch.stack(list(terms.values())).sum().backward()
        marks.append(self._now())
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        marks.append(self._now())
        return [1e3 * (after - before) for before, after in itertools.pairwise(marks)]

    def _now(self) -> float:
        """The time once the device has finished its queued work; copying a batch to it counts as forward."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="samkr_tiny")
    parser.add_argument(
        "--set", nargs="+", default=[], dest="overrides", help="section.key=value of the recipe"
    )
    parser.add_argument("--data", type=Path, required=True, help="a data directory; its train split is used")
    parser.add_argument("--rounds", type=int, default=15, help="measured rounds")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("-o", "--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    keep_freed_memory()
    cv2.setNumThreads(1)
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    allow_tf32(recipe.precision == "tf32")
    torch.backends.cudnn.benchmark = True  # as in training
    device = torch.device(arguments.device)
    step = TimedStep(recipe, arguments.data, device)
    times: dict[int, list[list[float]]] = {threads: [] for threads in arguments.threads}
    for number in range(arguments.rounds + 2):
        for threads, found in times.items():
            torch.set_num_threads(threads)
            stages = step.run(number)
            if number >= 2:  # the first rounds read the images and settle the allocator
                found.append(stages)
    result: dict[str, Any] = {}
    for threads, found in times.items():
        medians = [round(statistics.median(column), 2) for column in zip(*found, strict=True)]
        speed = 1e3 * recipe.batch_size / sum(medians[1:])
        loader = 1e3 * recipe.batch_size / medians[0]
        result[str(threads)] = {
            **{f"{name}_ms": value for name, value in zip(STAGES, medians, strict=True)},
            "step_images_per_s": round(speed, 1),
            "loader_images_per_s": round(loader, 1),
        }
        parts = "  ".join(f"{name} {value:.1f} ms" for name, value in zip(STAGES, medians, strict=True))
        print(f"{threads} threads: {parts}; step {speed:.1f} images/s, loader alone {loader:.1f}")
    if arguments.out:
        write_json(
            arguments.out,
            kept_run(
                device=device_title(arguments.device),
                peak_gpu_mb=round(torch.cuda.max_memory_allocated(device) / 2**20)
                if device.type == "cuda"
                else None,
                precision=step.precision,
                recipe=recipe.name,
                overrides=arguments.overrides,
                batch_size=recipe.batch_size,
                rounds=arguments.rounds,
                threads=result,
            ),
        )


if __name__ == "__main__":
    main()
