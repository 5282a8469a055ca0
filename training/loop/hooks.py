"""What a run can add to the plain training loop, without a second loop."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class TrainingHooks:
    """Adds nothing; a fine-tuning overrides what it needs.

    Everything a hook does must follow from its own settings and the arguments, so that a resumed run repeats it.

    Attributes:
        frozen_norms: batch norms keep their statistics, as in a network that has none left.
    """

    frozen_norms = False

    def facts(self) -> dict[str, Any]:
        """Plain values that decide what the hook does. They go on the card; a run with others is not resumed."""
        return {}

    def before_step(self, network: nn.Module, done: float) -> None:
        """Called before each update; ``done`` is the share of the run that is done, 0..1."""

    def terms(self, image: Tensor, maps: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """More terms of the loss, scalars by name.

        Args:
            image: normalised (N, 3, H, W).
            maps: the network's, float32 (N, C, h, w), by the names of its ``forward_training``.
            batch: targets and weights of the training set, each (N, ...).
        """
        return {}
