"""The facts at the top of every saved measurement of one model: time, machine and model."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from samkr_edge.doctor.environment import environment
from samkr_edge.pose_model import PoseModel


def run_facts(model: PoseModel, file: Path) -> dict[str, Any]:
    """Plain JSON, with the file's name but not its folder: results are published, folders are private."""
    return {
        "schema_version": 1,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "environment": environment(),
        "model": {"file": file.name, **model.card.to_dict()},
    }
