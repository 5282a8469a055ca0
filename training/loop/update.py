"""One update of the weights: the gradients of several batches, and of several processes, made one step."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from samkr_edge.errors import SamkrError, reason_of
from samkr_edge.printable import counted
from training.loop.batches import Batches
from training.loop.compiled import compiled
from training.loop.ema import WeightAverage
from training.loop.hooks import TrainingHooks
from training.loop.objective import loss_of, loss_settings
from training.loop.precision import computed, half_type
from training.loop.processes import Processes, without_averaging
from training.loop.recipe import Recipe
from training.models.deploy import normalise
from training.models.pose_net import PoseNet


class Updater:
    """Changes ``network``, and whatever else changes with it.

    Attributes:
        optimizer, average: as the recipe sets them; ``average`` is None where it wants none.
        precision: ``fp32``, ``tf32``, ``bf16`` or ``fp16``, what the recipe's comes to on this device.
        scaler: of the loss, so that FP16's gradients do not vanish; does nothing in other precisions.
    """

    def __init__(
        self, network: PoseNet, recipe: Recipe, team: Processes, hooks: TrainingHooks | None = None
    ) -> None:
        self._hooks = hooks or TrainingHooks()
        self._share = team.share(recipe.accumulate)
        self._layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        network.to(team.device, memory_format=self._layout)  # type: ignore[call-overload]
        if recipe.loss.kind != "swahr":
            for branch in network.scale_branches:  # no loss uses them
                branch.requires_grad_(False)
        self._network, self._recipe, self._team = network, recipe, team
        self.precision = computed(recipe.precision, team.device)
        self._half = half_type(self.precision)
        self._parameters = [p for p in network.parameters() if p.requires_grad]
        self._loss = loss_of(loss_settings(recipe, network.config.decoding))
        self.optimizer = _optimizer(recipe, self._parameters)
        self.average = WeightAverage(network, recipe.ema) if recipe.ema else None
        self.scaler = torch.amp.GradScaler(team.device.type, enabled=self._half is torch.float16)
        self._distributed = team.wrap(_TrainingForward(network))
        self._forward: Any = compiled(self._distributed) if recipe.compile else self._distributed

    def update(self, batches: Batches, rate: float, step: int, last: Path) -> dict[str, float]:
        """Make step ``step`` at this learning rate, with the next batches; returns the mean loss terms.

        Raises:
            SamkrError: SE-D37 the loss or the gradient is NaN or infinite, SE-U59 the GPU's memory is too small; the
                weights are unchanged then.
        """
        try:
            return self._update(batches, rate, step, last)
        except torch.OutOfMemoryError as error:
            raise _too_large(self._recipe, error) from error

    def _update(self, batches: Batches, rate: float, step: int, last: Path) -> dict[str, float]:
        terms: dict[str, float] = {}
        seen: list[tuple[float, list[int]]] = []  # loss and image ids of each batch
        for number in range(self._share):
            batch = batches.next()
            there = {key: value.to(self._team.device, non_blocking=True) for key, value in batch.items()}
            is_last = number == self._share - 1
            with nullcontext() if is_last else without_averaging(self._distributed):
                losses = self._backward(there)
            for name, value in losses.items():
                terms[name] = terms.get(name, 0.0) + value / self._share
            seen.append((sum(losses.values()), batch["image_id"].tolist()))
        terms = self._team.mean(terms)
        self.scaler.unscale_(self.optimizer)
        largest = self._recipe.optimizer.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(self._parameters, largest).item()
        # A gradient beyond FP16's range is nothing unusual: the scaler skips the step and scales by less next time.
        excused = self.scaler.is_enabled() and self.scaler.get_scale() >= 1.0
        # Checked before the step: a broken weight must never reach last.pt.
        if not all(map(math.isfinite, terms.values())) or not (math.isfinite(norm) or excused):
            raise _not_finite(self._team.gather(seen), norm, step, last, self._recipe.optimizer.lr)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update(self._network)
        return terms

    def _backward(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """Add the gradients of one batch; returns its loss terms."""
        image = normalise(batch["image"]).contiguous(memory_format=self._layout)  # (N, 3, H, W)
        with torch.autocast(image.device.type, dtype=self._half, enabled=self._half is not None):
            maps = self._forward(image)
        maps = {name: found.float() for name, found in maps.items()}
        terms = self._loss(maps, batch)
        terms |= self._hooks.terms(image, maps, batch)
        values = torch.stack(list(terms.values()))
        self.scaler.scale(values.sum() / self._share).backward()
        return dict(zip(terms, values.tolist(), strict=True))


class _TrainingForward(nn.Module):
    """``network.forward_training`` as a module's forward pass: only that is distributed and compiled by torch."""

    def __init__(self, network: PoseNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return self.network.forward_training(image)


def _not_finite(
    seen: list[list[tuple[float, list[int]]]], norm: float, step: int, last: Path, rate: float
) -> SamkrError:
    """The error for a step whose batches, of all processes, had these losses and images."""
    batches = [batch for process in seen for batch in process]
    broken = [batch for batch in batches if not math.isfinite(batch[0])]
    what, value = ("the loss", broken[0][0]) if broken else ("the gradient's norm", norm)
    ids = [str(image) for _, images in broken[:1] or batches for image in images]
    return SamkrError(
        "SE-D37",
        f"{what} is {value} at step {step}, so training stopped",
        {
            "images": ", ".join(ids),
            "last good": last if last.is_file() else "none yet",
        },
        fix=f"run the same command with --set optimizer.lr={rate / 10:.1g} and another --out; look at these images",
    )


def _too_large(recipe: Recipe, error: torch.OutOfMemoryError) -> SamkrError:
    """The error for a batch that does not fit, with settings that keep the total batch."""
    size = recipe.batch_size
    part = next((n for n in range(2, size + 1) if size % n == 0), 1)
    smaller = f"--set batch_size={size // part} --set accumulate={recipe.accumulate * part}"
    return SamkrError(
        "SE-U59",
        f"a batch of {counted(size, 'image')} does not fit into the GPU's memory, so training stopped",
        {"reason": reason_of(error)},
        fix=smaller if size > 1 else "a smaller input: --set 'data.input_size=[256,256]'",
    )


def _optimizer(recipe: Recipe, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    settings = recipe.optimizer
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(
        parameters, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
    )
