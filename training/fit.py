"""The training loop: one for FP32 and for quantization-aware training.

Everything a step depends on is in the checkpoint or drawn from (seed, epoch, index), so a run that was stopped and
resumed ends with the same weights as one that was not (steps and epochs; a run measured in minutes ends when they
are over). last.pt is written atomically every ``save_seconds``, final.pt once.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from samkr_edge.cli.console import progress, say
from samkr_edge.dataset import KeypointDataset
from samkr_edge.errors import SamkrError
from training.allocator import keep_freed_memory
from training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.data.augment import AugmentSettings
from training.data.encode import EncodeSettings
from training.data.training_set import TrainingSet
from training.ema import WeightAverage
from training.losses import LossSettings, PoseLoss
from training.models.deploy import normalise
from training.models.pose_net import PoseNet
from training.recipe import Recipe
from training.schedule import rate_factor

LAST, FINAL, LOG = "last.pt", "final.pt", "log.jsonl"


def fit(
    network: PoseNet,
    start: Checkpoint,
    recipe: Recipe,
    dataset: KeypointDataset,
    out: Path,
    *,
    resume: bool = False,
) -> Checkpoint:
    """Train ``network`` and return the finished checkpoint, also written to ``out / final.pt``.

    Args:
        network: holds the weights to start from; float, or fake-quantized (then ranges and batch norms are frozen).
        start: card, structure and quantization facts that the result inherits.
        recipe: what to do.
        dataset: training split.
        out: folder for last.pt, final.pt and log.jsonl.
        resume: go on from ``out / last.pt`` where it exists.

    Raises:
        SamkrError: SE-D37 the loss became NaN or infinite, SE-A38 last.pt is of another run.
        KeyboardInterrupt: after saving.
    """
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads or os.cpu_count() or 1)
    keep_freed_memory()
    cv2.setNumThreads(1)  # samples are made beside the training step, whose cores OpenCV's threads would take
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device).train()
    if start.kind == "quantized":
        network.eval()  # folded batch norms and frozen ranges: nothing behaves differently in training
    half = _half_precision(recipe, device)
    samples = TrainingSet(
        dataset,
        recipe.data.input_size or start.card.input_size,
        _encode_settings(recipe),
        _augment_settings(recipe),
        seed=recipe.seed,
        cache_mb=recipe.data.cache_mb,
    )
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = _optimizer(recipe, parameters)
    average = WeightAverage(network, recipe.ema) if recipe.ema else None
    loss_of = PoseLoss(LossSettings(recipe.loss.kind, recipe.loss.heatmap_weight, recipe.loss.offset_weight))

    state = _State()
    fingerprint = {
        "recipe": recipe.model_dump(mode="json", exclude={"threads", "save_seconds"}),
        "images": len(samples),
    }
    last = out / LAST
    if resume and last.is_file():
        state.restore(load_checkpoint(last), fingerprint, network, optimizer, average, last)
        say(f"resuming at step {state.step}, {state.minutes:.1f} minutes in")
    steps_per_epoch = max(1, len(samples) // recipe.batch_size)
    total_steps = recipe.schedule.steps or (recipe.schedule.epochs or 0) * steps_per_epoch

    def done() -> float:
        return (
            state.minutes / recipe.schedule.minutes if recipe.schedule.minutes else state.step / total_steps
        )

    def save() -> None:
        checkpoint = replace(
            start, state=_cpu(network.state_dict()), training=state.dump(fingerprint, optimizer, average)
        )
        save_checkpoint(last, checkpoint)

    out.mkdir(parents=True, exist_ok=True)
    batches = _Batches(samples, recipe.batch_size, steps_per_epoch, state.step)
    began, saved = time.monotonic(), time.monotonic()
    minutes_before, step_before = state.minutes, state.step
    running: dict[str, float] = {}
    if not step_before and samples.skipped:
        say(f"{samples.skipped} images without people are left out")
    try:
        with open(out / LOG, "a", encoding="utf-8") as log, progress("training", 100, unit="%") as advance:
            advance(100 * min(done(), 1.0))
            while done() < 1.0:
                before = done()
                rate = recipe.optimizer.lr * rate_factor(recipe.schedule, before, state.step)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                terms: dict[str, float] = {}
                for _ in range(recipe.accumulate):
                    batch = {key: value.to(device) for key, value in batches.next().items()}
                    for name, value in _backward(
                        network, loss_of, batch, half, recipe.accumulate, state, last
                    ).items():
                        terms[name] = terms.get(name, 0.0) + value
                if recipe.optimizer.clip_norm:
                    nn.utils.clip_grad_norm_(parameters, recipe.optimizer.clip_norm)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if average:
                    average.update(network)
                state.step += 1
                state.images += recipe.batch_size * recipe.accumulate
                now = time.monotonic()
                state.minutes = minutes_before + (now - began) / 60
                for name, value in terms.items():
                    running[name] = value if name not in running else 0.95 * running[name] + 0.05 * value
                speed = (
                    (state.step - step_before)
                    * recipe.batch_size
                    * recipe.accumulate
                    / max(now - began, 1e-9)
                )
                shown = " ".join(f"{name} {value:.5f}" for name, value in running.items())
                advance(100 * (min(done(), 1.0) - before), note=f"{shown}  {speed:.0f} images/s")
                if state.step % 20 == 0:
                    entry = {"step": state.step, "minutes": round(state.minutes, 3), "lr": rate, **terms}
                    log.write(json.dumps({**entry, "images_per_s": round(speed, 1)}) + "\n")
                if now - saved > recipe.save_seconds:
                    save()
                    log.flush()
                    saved = now
    except KeyboardInterrupt:
        save()
        say(f"stopped at step {state.step}; {last} is saved, and --resume goes on from there")
        raise
    finally:
        batches.close()
    save()
    elapsed = max(time.monotonic() - began, 1e-9)
    if state.step > step_before:
        worked = (state.step - step_before) * recipe.batch_size * recipe.accumulate / elapsed
        say(
            f"{state.step} steps, {state.images} images; {worked:.1f} images/s; waited {batches.waited:.1f} s for data"
        )
    card = start.card.with_provenance(
        recipe=recipe.name,
        steps=state.step,
        images=state.images,
        minutes=round(state.minutes, 2),
        seed=recipe.seed,
    )
    weights = average.state if average else network.state_dict()
    finished = replace(start, card=card, state=_cpu(weights), training={})
    save_checkpoint(out / FINAL, finished)
    return finished


def _backward(
    network: PoseNet,
    loss_of: PoseLoss,
    batch: dict[str, Tensor],
    half: torch.dtype | None,
    accumulate: int,
    state: _State,
    last: Path,
) -> dict[str, float]:
    """Forward and backward of one batch; returns the loss terms."""
    image = normalise(batch["image"])  # (N, 3, H, W)
    with torch.autocast(image.device.type, dtype=half, enabled=half is not None):
        heatmap, offset, scale = network.forward_training(image)
    terms = loss_of(heatmap.float(), offset.float(), None if scale is None else scale.float(), batch)
    loss = torch.stack(list(terms.values())).sum() / accumulate
    if not math.isfinite(loss.item()):
        raise SamkrError(
            "SE-D37",
            f"the loss is {loss.item()} at step {state.step}, so training stopped",
            [
                f"images     {', '.join(str(int(i)) for i in batch['image_id'])}",
                f"last good  {last if last.is_file() else 'none yet'}",
            ],
            fix="lower the rate: --set optimizer.lr=... , and look at these images with `samkr-edge data check`",
        )
    loss.backward()
    return {name: value.item() / accumulate for name, value in terms.items()}


class _State:
    """Where a run is."""

    def __init__(self) -> None:
        self.step = 0
        self.images = 0
        self.minutes = 0.0

    def dump(
        self, fingerprint: dict[str, Any], optimizer: torch.optim.Optimizer, average: WeightAverage | None
    ) -> dict[str, Any]:
        return {
            "step": self.step,
            "images": self.images,
            "minutes": self.minutes,
            "fingerprint": json.dumps(fingerprint, sort_keys=True),
            "optimizer": optimizer.state_dict(),
            "average": _cpu(average.state) if average else {},
            "average_updates": average.updates if average else 0,
        }

    def restore(
        self,
        checkpoint: Checkpoint,
        fingerprint: dict[str, Any],
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: WeightAverage | None,
        path: Path,
    ) -> None:
        saved = checkpoint.training
        if saved.get("fingerprint") != json.dumps(fingerprint, sort_keys=True):
            raise SamkrError(
                "SE-A38",
                f"{path} belongs to a run with another recipe or data set, so it was not resumed",
                fix="use another --out, or the settings of that run",
            )
        self.step, self.images, self.minutes = saved["step"], saved["images"], saved["minutes"]
        network.load_state_dict(checkpoint.state)
        optimizer.load_state_dict(saved["optimizer"])
        if average:
            average.updates = saved["average_updates"]
            for name, tensor in saved["average"].items():
                average.state[name].copy_(tensor)


class _Batches:
    """Batches in the order of the seed, made by one thread ahead of the step that uses them.

    OpenCV and NumPy release the interpreter lock, and a rendered or cached image costs far less than a training step:
    one thread is enough on a CPU, starts at once, and dies with the process.
    """

    def __init__(self, samples: TrainingSet, batch_size: int, steps_per_epoch: int, first_step: int) -> None:
        self.waited = 0.0
        self._queue: Queue[dict[str, Tensor] | BaseException] = Queue(maxsize=4)
        self._stop = Event()
        source = self._generate(samples, batch_size, steps_per_epoch, first_step)
        self._thread = Thread(target=self._work, args=(source,), daemon=True)
        self._thread.start()

    @staticmethod
    def _generate(samples: TrainingSet, size: int, per_epoch: int, first: int) -> Iterator[dict[str, Tensor]]:
        batch_number = first
        while True:
            epoch, position = divmod(batch_number, per_epoch)
            order = samples.order(epoch)
            # A data set smaller than one batch is repeated within it.
            chosen = [int(order[i % len(order)]) for i in range(position * size, (position + 1) * size)]
            items = [samples.sample(epoch, index) for index in chosen]
            # NumPy stacks, not torch: a torch operation in this thread would start a second team of OpenMP threads,
            # which spins on the cores that the training step needs.
            yield {key: torch.from_numpy(np.stack([item[key] for item in items])) for key in items[0]}
            batch_number += 1

    def _work(self, source: Iterator[dict[str, Tensor]]) -> None:
        try:
            for batch in source:
                self._queue.put(batch)
                if self._stop.is_set():
                    return
        except BaseException as error:
            self._queue.put(error)

    def next(self) -> dict[str, Tensor]:
        started = time.monotonic()
        item = self._queue.get()
        self.waited += time.monotonic() - started
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        self._stop.set()
        while not self._queue.empty():
            self._queue.get_nowait()


def _half_precision(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """bfloat16 where the hardware multiplies it: GPUs, and CPUs with avx512_bf16 or AMX."""
    if recipe.precision == "fp32":
        return None
    if recipe.precision == "bf16" or device.type == "cuda":
        return torch.bfloat16
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return None
    return torch.bfloat16 if "avx512_bf16" in flags or "amx_bf16" in flags else None


def _optimizer(recipe: Recipe, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    settings = recipe.optimizer
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(
        parameters, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
    )


def _encode_settings(recipe: Recipe) -> EncodeSettings:
    data = recipe.data
    return EncodeSettings(
        data.sigma, data.center_sigma, data.offset_radius, data.background_weight, data.parity
    )


def _augment_settings(recipe: Recipe) -> AugmentSettings:
    data = recipe.data
    return AugmentSettings(data.rotation, data.scale, data.translation, data.flip, data.jitter)


def _cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
