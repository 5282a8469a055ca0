"""AP while training goes on: the averaged weights on images of another split, and the best ones kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from samkr_edge.dataset.keypoint_dataset import (
    KeypointDataset,
    available_splits,
    open_dataset,
    unlabelled_splits,
)
from samkr_edge.dataset.usable import require_usable
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.ap import predict_dataset, score
from samkr_edge.evaluation.scores import Scores
from samkr_edge.fixes import quoted
from samkr_edge.model_card import ModelCard
from samkr_edge.pose_model import PoseModel
from samkr_edge.printable import counted
from training.loop.recipe import ValidationSection
from training.loop.resume import RunState
from training.models.pose_net import PoseNet
from training.torch_runner import TorchRunner


class Validation:
    """When to validate, on what, and the AP.

    AP is that of the deployed network: one scale, no flip.

    Args:
        settings: the recipe's.
        trained_on: the training split; validation uses another split of the same directory. Naming the training
            split itself is allowed: what is printed is then called train-fit AP.

    Raises:
        SamkrError: SE-D21 no such split, SE-D73 the two splits share images, SE-D27 nobody is labelled in the
            images to validate on.
    """

    def __init__(self, settings: ValidationSection, trained_on: KeypointDataset) -> None:
        self.settings = settings
        own = settings.split == trained_on.split
        if not own:
            _require_split(trained_on, settings)
        self._dataset = trained_on if own else open_dataset(trained_on.root, settings.split)
        records = self._dataset.images[: settings.images]
        require_usable(self._dataset, "eval", records)
        self._ids = [record.id for record in records]
        self.label = "train-fit AP" if own else "AP"
        self.where = f"{counted(len(records), 'image')} of {settings.split}"
        shared = {image.path for image in trained_on.images} & {record.path for record in records}
        if shared and not own:
            raise SamkrError(
                "SE-D73",
                f"{len(shared)} of the {self.where} are trained on, so their AP would say nothing",
                {
                    "training": f"{trained_on.split}, {counted(len(trained_on), 'image')}",
                    "first": min(shared),
                },
                fix=f"run the same command with {_without(settings)}",
            )

    def due(self, state: RunState, minutes_before: float, steps_per_epoch: float) -> bool:
        """Whether to validate after the step that just ended; ``minutes_before`` is the run's age before it."""
        if self.settings.every_epochs is not None:
            return state.step % max(1, round(self.settings.every_epochs * steps_per_epoch)) == 0
        every = self.settings.every_minutes
        return every is not None and state.minutes // every > minutes_before // every

    def measure(
        self,
        network: PoseNet,
        card: ModelCard,
        device: torch.device,
        advance: Callable[..., None] | None = None,
    ) -> Scores:
        """AP of the network with the weights it has; its mode (train, eval) is as before afterwards."""
        was_training = network.training
        try:
            model = PoseModel(TorchRunner(network, card, device), Path("validation"))
            results = predict_dataset(model, self._dataset, limit=self.settings.images, advance=advance)
        finally:
            network.train(was_training)
        return score(self._dataset, results, self._ids)

    def is_best(self, state: RunState, scores: Scores) -> bool:
        """Compare with the best so far and remember; figures of other images are not compared."""
        best = state.best if state.best.get("where") == self.where else {}
        if best and scores.ap <= best["ap"]:
            return False
        state.best = self.facts(state, scores)
        return True

    def facts(self, state: RunState, scores: Scores) -> dict[str, Any]:
        """What a checkpoint's card says about this validation."""
        return {
            "ap": round(scores.ap, 3),
            "metric": self.label,
            "where": self.where,
            "step": state.step,
        }


def _require_split(trained_on: KeypointDataset, settings: ValidationSection) -> None:
    splits = available_splits(trained_on.root)
    # Splits without labels are refused later, by an error that says more.
    if settings.split not in (*splits, *unlabelled_splits(trained_on.root)):
        raise SamkrError(
            "SE-D21",
            f"{trained_on.root} has no split {settings.split!r} to validate on, so training did not start",
            {
                "found": ", ".join(splits) or trained_on.annotation_path.name,
                "to have it": f"samkr-edge data split {quoted(trained_on.named)} OUT",
            },
            fix=f"run the same command with {_without(settings)}   # without validation",
        )


def _without(settings: ValidationSection) -> str:
    """The option that switches validation off."""
    rhythm = "every_minutes" if settings.every_epochs is None else "every_epochs"
    return f"--set validation.{rhythm}=null"
