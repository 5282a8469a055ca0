"""Losses of DEKR (heatmap and offset) and of SWAHR (heatmap with a learned scale).

Sources: DEKR (Geng et al., CVPR 2021), section 3; "Rethinking the Heatmap Regression for Bottom-up Human Pose
Estimation" (Luo et al., CVPR 2021), section 3; and their official code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Smooth L1 turns from quadratic to linear at this distance, map pixels.
OFFSET_BETA = 1 / 9
# Exponent that splits SWAHR's weight between keypoints and background.
WEIGHT_GAMMA = 0.01


@dataclass(frozen=True)
class LossSettings:
    """Factors of the terms.

    Attributes:
        kind: ``dekr``, or ``swahr`` for a network with a scale branch.
        heatmap_weight: factor of the heatmap term.
        offset_weight: factor of the offset term; DEKR's is 0.03, of its own extents (``person_size`` of
            ``training.data.encode``).
        scale_weight: factor of the scale regulariser (``swahr``).
    """

    kind: str = "dekr"
    heatmap_weight: float = 1.0
    offset_weight: float = 0.007
    scale_weight: float = 1.0


def heatmap_loss(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean of (predicted - target)^2 * mask.

    Args:
        predicted: (N, C, h, w).
        target: (N, C, h, w).
        mask: (N, C, h, w), or (N, 1, h, w) for all channels.

    Returns:
        A scalar.
    """
    return ((predicted - target) ** 2 * mask).mean()


def offset_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted smooth L1 of three of one shape (N, 2K, h, w), a scalar.

    The sum is divided by the number of positive weights in the whole batch. x and y count separately; a batch without
    any person gives 0.
    """
    distance = (predicted - target).abs()
    quadratic = 0.5 * distance**2 / OFFSET_BETA
    values = torch.where(distance < OFFSET_BETA, quadratic, distance - 0.5 * OFFSET_BETA)
    return (values * weight).sum() / (weight > 0).sum().clamp(min=1)


def swahr_loss(predicted: Tensor, target: Tensor, scale: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Scale- and weight-adaptive heatmap loss.

    With a = scale where the target H > 0, else 0: the target becomes H + a H ln H + a^2 H (ln H)^2 / 2, the Taylor
    expansion of H^(1 + a); each position weighs |1 - P| H^gamma + |P| (1 - H^gamma), through which the gradient
    flows as well.

    Args:
        predicted: heatmap P (N, C, h, w).
        target: Gaussian target H (N, C, h, w).
        scale: output of the scale branch (N, C, h, w), or (N, C - 1, h, w) where the centre has none.
        mask: valid area, broadcastable to (N, C, h, w); SWAHR weighs the background itself.

    Returns:
        The heatmap term and the regulariser mean(a^2 * mask), both scalars.
    """
    if scale.shape[1] == target.shape[1] - 1:
        scale = nn.functional.pad(scale, (0, 0, 0, 0, 0, 1))
    present = target > 0
    alpha = scale * present
    # Where H is 0 its logarithm is replaced, and the product with H = 0 removes the replacement.
    step = alpha * torch.where(present, target, torch.ones_like(target)).log()
    adapted = target * (1 + step + 0.5 * step**2)
    foreground = target**WEIGHT_GAMMA
    weight = (1 - predicted).abs() * foreground + predicted.abs() * (1 - foreground)
    return ((predicted - adapted) ** 2 * weight * mask).mean(), (alpha**2 * mask).mean()


class PoseLoss:
    """All terms of one step."""

    def __init__(self, settings: LossSettings | None = None) -> None:
        self.settings = settings or LossSettings()

    def __call__(self, maps: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Terms times their factors: ``heatmap``, ``offset`` and with SWAHR ``scale``, scalars; the loss is their sum.

        Args:
            maps: ``heatmap`` (N, K+1, h, w) and ``offset`` (N, 2K, h, w), float32; ``scale`` (N, K+1, h, w) or
                (N, K, h, w) where the network has a scale branch.
            batch: ``heatmap``, ``mask``, ``valid``, ``offset``, ``offset_weight`` of the training set, each (N, ...).
        """
        settings = self.settings
        heatmap = maps["heatmap"]
        terms: dict[str, Tensor] = {}
        if settings.kind == "swahr" and "scale" in maps:
            adapted, regulariser = swahr_loss(heatmap, batch["heatmap"], maps["scale"], batch["valid"])
            terms["heatmap"] = settings.heatmap_weight * adapted
            terms["scale"] = settings.scale_weight * regulariser
        else:
            terms["heatmap"] = settings.heatmap_weight * heatmap_loss(
                heatmap, batch["heatmap"], batch["mask"]
            )
        terms["offset"] = settings.offset_weight * offset_loss(
            maps["offset"], batch["offset"], batch["offset_weight"]
        )
        return terms
