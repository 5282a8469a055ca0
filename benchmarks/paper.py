"""The paper's own figures for the networks of its tables. They are quoted beside ours and never mixed with them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PaperFigure:
    """What the paper prints for one network on one data set.

    Attributes:
        ap: its AP, 0..100.
        where: data split and table.
        latency_ms: its cost time (Table 6, RTX 3090), where it gives one.
    """

    ap: float
    where: str
    latency_ms: float | None = None


# (network, skeleton) -> figure. COCO: Table 3, val2017, single scale. CrowdPose: Table 5, test.
_COCO, _CROWDPOSE = "COCO val2017, Table 3", "CrowdPose test, Table 5"
_FIGURES = {
    ("samkr_w32", "coco17"): PaperFigure(68.9, _COCO),
    ("samkr_w48", "coco17"): PaperFigure(71.6, _COCO, 164.4),
    ("dekr_w32", "coco17"): PaperFigure(68.0, _COCO),
    ("dekr_w48", "coco17"): PaperFigure(71.0, _COCO, 137.8),
    ("samkr_w32", "crowdpose14"): PaperFigure(73.0, _CROWDPOSE),
    ("samkr_w48", "crowdpose14"): PaperFigure(74.4, _CROWDPOSE),
    ("dekr_w32", "crowdpose14"): PaperFigure(65.7, _CROWDPOSE),
    ("dekr_w48", "crowdpose14"): PaperFigure(67.3, _CROWDPOSE),
}


def paper_figure(model: str, skeleton: str) -> PaperFigure | None:
    """The paper's figure for a zoo network on a skeleton, or None: most of our models are not in the paper."""
    return _FIGURES.get((model, skeleton))
