"""The paper's own figures for the networks of its tables. They are quoted beside ours and never mixed with them."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.schema import Results


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


# (skeleton, split) -> images that published AP are of.
_PUBLISHED = {("coco17", "val"): 5000, ("crowdpose14", "test"): 8000}


def is_measured_alike(results: Results, split: str) -> bool:
    """Whether AP of ours may be read against published single-scale AP of a split: all of its images, by flip and the
    paper's resize. Rescoring makes no difference here: DEKR's figures have it, and the paper does not say."""
    dataset, protocol = results.dataset, results.protocol
    return (
        dataset is not None
        and dataset.split == split
        and dataset.images == _PUBLISHED.get((dataset.skeleton, split))
        and protocol.name == "paper"
        and protocol.scales == (1.0,)
        and not protocol.match
    )


def beside_the_paper(results: Results) -> str:
    """What the paper's AP and ours, side by side, are each of; empty where the run shows none of the paper's."""
    figures = {model.paper.where for model in results.models if model.paper}
    if not figures or results.dataset is None:
        return ""
    text = f"{'; '.join(sorted(figures))}; ours: {results.dataset.name}/{results.ap_label}"
    alike = is_measured_alike(results, results.dataset.split)
    return text if alike else f"{text}, which is not measured alike"
