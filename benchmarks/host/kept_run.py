"""What every kept run of these scripts begins with: its schema, the version and the machine."""

from __future__ import annotations

from typing import Any

from samkr_edge import __version__
from samkr_edge.doctor.environment import environment


def kept_run(**facts: Any) -> dict[str, Any]:
    """Plain JSON of one run, as it is kept in ``benchmarks/results``."""
    return {"schema_version": 1, "version": __version__, "environment": environment(), **facts}
