"""The training loop: one for FP32 and for quantization-aware training, in one process or several.

Everything a step depends on is in the checkpoint or drawn from (seed, epoch, index), and the network draws nothing at
random, so a run that was stopped and resumed ends with the same weights as one that was not (steps and epochs; a run
measured in minutes ends when they are over). last.pt is written atomically every ``save_seconds``, best.pt when
validation finds a better AP, final.pt once. Each is a checkpoint like any other:
`samkr-edge eval OUT/last.pt --data DIR` scores a run that is still going on.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import cv2
import torch

from samkr_edge.cli.console import progress, say
from samkr_edge.dataset.decoder_messages import ListeningReader
from samkr_edge.dataset.keypoint_dataset import KeypointDataset
from samkr_edge.dataset.picture_digests import sampled_digest
from samkr_edge.dataset.trained_on import TrainedOn
from samkr_edge.dataset.use import remarks
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import sha256_of
from samkr_edge.machine.cpu import require_cores
from samkr_edge.model_card import ModelCard
from training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.data.augment import AugmentSettings
from training.data.encode import EncodeSettings
from training.data.training_set import TrainingSet
from training.export import weights_digest
from training.loop.allocator import keep_freed_memory
from training.loop.batches import Batches, batches_per_epoch
from training.loop.hooks import TrainingHooks
from training.loop.journal import Journal
from training.loop.norms import settle_norms
from training.loop.precision import allow_tf32
from training.loop.processes import Processes, processes
from training.loop.recipe import Recipe, settings_of, taught
from training.loop.resume import RunState, dump, fingerprint_of, on_cpu, restore
from training.loop.schedule import rate_factor
from training.loop.threads import FastestThreads
from training.loop.update import Updater
from training.loop.validation import Validation
from training.models.pose_net import PoseNet

LAST, BEST, FINAL = "last.pt", "best.pt", "final.pt"


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
        dataset: training split; validation opens another split of its directory.
        out: folder for last.pt, best.pt, final.pt and log.jsonl.
        resume: go on from ``out / last.pt`` where it exists; a finished run is returned as it is.
        hooks: what a fine-tuning adds.

    Raises:
        SamkrError: SE-D37 the loss or its gradient became NaN or infinite, SE-D38 the data's keypoints are not the
            network's, SE-A38 last.pt is of another run; SE-U55, SE-D72, SE-U72, SE-D73, SE-V73, SE-A74 see their
            modules.
        KeyboardInterrupt: after saving.
    """
    _check_keypoints(start, dataset)
    require_cores(recipe.threads or 1)
    with processes() as team:
        return _fit(team, network, start, recipe, dataset, out, resume, hooks or TrainingHooks())


