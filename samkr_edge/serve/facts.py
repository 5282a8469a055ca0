"""What the page says about models and device, and needs to know to draw: fixed while the command runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import samkr_edge
from samkr_edge.frames.draw import SOLID_JOINT
from samkr_edge.machine.cpu import cpu_name
from samkr_edge.machine.device import running_device
from samkr_edge.pose.poses import SURE_JOINT
from samkr_edge.pose.stick_figures import PALETTE
from samkr_edge.pose_model import PoseModel
from samkr_edge.printable import counted


def page_facts(
    models: Sequence[PoseModel],
    names: Sequence[str],
    *,
    threads: int,
    threshold: float | None,
    boxes: bool,
    writes: bool,
    rate: float,
) -> dict[str, Any]:
    """JSON for the page.

    Args:
        models: the one that runs, and the one it is compared with.
        names: of the streams, without passwords.
        threads: of each network.
        threshold: least score of the people of both, until a viewer chooses another; None: each model's own.
        boxes: whether the corners of people's boxes are drawn at first.
        writes: whether results are written.
        rate: most pictures a second.
    """
    return {
        "version": samkr_edge.__version__,
        "streams": list(names),
        "models": [
            {
                "file": model.path.name,
                "title": model.card.title,
                "runs": _runs_on(model, threads),
                "edges": [list(edge) for edge in model.card.skeleton.edges],
                "threshold": model.card.sure_person if threshold is None else threshold,
            }
            for model in models
        ],
        "boxes": boxes,
        "writes": writes,
        "rate": rate,
        "palette": [list(colour) for colour in PALETTE],
        "sure": SURE_JOINT,
        "solid": SOLID_JOINT,
    }


def _runs_on(model: PoseModel, threads: int) -> str:
    if model.kind == "engine":
        return running_device().gpu or "GPU"
    return f"{cpu_name()}, {counted(threads, 'thread')}"
