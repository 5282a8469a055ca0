"""The training loop: one for FP32 and for quantization-aware training, in one process or several.

Read it from the top: ``fit`` is a whole run, ``_train`` its loop. A step draws a batch, changes the weights
(``training.loop.update``) and now and then validates or saves.

All that a step depends on is in the checkpoint or drawn from (seed, epoch, index), and the network draws nothing at
random, so a run that was stopped and resumed ends with the same weights as one that was not. (That holds for a length
in steps or epochs; a run measured in minutes ends by the clock.)
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import cv2
import torch

from samkr_edge.dataset.decoder_messages import ListeningReader
from samkr_edge.dataset.keypoint_dataset import KeypointDataset
from samkr_edge.dataset.usable import remarks
from samkr_edge.machine.cpu import require_cores
from samkr_edge.terminal import say
from training.checkpoint import Checkpoint, load_checkpoint
from training.loop.batches import Batches, training_set
from training.loop.clock import Clock
from training.loop.hooks import TrainingHooks
from training.loop.interrupts import interrupts
from training.loop.norms import settle_norms
from training.loop.precision import allow_tf32
from training.loop.processes import Processes, processes
from training.loop.recipe import Recipe
from training.loop.report import Report, reported
from training.loop.run import FINAL, LAST, Run
from training.loop.schedule import rate_factor
from training.loop.threads import FastestThreads, keep_freed_memory
from training.loop.validation import Validation
from training.models.pose_net import PoseNet


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
        resume: continue from ``out / last.pt`` if it exists; a finished run is returned as it is.
        hooks: what a fine-tuning adds.

    Raises:
        SamkrError: SE-D37 the loss or its gradient became NaN or infinite, SE-D26 the data's keypoints are not the
            network's, SE-A38 last.pt is of another run; SE-U55, SE-D72, SE-U72, SE-D73, SE-V73, SE-A74 see their
            modules.
        KeyboardInterrupt: after saving.
    """
    start.card.skeleton.require_same(dataset.skeleton, "network", "data")
    require_cores(recipe.threads or 1)
    with processes() as team:
        _set_up_torch(recipe, team)
        validation = Validation(recipe.validation, dataset) if recipe.validation.wanted else None
        reader = ListeningReader()
        samples = training_set(
            recipe, dataset, start.card.input_size, network.config.decoding, read=reader.read
        )
        run = Run(network, start, recipe, samples, out, team, hooks or TrainingHooks())
        if resume:
            run.resume()
        if run.state.step and run.is_over and (out / FINAL).is_file():
            if team.first:
                say(f"this run is finished, {run.state.step} steps: nothing to do")
            return load_checkpoint(out / FINAL)
        if team.first:
            _prepare(out)
            _announce(run)
        _train(run, validation, reader)
        finished = _finish(run, validation)
        run.save_final(finished)
        return finished


def _train(run: Run, validation: Validation | None, reader: ListeningReader) -> None:
    """Run the remaining steps."""
    recipe, state, team = run.recipe, run.state, run.team
    batches = Batches(
        run.samples,
        recipe.batch_size,
        state.step * recipe.accumulate + team.rank,
        team.count,
        recipe.data.workers,
        pinned=team.device.type == "cuda",
    )
    computing = _threads(run)
    clock = Clock(state.minutes)
    saved = time.monotonic()
    try:
        with reported(run, batches, clock) as report, interrupts() as asked:
            while not run.is_over:
                done, minutes = run.done, state.minutes
                rate = recipe.optimizer.lr * rate_factor(recipe.schedule, done, state.step)
                run.hooks.before_step(run.network, done)
                with computing():
                    terms = run.updater.update(batches, rate, state.step, run.out / LAST)
                state.step += 1
                state.images += recipe.batch_size * recipe.accumulate
                # The first process decides how old the run is and whether it stops, since all must do the same.
                state.minutes, stopping = team.agree(clock.minutes, float(asked.is_set()))
                report.step(terms, rate)
                if validation and (run.is_over or validation.due(state, minutes, run.steps_per_epoch)):
                    with clock.paused():
                        _validate(run, validation, report)
                    saved = -math.inf  # best.pt and what last.pt says about it belong together
                if run.is_over:
                    break
                if stopping or time.monotonic() - saved > recipe.save_seconds:
                    saved = time.monotonic()
                    run.save_last()
                if stopping:
                    if team.first:
                        last = run.out / LAST
                        say(f"stopped at step {state.step}; {last} is saved, and --resume goes on from there")
                    raise KeyboardInterrupt
    finally:
        batches.close()
        if (damaged := reader.note()) is not None:
            say(damaged)  # each process has its own
    report.summary()


def _validate(run: Run, validation: Validation, report: Report) -> None:
    """AP of the weights kept so far, which become best.pt if it is the run's best."""
    if not run.team.first:
        return
    average = run.updater.average
    with average.lent_to(run.network) if average else nullcontext():
        scores = validation.measure(run.network, run.card, run.team.device)
    run.validated = validation.facts(run.state, scores)
    if validation.is_best(run.state, scores):
        run.save_best(run.validated)
    report.validated(scores, validation.label, validation.where)


def _finish(run: Run, validation: Validation | None) -> Checkpoint:
    """The finished network, its batch norm statistics re-estimated where the recipe wants that."""
    finished = run.result(**({"validation": run.validated} if run.validated else {}))
    batches = run.recipe.norm_batches
    if not batches or run.frozen or not run.team.first:
        return finished
    settled = settle_norms(run.network, finished.state, run.samples, batches, run.recipe.batch_size)
    if validation is None:
        return run.result(settled.state_dict())
    # Earlier validations ran with other statistics: their AP is another network's.
    scores = validation.measure(settled, run.card, run.team.device)
    say(f"with batch norm statistics re-estimated: {validation.label} {scores.ap:.1f} on {validation.where}")
    return run.result(settled.state_dict(), validation=validation.facts(run.state, scores))


def _set_up_torch(recipe: Recipe, team: Processes) -> None:
    """Seed, threads and arithmetic of this process."""
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads or max(1, (os.cpu_count() or 1) // team.here))
    keep_freed_memory()
    cv2.setNumThreads(1)  # samples are made during the training step, whose cores OpenCV's threads would take
    torch.backends.cudnn.benchmark = True  # all inputs of a run have one size
    allow_tf32(recipe.precision == "tf32")


def _threads(run: Run) -> Callable[[], AbstractContextManager[None]]:
    """A context for each step: as many threads as the machine can spare, or a fixed number.

    A run measured in minutes cannot be repeated bit for bit anyway, so its threads may change.
    """
    recipe, team = run.recipe, run.team
    if recipe.threads is None and recipe.schedule.minutes and team.count == 1 and team.device.type == "cpu":
        return FastestThreads(torch.get_num_threads()).step
    return nullcontext


def _prepare(out: Path) -> None:
    """Make the folder, and remove what a run killed while saving left in it."""
    out.mkdir(parents=True, exist_ok=True)
    for part in out.glob(".*.part.*"):
        part.unlink(missing_ok=True)


def _announce(run: Run) -> None:
    """Say what is unusual about the data, or where the run resumes."""
    if run.state.step:
        say(f"resuming at step {run.state.step}, {run.state.minutes:.1f} minutes in")
        return
    for line in remarks(run.samples.dataset):
        say(line)
    if run.samples.skipped:
        say(f"{run.samples.skipped} images without people are skipped")
