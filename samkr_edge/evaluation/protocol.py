"""The protocol of an AP: the deployment path, or parts of DEKR's test protocol on top.

This module says which parts; ``samkr_edge.evaluation.paper_protocol`` runs them.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from samkr_edge.errors import SamkrError
from samkr_edge.model_card_check import require_offsets

if TYPE_CHECKING:
    from samkr_edge.dataset.trained_on import TrainedOn
    from samkr_edge.model_card import ModelCard
    from samkr_edge.pose.poses import Poses
    from samkr_edge.pose_model import PoseModel

# 4096 pixels from an input of 512, whose maps alone take 0.2 GB. Papers go to 2. The smallest is as far from 1: where
# its input is rounded up to 64 pixels, all others grow with it.
_LARGEST_SCALE = 8.0


class Rescorer(typing.Protocol):
    """Gives poses new scores: ``samkr_edge.evaluation.rescoring.RescoringNetwork``."""

    @property
    def trainings(self) -> list[TrainedOn]:
        """The images that it learned from."""

    def doubts(self, protocol: Protocol) -> list[str]:
        """Warnings about using it on poses of this protocol, a line each."""

    def rescore(self, poses: Poses) -> Poses:
        """The poses with new scores, best first."""


@dataclass(frozen=True)
class Protocol:
    """What to do beyond the deployment path.

    Attributes:
        flip: average the maps with those of the mirrored image; its tags are a second number of each pixel.
        scales: sizes of the input relative to the base one; 1 must be among them.
        match: move joints to the peaks of their heatmaps, see ``samkr_edge.evaluation.match``.
        paper_resize: resize as DEKR does: the short side to the model's input size, the long side as it comes out,
            rounded up to a multiple of 64, in grouping at the smallest scale. Needs a model that takes any size: a
            checkpoint.
        rescoring: predicts a pose's OKS, to multiply its score with.
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    match: bool = False
    paper_resize: bool = False
    rescoring: Rescorer | None = None

    def __post_init__(self) -> None:
        possible = all(
            1 / _LARGEST_SCALE <= scale <= _LARGEST_SCALE for scale in self.scales
        )  # False for NaN
        if not possible or 1.0 not in self.scales or len(set(self.scales)) != len(self.scales):
            raise SamkrError(
                "SE-U81",
                f"these scales cannot be evaluated: {', '.join(map(str, self.scales))}",
                {
                    "expected": f"different factors from {1 / _LARGEST_SCALE:g} to {_LARGEST_SCALE:g}, one of them 1"
                },
                fix="--scales 0.5,1,2",
            )

    @property
    def deployment(self) -> bool:
        """Nothing beyond the deployment path, rescoring aside."""
        return not (self.flip or self.match or self.paper_resize) and self.scales == (1.0,)

    @property
    def is_of_papers(self) -> bool:
        """Whether it has flip and the paper's resize, with which all these papers measure AP."""
        return self.flip and self.paper_resize

    def to_dict(self) -> dict[str, Any]:
        """As results record it, without the rescoring network, which is a file."""
        return {
            "flip": self.flip,
            "resize": "paper" if self.paper_resize else "fit",
            "scales": list(self.scales),
            "match": self.match,
        }

    @property
    def label(self) -> str:
        """``deployment``, or ``flip + paper resize, scales 0.5 1 2``."""
        return in_words(
            flip=self.flip,
            paper_resize=self.paper_resize,
            scales=self.scales,
            match=self.match,
            rescored=self.rescoring is not None,
        )


# How papers measure AP; they say so where they add scales and rescoring.
PAPER = Protocol(flip=True, paper_resize=True)


def in_words(
    *, flip: bool, paper_resize: bool, scales: tuple[float, ...], match: bool, rescored: bool
) -> str:
    """A protocol's name in all outputs; ``deployment`` for the deployment path."""
    base = " + ".join(name for name, on in (("flip", flip), ("paper resize", paper_resize)) if on)
    several = "scales " + " ".join(f"{scale:g}" for scale in scales) if len(scales) > 1 else ""
    parts = (base, several, "match" if match else "", "rescored" if rescored else "")
    return ", ".join(filter(None, parts)) or "deployment"


def notes_of(card: ModelCard, protocol: Protocol) -> list[str]:
    """Remarks on a model that is measured by the papers' protocol."""
    training = card.provenance.get("training")
    if (
        protocol.is_of_papers
        and isinstance(training, dict)
        and training.get("chosen") == "best by validation"
    ):
        return [f"{card.model} was chosen by its validation AP; papers report the last epoch, final.pt"]
    return []


def parse_scales(text: str) -> tuple[float, ...]:
    """``0.5,1,2`` -> factors; SamkrError SE-U81 where a part is not a number."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise SamkrError(
            "SE-U81", f"{text!r} is not a list of scales", {"reason": error}, fix="--scales 0.5,1,2"
        ) from error


def require_able(model: PoseModel, protocol: Protocol) -> None:
    """Refuse a model that cannot follow the protocol, before anything is measured.

    Raises:
        SamkrError: SE-U75 the protocol needs other input sizes, or maps, and the model has neither; SE-U48 it matches
            joints to peaks, and the model is decoded by grouping.
    """
    card = model.card
    if protocol.deployment:
        return
    if card.decode_in != "host":
        raise SamkrError(
            "SE-U75",
            f"{model.path.name} decodes in its graph and gives no maps, so nothing can be averaged or matched",
            fix="samkr-edge export CHECKPOINT -o model.onnx --decode host",
        )
    if protocol.match:
        require_offsets(card, "joints cannot be matched: they are peaks already", fix="leave --match out")
    if (protocol.paper_resize or len(protocol.scales) > 1) and model.kind != "checkpoint":
        raise SamkrError(
            "SE-U75",
            f"{model.path.name} takes one size of images, so several scales and the paper's resize cannot be measured",
            {"input": f"{card.input_size[0]}x{card.input_size[1]}, kind {model.kind}"},
            fix="give the checkpoint that this file was exported from",
        )