def _fit(
    team: Processes,
    network: PoseNet,
    start: Checkpoint,
    recipe: Recipe,
    dataset: KeypointDataset,
    out: Path,
    resume: bool,
    hooks: TrainingHooks,
) -> Checkpoint:
    torch.manual_seed(recipe.seed)
    most = recipe.threads or max(1, (os.cpu_count() or 1) // team.here)
    torch.set_num_threads(most)
    keep_freed_memory()
    cv2.setNumThreads(1)  # samples are made beside the training step, whose cores OpenCV's threads would take
    torch.backends.cudnn.benchmark = True  # all inputs of a run have one size
    allow_tf32(recipe.precision == "tf32")
    validation = Validation(recipe.validation, dataset) if recipe.validation.wanted else None
    network.train()
    frozen = start.kind == "quantized" or hooks.frozen_norms
    if frozen:
        network.eval()  # folded batch norms and frozen ranges: nothing behaves differently in training
    reader = ListeningReader()
    samples = TrainingSet(
        dataset,
        recipe.data.input_size or start.card.input_size,
        settings_of(EncodeSettings, recipe.data),
        settings_of(AugmentSettings, recipe.data),
        seed=recipe.seed,
        cache_mb=recipe.data.cache_mb,
        read=reader.read,
    )
    updater = Updater(network, recipe, team, hooks)

    state = RunState()
    # The ranges that QAT keeps come from the file that is handed in; a recipe's own start comes from its seed.
    digest = weights_digest(network) if frozen else None
    annotations = sha256_of(dataset.annotation_path)
    fingerprint = fingerprint_of(
        recipe,
        len(samples),
        annotations,
        sampled_digest(dataset.images),
        digest,
        hooks.facts(),
    )
    learned = [image for image in dataset.images if dataset.annotations[image.id]]
    trained_on = TrainedOn.of(dataset, learned, annotations).to_dict() if team.first else {}
    last, best = out / LAST, out / BEST
    if resume and last.exists():
        stopped = load_checkpoint(last)
        state = restore(stopped, fingerprint, network, updater, last)
        start = replace(start, card=stopped.card)  # says what the weights that it began with had learned from
    if team.agree(state.step) != [state.step]:
        raise SamkrError(
            "SE-A74",
            f"the processes do not see the same {last}, so the run was not resumed",
            {"this one": f"step {state.step}"},
            fix="choose an --out on a file system that all machines share",
        )
    steps_per_epoch = batches_per_epoch(samples, recipe.batch_size) / recipe.accumulate
    total_steps = recipe.schedule.steps or math.ceil((recipe.schedule.epochs or 0) * steps_per_epoch)

    def done() -> float:
        return (
            state.minutes / recipe.schedule.minutes if recipe.schedule.minutes else state.step / total_steps
        )

    def save() -> None:
        if team.first:
            unfinished = dump(state, fingerprint, updater)
            weights = on_cpu(network.state_dict())
            save_checkpoint(last, replace(start, card=card(), state=weights, training=unfinished))

    def card(**facts: Any) -> ModelCard:
        """Says how the network came to be what it is so far."""
        facts = {
            "recipe": recipe.name,
            **taught(recipe),
            "precision": updater.precision,
            **trained_on,
            "steps": state.step,
            "images": state.images,
            "minutes": round(state.minutes, 2),
            "seed": recipe.seed,
            **hooks.facts(),
            **facts,
        }
        return start.card.with_provenance(**{"qat" if start.kind == "quantized" else "training": facts})

    def result(**facts: Any) -> Checkpoint:
        """What the run has come to so far, without what only its continuation needs."""
        weights = updater.average.state if updater.average else network.state_dict()
        return replace(start, card=card(**facts), state=on_cpu(weights), training={})

    def validate() -> dict[str, Any]:
        """AP of the averaged weights, printed and logged; saves best.pt where it is the best so far."""
        if validation is None or journal is None:
            return {}
        with updater.average.lent_to(network) if updater.average else nullcontext():
            scores = validation.measure(network, start.card, team.device)
        facts = validation.facts(state, scores)
        if validation.is_best(state, scores):
            save_checkpoint(best, result(validation=facts, chosen="best by validation"))
        say(f"step {state.step}: {validation.label} {scores.ap:.1f} on {validation.where}")
        journal.write(state.step, {"minutes": round(state.minutes, 3), **scores.to_dict()})
        return facts

    if state.step and done() >= 1.0 and (out / FINAL).is_file():
        if team.first:
            say(f"this run is finished, {state.step} steps: nothing to do")
        return load_checkpoint(out / FINAL)
    if team.first:
        _prepare(out)
        if state.step:
            say(f"resuming at step {state.step}, {state.minutes:.1f} minutes in")
        else:
            for line in remarks(dataset):
                say(line)
            if samples.skipped:
                say(f"{samples.skipped} images without people are left out")
    batches = Batches(
        samples,
        recipe.batch_size,
        state.step * recipe.accumulate + team.rank,
        team.count,
        recipe.data.workers,
        pinned=team.device.type == "cuda",
    )
    # A run measured in minutes is never repeated to the bit, so its threads may follow what the machine has to spare.
    free = (
        recipe.threads is None and recipe.schedule.minutes and team.count == 1 and team.device.type == "cpu"
    )
    threads = FastestThreads(most) if free else None
    began, saved, validated = time.monotonic(), time.monotonic(), 0.0
    minutes_before, step_before = state.minutes, state.step
    running: dict[str, float] = {}
    checked: dict[str, Any] = {}
    try:
        with (
            Journal(out, state.step) if team.first else nullcontext() as journal,
            progress("training", 100, unit="%") if team.first else nullcontext(_quiet) as advance,
            _interrupts() as stop,
        ):
            advance(100 * min(done(), 1.0))
            while done() < 1.0:
                before, minutes = done(), state.minutes
                rate = recipe.optimizer.lr * rate_factor(recipe.schedule, before, state.step)
                hooks.before_step(network, before)
                with threads.step() if threads else nullcontext():
                    terms = updater.update(batches, rate, state.step, last)
                state.step += 1
                state.images += recipe.batch_size * recipe.accumulate
                now = time.monotonic()
                # The first process decides how old the run is and whether it stops, since all must do the same.
                state.minutes, stopping = team.agree(
                    minutes_before + (now - began - validated) / 60, float(stop.is_set())
                )
                for name, value in terms.items():
                    running[name] = value if name not in running else 0.95 * running[name] + 0.05 * value
                images = (state.step - step_before) * recipe.batch_size * recipe.accumulate
                speed = images / max(now - began - validated, 1e-9)
                shown = " ".join(f"{name} {value:.5f}" for name, value in running.items())
                advance(100 * (min(done(), 1.0) - before), note=f"{shown}  {speed:.0f} images/s")
                if journal is not None and state.step % recipe.log_steps == 0:
                    entry = {"minutes": round(state.minutes, 3), "lr": rate, **terms}
                    loading = {"loader_images_per_s": round(batches.images_per_second * team.count, 1)}
                    journal.write(state.step, {**entry, "images_per_s": round(speed, 1), **loading})
                if validation is not None and (
                    done() >= 1.0 or validation.due(state, minutes, steps_per_epoch)
                ):
                    checked = validate()
                    validated += time.monotonic() - now
                    saved = -math.inf  # best.pt and what last.pt says about it belong together
                if done() < 1.0 and (stopping or now - saved > recipe.save_seconds):
                    save()
                    saved = now
                if done() < 1.0 and stopping:
                    if team.first:
                        say(f"stopped at step {state.step}; {last} is saved, and --resume goes on from there")
                    raise KeyboardInterrupt
    finally:
        batches.close()
        if (damaged := reader.note()) is not None:
            say(damaged)  # of each process its own
    elapsed = max(time.monotonic() - began - validated, 1e-9)
    trained = (state.step - step_before) * recipe.batch_size * recipe.accumulate
    if team.first:
        peak = torch.cuda.max_memory_allocated(team.device) if team.device.type == "cuda" else 0
        say(
            f"{state.step} steps, {state.images} images; trained in {updater.precision} at "
            f"{trained / elapsed:.1f} images/s, loader alone {batches.images_per_second * team.count:.1f}; "
            f"{100 * batches.waited / elapsed:.0f} % of the time spent waiting for data"
            + (f"; peak GPU memory {peak / 2**30:.1f} GiB" if peak else "")
        )
    settling = recipe.norm_batches > 0 and not frozen
    finished = result(**({"validation": checked} if checked else {}))
    if settling and team.first:
        settled = settle_norms(network, finished.state, samples, recipe.norm_batches, recipe.batch_size)
        if validation is not None:
            # What was validated before had other statistics: its AP is another network's.
            scores = validation.measure(settled, start.card, team.device)
            say(
                f"with batch norm statistics taken anew: {validation.label} {scores.ap:.1f} on {validation.where}"
            )
            finished = result(validation=validation.facts(state, scores))
        finished = replace(finished, state=on_cpu(settled.state_dict()))
    if team.first:
        save_checkpoint(out / FINAL, finished)
    save()  # last: a run that is over according to last.pt has its final.pt
    return finished


def _prepare(out: Path) -> None:
    """Make the folder, without what a run that was killed while saving has left there."""
    out.mkdir(parents=True, exist_ok=True)
    for part in out.glob(".*.part.*"):
        part.unlink(missing_ok=True)


def _quiet(n: float = 1, note: str = "") -> None:
    """A progress bar that is not shown."""


def _check_keypoints(start: Checkpoint, dataset: KeypointDataset) -> None:
    own, found = start.card.skeleton, dataset.skeleton
    if own.keypoints != found.keypoints:
        raise SamkrError(
            "SE-D38",
            f"{start.card.model} and the data have different keypoints, so training did not start",
            {
                "network": f"{own.name}, {len(own)} keypoints: {', '.join(own.keypoints[:3])}, ...",
                "data": f"{found.name}, {len(found)} keypoints: {', '.join(found.keypoints[:3])}, ...",
            },
            fix="use the data that the network was made for, or train a network on this data",
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
