"""One file under two paths: relative and absolute, through a link, by another case of letters."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from samkr_edge.errors import SamkrError


def is_same_place(first: str | Path, second: str | Path) -> bool:
    """Whether what is written to the one path would replace what the other leads to; neither need exist.

    A link to itself leads to itself. Two names that a file has (hard links) are two places: writing to one leaves the
    other.
    """
    return os.path.realpath(first) == os.path.realpath(second)


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file; of a file that is not there, whether they are one path."""
    try:
        return one.samefile(other)
    except OSError:
        return one == other


def refuse_twice(paths: Sequence[Path], done: str) -> None:
    """Refuse to take one file for two models; a copy is another file, and is told apart by its name.

    Raises:
        SamkrError: SE-U62, saying what was not ``done``.
    """
    for one, other in combinations(paths, 2):
        if is_same_file(one, other):
            raise SamkrError(
                "SE-U62",
                f"{one} was named twice, so nothing was {done}"
                if one == other
                else f"{one} and {other} are one file, so nothing was {done}",
                fix="name each model once",
            )
