"""What every kept measurement of one model begins with: when, on which machine, which model."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from samkr_edge.doctor.environment import environment
from samkr_edge.pose_model import PoseModel


def run_facts(model: PoseModel, file: Path) -> dict[str, Any]:
    """Plain JSON; of the file its name alone, since results are published and folders are private."""
    return {
        "schema_version": 1,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "environment": environment(),
        "model": {"file": file.name, **model.card.to_dict()},
    }
