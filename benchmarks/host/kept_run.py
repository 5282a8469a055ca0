"""The facts at the top of every saved run of these scripts: schema, version and machine."""

from __future__ import annotations

from typing import Any

from samkr_edge import __version__
from samkr_edge.doctor.environment import environment


def kept_run(**facts: Any) -> dict[str, Any]:
    """One run as plain JSON, in the form saved to ``benchmarks/results``."""
    return {"schema_version": 1, "version": __version__, "environment": environment(), **facts}
