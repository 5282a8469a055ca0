"""Losses of the networks that group joints by tags: HigherHRNet's, and SWAHR's for the heatmaps.

Sources: Newell et al., "Associative Embedding", NeurIPS 2017, section 3 (pull and push); Cheng et al., "HigherHRNet",
CVPR 2020, section 3 (a heatmap loss at each resolution, tags at the lower one); Luo et al., CVPR 2021, section 3
(SWAHR); and their official code, whose averages these are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.loop.losses import heatmap_loss, swahr_loss


@dataclass(frozen=True)
class GroupingLossSettings:
    """Factors of the terms; the defaults are the papers'.

    Attributes:
        kind: ``higherhrnet``, or ``swahr`` for a network with scale branches.
        heatmap_weight: factor of the heatmap terms of both resolutions.
        pull_weight: factor of the distance between the tags of one person.
        push_weight: factor of the likeness of two people's tags.
        scale_weight: factor of the scales' regulariser (``swahr``), of both resolutions.
    """

    kind: str = "higherhrnet"
    heatmap_weight: float = 1.0
    pull_weight: float = 0.001
    push_weight: float = 0.001
    scale_weight: float = 1.0


def tags_at(tag: Tensor, joints: Tensor) -> Tensor:
    """Tags (N, K, h, w) at the joints int64 (N, P, K, 2), which begin with places in the flattened maps: (N, P, K)."""
    places = joints[..., 0]
    return tag.flatten(1).gather(1, places.flatten(1)).view(places.shape)


def tag_losses(tag: Tensor, joints: Tensor) -> tuple[Tensor, Tensor]:
    """How far apart one person's tags are, and how alike two people's.

    Pull is the mean over an image's people of the mean squared distance of a person's tags to their mean. Push is half
    the mean of exp(-d^2) over all ordered pairs of two people, d the difference of their mean tags. People without a
    visible joint do not count; an image of nobody has neither loss, one of a single person no push.

    Args:
        tag: (N, K, h, w).
        joints: int64 (N, P, K, 2): place in the flattened (K, h, w) tag maps, and 1 where the joint is visible, else 0.

    Returns:
        Pull and push, each (N,).
    """
    values, visible = tags_at(tag, joints), joints[..., 1].to(tag.dtype)
    seen = visible.sum(2)  # (N, P)
    mean = (values * visible).sum(2) / seen.clamp(min=1)
    spread = ((values - mean[..., None]) ** 2 * visible).sum(2) / seen.clamp(min=1)
    there = seen > 0
    people = there.sum(1)
    pull = spread.sum(1) / people.clamp(min=1)
    pairs = (there[:, :, None] & there[:, None, :]).to(tag.dtype).triu(diagonal=1)  # each pair once
    alike = torch.exp(-((mean[:, :, None] - mean[:, None, :]) ** 2)) * pairs
    push = 0.5 * alike.sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)
    return pull, push


class GroupingLoss:
    """All terms of one step."""

    def __init__(self, settings: GroupingLossSettings | None = None) -> None:
        self.settings = settings or GroupingLossSettings()

    def __call__(self, maps: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Terms times their factors: ``heatmap``, ``pull``, ``push``, with SWAHR ``scale``; the loss is their sum.

        ``heatmap`` and ``scale`` are sums over both resolutions. All are scalars.

        Args:
            maps: ``heatmap_low`` and ``tag`` (N, K, h, w), ``heatmap`` (N, K, 2h, 2w), float32; ``scale_low`` and
                ``scale`` likewise where the network has scale branches.
            batch: ``heatmap_low``, ``heatmap``, ``valid_low`` (N, 1, h, w), ``valid`` (N, 1, 2h, 2w) and ``joints`` of
                the training set.
        """
        settings = self.settings
        heatmap: list[Tensor] = []
        scale: list[Tensor] = []
        for end in ("_low", ""):
            predicted, target, valid = maps[f"heatmap{end}"], batch[f"heatmap{end}"], batch[f"valid{end}"]
            if settings.kind == "swahr" and f"scale{end}" in maps:
                adapted, regulariser = swahr_loss(predicted, target, maps[f"scale{end}"], valid)
                heatmap.append(adapted)
                scale.append(regulariser)
            else:
                heatmap.append(heatmap_loss(predicted, target, valid))
        pull, push = tag_losses(maps["tag"], batch["joints"])
        terms = {
            "heatmap": settings.heatmap_weight * torch.stack(heatmap).sum(),
            "pull": settings.pull_weight * pull.mean(),
            "push": settings.push_weight * push.mean(),
        }
        if scale:
            terms["scale"] = settings.scale_weight * torch.stack(scale).sum()
        return terms
