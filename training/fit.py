"""The training loop: one for FP32 and for quantization-aware training.

Everything a step depends on is in the checkpoint or drawn from (seed, epoch, index), and the network draws nothing at
random, so a run that was stopped and resumed ends with the same weights as one that was not (steps and epochs; a run
measured in minutes ends when they are over). last.pt is written atomically every ``save_seconds``, final.pt once.
last.pt is a checkpoint like any other: `samkr-edge eval OUT/last.pt` scores a run that is still going on.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, Queue
from types import FrameType
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from samkr_edge.artefact import replacing, sha256_of
from samkr_edge.cli.console import progress, say
from samkr_edge.dataset import KeypointDataset
from samkr_edge.errors import SamkrError
from training.allocator import keep_freed_memory
from training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.data.augment import AugmentSettings
from training.data.encode import EncodeSettings
from training.data.training_set import TrainingSet
from training.ema import WeightAverage
from training.export import weights_digest
from training.hooks import TrainingHooks
from training.losses import LossSettings, PoseLoss
from training.models.deploy import normalise
from training.models.pose_net import PoseNet
from training.recipe import Recipe
from training.schedule import rate_factor

LAST, FINAL, LOG = "last.pt", "final.pt", "log.jsonl"

# Settings that may change between a run and its continuation: the result does not depend on them.
_WITHOUT_EFFECT: dict[str, Any] = {"threads": True, "save_seconds": True, "data": {"workers", "cache_mb"}}


def fit(
    network: PoseNet,
    start: Checkpoint,
    recipe: Recipe,
    dataset: KeypointDataset,
    out: Path,
    *,
    resume: bool = False,
    hooks: TrainingHooks | None = None,
) -> Checkpoint:
    """Train ``network`` and return the finished checkpoint, also written to ``out / final.pt``.

    Args:
        network: holds the weights to start from; float, or fake-quantized (then ranges and batch norms are frozen).
        start: card, structure and quantization facts that the result inherits.
        recipe: what to do.
        dataset: training split.
        out: folder for last.pt, final.pt and log.jsonl.
        resume: go on from ``out / last.pt`` where it exists; a finished run is returned as it is.
        hooks: what a fine-tuning adds.

    Raises:
        SamkrError: SE-D37 the loss or its gradient became NaN or infinite, SE-D38 the data's keypoints are not the
            network's, SE-A38 last.pt is of another run.
        KeyboardInterrupt: after saving.
    """
    _check_keypoints(start, dataset)
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads or os.cpu_count() or 1)
    keep_freed_memory()
    cv2.setNumThreads(1)  # samples are made beside the training step, whose cores OpenCV's threads would take
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.to(device).train()
    hooks = hooks or TrainingHooks()
    if start.kind == "quantized" or hooks.frozen_norms:
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
        "recipe": recipe.model_dump(mode="json", exclude=_WITHOUT_EFFECT),
        "images": len(samples),
        "annotations": sha256_of(dataset.annotation_path),
        # The ranges that QAT keeps come from the file that is handed in; a recipe's own start comes from its seed.
        "start": weights_digest(network) if start.kind == "quantized" or hooks.frozen_norms else None,
        "hooks": hooks.facts(),
    }
    last = out / LAST
    if resume and last.is_file():
        state.restore(load_checkpoint(last), fingerprint, network, optimizer, average, last)
    batches_per_epoch = max(1, len(samples) // recipe.batch_size)
    total_steps = recipe.schedule.steps or math.ceil(
        (recipe.schedule.epochs or 0) * batches_per_epoch / recipe.accumulate
    )

    def done() -> float:
        return (
            state.minutes / recipe.schedule.minutes if recipe.schedule.minutes else state.step / total_steps
        )

    def save() -> None:
        checkpoint = replace(
            start, state=_cpu(network.state_dict()), training=state.dump(fingerprint, optimizer, average)
        )
        save_checkpoint(last, checkpoint)

    if state.step and done() >= 1.0 and (out / FINAL).is_file():
        say(f"this run is finished, {state.step} steps: nothing to do")
        return load_checkpoint(out / FINAL)
    if state.step:
        say(f"resuming at step {state.step}, {state.minutes:.1f} minutes in")
    out.mkdir(parents=True, exist_ok=True)
    _forget_after(out / LOG, state.step)
    batches = _Batches(
        samples, recipe.batch_size, batches_per_epoch, state.step * recipe.accumulate, recipe.data.workers
    )
    began, saved = time.monotonic(), time.monotonic()
    minutes_before, step_before = state.minutes, state.step
    running: dict[str, float] = {}
    if not step_before and samples.skipped:
        say(f"{samples.skipped} images without people are left out")
    try:
        with (
            open(out / LOG, "a", encoding="utf-8") as log,
            progress("training", 100, unit="%") as advance,
            _interrupts() as stop,
        ):
            advance(100 * min(done(), 1.0))
            while done() < 1.0:
                if stop.is_set():
                    save()
                    say(f"stopped at step {state.step}; {last} is saved, and --resume goes on from there")
                    raise KeyboardInterrupt
                before = done()
                hooks.before_step(network, before)
                rate = recipe.optimizer.lr * rate_factor(recipe.schedule, before, state.step)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                terms: dict[str, float] = {}
                for _ in range(recipe.accumulate):
                    batch = {key: value.to(device) for key, value in batches.next().items()}
                    for name, value in _backward(
                        network, loss_of, hooks, batch, half, recipe.accumulate, state, last
                    ).items():
                        terms[name] = terms.get(name, 0.0) + value
                norm = nn.utils.clip_grad_norm_(parameters, recipe.optimizer.clip_norm or math.inf)
                # Looked at before the step: a broken weight must never reach last.pt.
                if not math.isfinite(norm.item()):
                    raise _not_finite("the gradient's norm", norm.item(), state, batch, last)
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
    finally:
        batches.close()
    elapsed = max(time.monotonic() - began, 1e-9)
    worked = (state.step - step_before) * recipe.batch_size * recipe.accumulate / elapsed
    say(
        f"{state.step} steps, {state.images} images; {worked:.1f} images/s; "
        f"{100 * batches.waited / elapsed:.0f} % of the time spent waiting for data"
    )
    facts = {
        "recipe": recipe.name,
        "annotations_sha256": fingerprint["annotations"],
        "steps": state.step,
        "images": state.images,
        "minutes": round(state.minutes, 2),
        "seed": recipe.seed,
        **hooks.facts(),
    }
    card = start.card.with_provenance(**{"qat" if start.kind == "quantized" else "training": facts})
    weights = average.state if average else network.state_dict()
    finished = replace(start, card=card, state=_cpu(weights), training={})
    save_checkpoint(out / FINAL, finished)
    save()  # last: a run that is over according to last.pt has its final.pt
    return finished


def _check_keypoints(start: Checkpoint, dataset: KeypointDataset) -> None:
    own, found = start.card.skeleton, dataset.skeleton
    if own.keypoints != found.keypoints:
        raise SamkrError(
            "SE-D38",
            f"{start.card.model} and the data have different keypoints, so training did not start",
            [
                f"network    {own.name}, {len(own)} keypoints: {', '.join(own.keypoints[:3])}, ...",
                f"data       {found.name}, {len(found)} keypoints: {', '.join(found.keypoints[:3])}, ...",
            ],
            fix="use the data that the network was made for, or train a network on this data",
        )


def _backward(
    network: PoseNet,
    loss_of: PoseLoss,
    hooks: TrainingHooks,
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
    heatmap, offset = heatmap.float(), offset.float()
    terms = loss_of(heatmap, offset, None if scale is None else scale.float(), batch)
    terms |= hooks.terms(image, heatmap, offset, batch)
    loss = torch.stack(list(terms.values())).sum() / accumulate
    if not math.isfinite(loss.item()):
        raise _not_finite("the loss", loss.item(), state, batch, last)
    loss.backward()
    return {name: value.item() / accumulate for name, value in terms.items()}


def _not_finite(what: str, value: float, state: _State, batch: dict[str, Tensor], last: Path) -> SamkrError:
    return SamkrError(
        "SE-D37",
        f"{what} is {value} at step {state.step}, so training stopped",
        [
            f"images     {', '.join(str(int(i)) for i in batch['image_id'])}",
            f"last good  {last if last.is_file() else 'none yet'}",
        ],
        fix="lower the rate: --set optimizer.lr=... , and look at these images with `samkr-edge data check`",
    )


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Ctrl-C sets the event, so that a step is never cut in two; a second Ctrl-C stops at once, without saving."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(_signal: int, _frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _forget_after(log: Path, step: int) -> None:
    """Drop what the log says about steps that are now repeated."""
    if not log.is_file():
        return
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("}\n") and json.loads(line)["step"] <= step]
    with replacing(log) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


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
        other = _flat(json.loads(saved.get("fingerprint", "{}")))
        ours = _flat(json.loads(json.dumps(fingerprint)))
        differing = [key for key in {**other, **ours} if other.get(key) != ours.get(key)]
        if differing:
            raise SamkrError(
                "SE-A38",
                f"{path} belongs to a run with other settings or data, so it was not resumed",
                [
                    f"{key.removeprefix('recipe.'):<24} was {_short(other.get(key))}, now {_short(ours.get(key))}"
                    for key in differing[:4]
                ],
                fix="use another --out, or the settings of that run",
            )
        self.step, self.images, self.minutes = saved["step"], saved["images"], saved["minutes"]
        network.load_state_dict(checkpoint.state)
        optimizer.load_state_dict(saved["optimizer"])
        if average:
            average.updates = saved["average_updates"]
            for name, tensor in saved["average"].items():
                average.state[name].copy_(tensor)


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "..."


class _Batches:
    """Batches in the order of the seed, made by threads ahead of the step that uses them.

    OpenCV and NumPy release the interpreter lock, and a rendered or cached image costs far less than a training step
    on a CPU: threads are enough, share the cache of images, start at once, and die with the process.
    """

    def __init__(
        self, samples: TrainingSet, batch_size: int, per_epoch: int, first: int, workers: int
    ) -> None:
        self.waited = 0.0
        self._samples, self._size, self._per_epoch = samples, batch_size, per_epoch
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None
        self._queue: Queue[dict[str, Tensor] | BaseException] = Queue(maxsize=4)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(first,), daemon=True)
        self._thread.start()

    def _batch(self, number: int) -> dict[str, Tensor]:
        epoch, position = divmod(number, self._per_epoch)
        order = self._samples.order(epoch)
        # A data set smaller than one batch is repeated within it.
        first = position * self._size
        chosen = [int(order[i % len(order)]) for i in range(first, first + self._size)]
        each = map if self._pool is None else self._pool.map
        items = list(each(lambda index: self._samples.sample(epoch, index), chosen))
        # NumPy stacks, not torch: a torch operation in this thread would start a second team of OpenMP threads,
        # which spins on the cores that the training step needs.
        return {key: torch.from_numpy(np.stack([item[key] for item in items])) for key in items[0]}

    def _work(self, first: int) -> None:
        try:
            for number in itertools.count(first):
                self._queue.put(self._batch(number))
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
        """Stop the threads; the batch being made is finished first."""
        self._stop.set()
        while self._thread.is_alive():
            with suppress(Empty):
                self._queue.get(timeout=0.05)
        if self._pool is not None:
            self._pool.shutdown()


def _half_precision(recipe: Recipe, device: torch.device) -> torch.dtype | None:
    """bfloat16 where the hardware multiplies it: GPUs, and CPUs with avx512_bf16 or AMX."""
    if recipe.precision == "fp32":
        return None
    if recipe.precision == "bf16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
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
