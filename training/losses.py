"""Losses of DEKR (heatmap and offset) and of SWAHR (heatmap with a learnt scale)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SMOOTH_L1_BETA = 1 / 9
SWAHR_GAMMA = 0.01


@dataclass(frozen=True)
class LossSettings:
    """Factors; ``kind`` is ``dekr`` or ``swahr``."""

    kind: str = "dekr"
    heatmap_weight: float = 1.0
    offset_weight: float = 0.03


def heatmap_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean over everything of (predicted - target)^2 * weight; all (N, K+1, h, w). Source: DEKR."""
    return ((predicted - target) ** 2 * weight).mean()


def offset_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Smooth L1 (beta 1/9) * weight, summed, divided by the number of weighted numbers; all (N, 2K, h, w). DEKR."""
    distance = (predicted - target).abs()
    beta = SMOOTH_L1_BETA
    smooth = torch.where(distance < beta, 0.5 * distance**2 / beta, distance - 0.5 * beta)
    return (smooth * weight).sum() / (weight > 0).sum().clamp(min=1)


def swahr_loss(predicted: Tensor, scale: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """SWAHR's heatmap loss and the regulariser of its scale map.

    Luo et al., CVPR 2021. The target H is sharpened or widened to H^(1+a) by its second-order Taylor series, where a
    is the scale branch's output inside the Gaussians; foreground and background are weighted by |1-P| and |P|.

    Args:
        predicted: heatmap P, (N, K+1, h, w).
        scale: output of the scale branch, same shape.
        target: ordinary Gaussian target H.
        mask: 1 where people are labelled, else 0, same shape.
    """
    a = scale * (target > 0)
    log = torch.log(target.clamp(min=1e-30)) * (target > 0)
    scaled = target + a * target * log + 0.5 * a**2 * target * log**2
    powered = torch.where(target > 0, target.clamp(min=1e-30) ** SWAHR_GAMMA, torch.zeros_like(target))
    weight = (1 - predicted).abs() * powered + predicted.abs() * (1 - powered)
    return ((predicted - scaled) ** 2 * weight * mask).mean(), (a**2 * mask).mean()


class PoseLoss:
    """All terms of one step."""

    def __init__(self, settings: LossSettings) -> None:
        self.settings = settings

    def __call__(
        self, heatmap: Tensor, offset: Tensor, scale: Tensor | None, batch: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Named terms, already multiplied by their factors; their sum is the loss. All inputs float32."""
        settings = self.settings
        terms: dict[str, Tensor] = {}
        if settings.kind == "swahr" and scale is not None:
            # SWAHR weighs the background itself, so only the mask of labelled regions is used.
            mask = (batch["heatmap_weight"] > 0).float()
            loss, regulariser = swahr_loss(heatmap, scale, batch["heatmap"], mask)
            terms["heatmap"] = settings.heatmap_weight * loss
            terms["scale"] = regulariser
        else:
            terms["heatmap"] = settings.heatmap_weight * heatmap_loss(
                heatmap, batch["heatmap"], batch["heatmap_weight"]
            )
        terms["offset"] = settings.offset_weight * offset_loss(
            offset, batch["offset"], batch["offset_weight"]
        )
        return terms
