"""What a run says while it trains: the bar on the terminal, the lines of its log, and a summary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from samkr_edge.evaluation.scores import Scores
from samkr_edge.printable import counted
from samkr_edge.progress import Advance, progress
from samkr_edge.terminal import say
from training.loop.batches import Batches
from training.loop.clock import Clock
from training.loop.journal import Journal
from training.loop.run import Run


class Report:
    """Follows a run step by step.

    Args:
        run: read only.
        batches: says how fast the loader is.
        clock: says how long the run has trained.
        journal: None in every process but the first, which alone speaks.
        advance: moves the bar.
    """

    def __init__(
        self, run: Run, batches: Batches, clock: Clock, journal: Journal | None, advance: Advance
    ) -> None:
        self._run, self._batches, self._clock = run, batches, clock
        self._journal, self._advance = journal, advance
        self._images_before = run.state.images
        self._shown = 0.0
        self._running: dict[str, float] = {}
        self._move("")

    def step(self, terms: dict[str, float], rate: float) -> None:
        """The step that just ended had these loss terms and this learning rate."""
        for name, value in terms.items():
            self._running[name] = 0.95 * self._running.get(name, value) + 0.05 * value
        losses = ", ".join(f"{name} {value:.4f}" for name, value in self._running.items())
        self._move(f"{losses}, {self._images_per_second():.1f} images/s")
        state = self._run.state
        if self._journal is not None and state.step % self._run.recipe.log_steps == 0:
            self._journal.write(
                state.step,
                {
                    "minutes": round(state.minutes, 3),
                    "lr": rate,
                    **terms,
                    "images_per_s": round(self._images_per_second(), 1),
                    "loader_images_per_s": round(self._loader_images_per_second(), 1),
                },
            )

    def validated(self, scores: Scores, label: str, where: str) -> None:
        """The network has this AP now."""
        state = self._run.state
        say(f"step {state.step}: {label} {scores.ap:.1f} on {where}")
        if self._journal is not None:
            self._journal.write(state.step, {"minutes": round(state.minutes, 3), **scores.to_dict()})

    def summary(self) -> None:
        """How fast it was, and what it waited for."""
        run, device = self._run, self._run.team.device
        if not run.team.first:
            return
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
        say(
            f"{counted(run.state.step, 'step')}, {counted(run.state.images, 'image')}; "
            f"trained in {run.updater.precision} at "
            f"{self._images_per_second():.1f} images/s, loader alone {self._loader_images_per_second():.1f}; "
            f"{100 * self._batches.waited / self._clock.seconds:.0f} % of the time spent waiting for data"
            + (f"; peak GPU memory {peak / 2**30:.1f} GiB" if peak else "")
        )

    def _move(self, note: str) -> None:
        """Move the bar to what is done now."""
        percent = 100 * min(self._run.done, 1.0)
        self._advance(percent - self._shown, note=note)
        self._shown = percent

    def _images_per_second(self) -> float:
        return (self._run.state.images - self._images_before) / self._clock.seconds

    def _loader_images_per_second(self) -> float:
        """Of all processes, if the loader never had to wait for a step."""
        return self._batches.images_per_second * self._run.team.count


@contextmanager
def reported(run: Run, batches: Batches, clock: Clock) -> Iterator[Report]:
    """The report of a run that begins or resumes now.

    Raises:
        SamkrError: SE-D72 the log cannot be written.
    """
    if not run.team.first:
        yield Report(run, batches, clock, None, _quiet)
        return
    with Journal(run.out, run.state.step) as journal, progress("training", 100, unit="%") as advance:
        yield Report(run, batches, clock, journal, advance)


def _quiet(n: float = 1, note: str = "") -> None:
    """A bar that is not shown."""
