"""Run stages in this process; ``benchmarks.selftest.supervise`` runs each in its own process."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.selftest.stage import Check, Rig, Stage
from samkr_edge.errors import SamkrError, reason_of
from samkr_edge.packages import resolve


def run_stage(stage: Stage, rig: Rig) -> Iterator[Check]:
    """The stage's checks as they are measured; an exception becomes the last one, failed."""
    rig.folder.mkdir(parents=True, exist_ok=True)
    rig.shared.mkdir(parents=True, exist_ok=True)
    try:
        yield from resolve(stage.checks)(rig)
    except SamkrError as error:
        yield Check("no error", f"{error.code}: {error.message}", "none", False, {"error": error.to_dict()})
    except Exception as error:
        yield Check("no error", f"{type(error).__name__}: {reason_of(error)}", "none", False)
