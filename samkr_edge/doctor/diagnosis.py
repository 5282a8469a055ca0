"""One line of ``samkr-edge doctor``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Diagnosis:
    """One thing that works or does not, and how to fix it."""

    works: bool
    what: str
    detail: str
    fix: str = ""
