"""The options that say how AP is measured, the same for every command that has them."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from samkr_edge.errors import SamkrError

if TYPE_CHECKING:
    from samkr_edge.paper_protocol import Protocol


class ProtocolName(str, Enum):
    """What AP is measured by."""

    deployment = "deployment"
    paper = "paper"


def protocol_of(name: ProtocolName, scales: str | None, rescore: Path | None) -> Protocol:
    """The protocol of that name, its rescoring network not yet read: that needs the model's skeleton.

    Args:
        name: ``deployment``, one pass over the image fitted into the input; or ``paper``, flip and the paper's resize.
        scales: ``0.5,1,2``, for ``paper`` only.
        rescore: file of a rescoring network, for ``paper`` only.

    Raises:
        SamkrError: SE-U76 scales or rescoring without the paper's protocol; SE-U75 scales that cannot be.
    """
    from dataclasses import replace

    from samkr_edge.paper_protocol import PAPER, Protocol, parse_scales

    if name is ProtocolName.paper:
        return PAPER if scales is None else replace(PAPER, scales=parse_scales(scales))
    given = [option for option, value in (("--scales", scales), ("--rescore", rescore)) if value is not None]
    if given:
        raise SamkrError(
            "SE-U76",
            f"{' and '.join(given)} would change what the device computes, so deployment AP has no such thing",
            fix="add --protocol paper",
        )
    return Protocol()
