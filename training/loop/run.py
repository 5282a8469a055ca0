"""One run of training: the network it changes, how far it is, and the checkpoints it leaves.

last.pt is written every ``save_seconds`` and holds what a continuation needs, best.pt when validation finds a better
AP, final.pt once. Each is a checkpoint like any other, and written whole or not at all:
`samkr-edge eval OUT/last.pt --data DIR` scores a run that is still going on.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from samkr_edge.dataset.picture_digests import sampled_digest
from samkr_edge.dataset.trained_on import TrainedOn
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import sha256_of
from samkr_edge.model_card import ModelCard
from training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.data.training_set import TrainingSet
from training.export import weights_digest
from training.loop.batches import batches_per_epoch
from training.loop.hooks import TrainingHooks
from training.loop.objective import taught
from training.loop.processes import Processes
from training.loop.recipe import Recipe
from training.loop.resume import RunState, dump, fingerprint_of, on_cpu, restore
from training.loop.update import Updater
from training.models.pose_net import PoseNet

LAST, BEST, FINAL = "last.pt", "best.pt", "final.pt"


class Run:
    """One run, at its beginning.

    Args:
        network: holds the weights to start from; float, or fake-quantized. It is moved to the device.
        start: card, structure and quantization facts that the checkpoints inherit.
        recipe: what to do.
        samples: the training set.
        out: folder of the checkpoints.
        team: the processes that train together; the first alone writes.
        hooks: what a fine-tuning adds.

    Attributes:
        updater: changes the weights.
        state: how far the run is.
        frozen: whether batch norms and ranges stay as they are.
        steps_per_epoch: updates; may be fractional.
        validated: what the last validation found, for the card; empty without one.
    """

    def __init__(
        self,
        network: PoseNet,
        start: Checkpoint,
        recipe: Recipe,
        samples: TrainingSet,
        out: Path,
        team: Processes,
        hooks: TrainingHooks,
    ) -> None:
        self.network, self.recipe, self.samples = network, recipe, samples
        self.out, self.team, self.hooks = out, team, hooks
        self.frozen = start.kind == "quantized" or hooks.frozen_norms
        network.train(not self.frozen)
        self.updater = Updater(network, recipe, team, hooks)
        self.state = RunState()
        self.validated: dict[str, Any] = {}
        self.steps_per_epoch = batches_per_epoch(samples, recipe.batch_size) / recipe.accumulate
        dataset = samples.dataset
        annotations = sha256_of(dataset.annotation_path)
        learned = [image for image in dataset.images if dataset.annotations[image.id]]
        self._trained_on = TrainedOn.of(dataset, learned, annotations).to_dict() if team.first else {}
        self._fingerprint = fingerprint_of(
            recipe,
            len(samples),
            annotations,
            sampled_digest(dataset.images),
            # QAT's frozen ranges come from the given file. In other runs the recipe's seed or `init` decides the start.
            weights_digest(network) if self.frozen else None,
            hooks.facts(),
        )
        self._start = start

    @property
    def card(self) -> ModelCard:
        """The card that the run began with."""
        return self._start.card

    @property
    def done(self) -> float:
        """Share of the run that is done, of its steps or of its minutes; 1 and more at its end."""
        schedule = self.recipe.schedule
        if schedule.minutes:
            return self.state.minutes / schedule.minutes
        return self.state.step / (schedule.steps or math.ceil((schedule.epochs or 0) * self.steps_per_epoch))

    @property
    def is_over(self) -> bool:
        return self.done >= 1.0

    def resume(self) -> None:
        """Continue from last.pt, if there is one.

        Raises:
            SamkrError: SE-A38 it belongs to another run, SE-A74 not every process sees it.
        """
        last = self.out / LAST
        if last.exists():
            stopped = load_checkpoint(last)
            self.state = restore(stopped, self._fingerprint, self.network, self.updater, last)
            # Its card says what the run's first weights had learned from.
            self._start = replace(self._start, card=stopped.card)
        if self.team.agree(self.state.step) != [self.state.step]:
            raise SamkrError(
                "SE-A74",
                f"the processes do not see the same {last}, so the run was not resumed",
                {"this one": f"step {self.state.step}"},
                fix="choose an --out on a file system that all machines share",
            )

    def save_last(self) -> None:
        """Write last.pt: the weights as they are, and all that the continuation needs to end with the same bits."""
        if self.team.first:
            saved = replace(
                self._start,
                card=self._card_of_now(),
                state=on_cpu(self.network.state_dict()),
                training=dump(self.state, self._fingerprint, self.updater),
            )
            save_checkpoint(self.out / LAST, saved)

    def save_best(self, facts: dict[str, Any]) -> None:
        """Write best.pt: the weights that this validation measured."""
        save_checkpoint(self.out / BEST, self.result(validation=facts, chosen="best by validation"))

    def save_final(self, finished: Checkpoint) -> None:
        """Write final.pt, then last.pt: a run that last.pt calls finished has its final.pt."""
        if self.team.first:
            save_checkpoint(self.out / FINAL, finished)
        self.save_last()

    def result(self, state: dict[str, Tensor] | None = None, **facts: Any) -> Checkpoint:
        """The checkpoint of now, without what only a continuation needs.

        Args:
            state: weights of any shape, by name; None: those that the recipe keeps, their average or the last ones.
            facts: more of what the card says about the training.
        """
        if state is None:
            average = self.updater.average
            state = average.state if average else self.network.state_dict()
        return replace(self._start, card=self._card_of_now(**facts), state=on_cpu(state), training={})

    def _card_of_now(self, **facts: Any) -> ModelCard:
        """Says how the network was trained so far."""
        state = self.state
        facts = {
            "recipe": self.recipe.name,
            **taught(self.recipe, self.network.config.decoding),
            "precision": self.updater.precision,
            **self._trained_on,
            "steps": state.step,
            "images": state.images,
            "minutes": round(state.minutes, 2),
            "seed": self.recipe.seed,
            **self.hooks.facts(),
            **facts,
        }
        return self.card.with_provenance(**{"qat" if self._start.kind == "quantized" else "training": facts})
