"""The modules of our packages, for what must hold of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from samkr_edge.packages import PACKAGES

ROOT = Path(__file__).parents[2]


def sources() -> Iterator[tuple[str, str]]:
    """(path from the root, text) of each."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
