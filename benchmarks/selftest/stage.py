"""A stage of the self-test: what it needs, and the checks that it yields one by one as they are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from samkr_edge.errors import SamkrError

Needs = Literal["gpu", "tensorrt", "onnx", "torch", "jetson"]


@dataclass(frozen=True)
class Check:
    """One thing measured.

    Attributes:
        what: in a few words, unique within its stage.
        found: what was measured, as text; for a check that could not be run, the reason.
        limit: the limit, as text.
        passed: None if it was not run.
        figures: the numbers behind ``found``, plain JSON, names with units: ``largest_error``, ``gpu_ms``.
    """

    what: str
    found: str
    limit: str
    passed: bool | None
    figures: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def not_run(what: str, why: str) -> Check:
    """A check that cannot run on this machine or version."""
    return Check(what, why, "", None)


@dataclass(frozen=True)
class Rig:
    """Where a stage works.

    Attributes:
        folder: an empty folder for this stage, deleted afterwards.
        shared: a folder for what several stages need (rendered people, built engines), by name; made if missing.
    """

    folder: Path
    shared: Path


def refused(what: str, error: SamkrError, limit: str = "no error") -> Check:
    """A check that failed with a samkr-edge error instead of a figure."""
    return Check(what, f"{error.code}: {error.message}", limit, False, {"error": error.to_dict()})


Checks = Callable[[Rig], Iterator[Check]]


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        number: 0 to 12, the order in which they run.
        title: for people.
        checks: "module:function" of a ``Checks``; imported only when the stage runs.
        needs: requirements; if one is missing, the stage is not run, which is no failure.
        minutes: approximate time on an Orin Nano, for ``--minutes``.
    """

    number: int
    title: str
    checks: str
    needs: tuple[Needs, ...]
    minutes: float
