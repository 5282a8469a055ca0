"""The options for how AP is measured, shared by all commands that have them."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samkr_edge.errors import SamkrError

if TYPE_CHECKING:
    from samkr_edge.evaluation.protocol import Protocol


class ProtocolName(str, Enum):
    """The protocol of AP."""

    deployment = "deployment"
    paper = "paper"


class Resize(str, Enum):
    """How an image becomes the network's input."""

    fit = "fit"
    paper = "paper"


ByProtocol = Annotated[
    ProtocolName | None,
    typer.Option(
        "--protocol",
        help="paper: short for --flip --resize paper. deployment: one plain pass, as on the device.",
    ),
]
Flip = Annotated[bool, typer.Option("--flip", help="The mirrored image counts, too, as in papers.")]
Scales = Annotated[
    str,
    typer.Option(
        help="Input scales, merged as the network's paper does, for example 0.5,1,2; they cost AP where the network "
        "never saw people of such sizes. Checkpoints only."
    ),
]
ResizedBy = Annotated[
    Resize | None,
    typer.Option(
        help="fit: the whole image within the model's input. paper: the short side scaled to the model's, the long "
        "side in proportion; checkpoints only. [default: fit]"
    ),
]
Match = Annotated[
    bool,
    typer.Option("--match", help="Move joints to the peaks of their heatmaps; networks with offsets only."),
]
Anyway = Annotated[
    bool, typer.Option("--anyway", help="Evaluate even if a model was trained on these images: train-fit AP.")
]


def protocol_of(
    name: ProtocolName | None,
    *,
    scales: str = "1",
    rescore: Path | None = None,
    flip: bool = False,
    resize: Resize | None = None,
    match: bool = False,
) -> Protocol:
    """The protocol by a command's options, without its rescoring network, which needs the skeleton.

    Raises:
        SamkrError: SE-U76 an option contradicts the named protocol; SE-U81 impossible scales.
    """
    from samkr_edge.evaluation.protocol import Protocol, parse_scales

    asked = Protocol(flip=flip, scales=parse_scales(scales), match=match, paper_resize=resize is Resize.paper)
    beyond = [
        option
        for option, given in (
            ("--flip", flip),
            ("--resize paper", asked.paper_resize),
            (f"--scales {scales}", len(asked.scales) > 1),
            ("--match", match),
            ("--rescore", rescore is not None),
        )
        if given
    ]
    if name is ProtocolName.deployment and beyond:
        raise SamkrError(
            "SE-U76",
            f"deployment AP is that of one pass, as on the device, without {' and '.join(beyond)}",
            fix=f"leave {' and '.join(beyond)} out, or give --protocol paper",
        )
    if name is not ProtocolName.paper:
        return asked
    if resize is Resize.fit:
        raise SamkrError(
            "SE-U76",
            "--protocol paper resizes as papers do, and --resize fit does not",
            fix="leave --resize fit out, or give --flip in place of --protocol paper",
        )
    return replace(asked, flip=True, paper_resize=True)
