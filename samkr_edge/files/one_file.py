"""One file under two paths (relative and absolute, through a link, in another case), and two files under one path."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import sha256_of


def is_same_place(first: str | Path, second: str | Path) -> bool:
    """Whether writing to one path would replace the file of the other; neither need exist.

    A link to itself leads to itself. Hard links are two places: writing to one leaves the other.
    """
    return os.path.realpath(first) == os.path.realpath(second)


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file; for a missing file, whether they are one path."""
    try:
        return one.samefile(other)
    except OSError:
        return one == other


def refuse_replacing(source: Path, out: Path, instead: str) -> None:
    """Refuse to write a result over what it is made from.

    Raises:
        SamkrError: SE-U51; ``instead`` is the option that names another place.
    """
    if is_same_place(out, source):
        raise SamkrError(
            "SE-U51", f"{out} would replace what it is made from, so nothing was done", fix=instead
        )


def refuse_twice(paths: Sequence[Path], done: str) -> None:
    """Refuse one file as two models; a copy is another file, with another name.

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


def digests_of(paths: Iterable[Path]) -> dict[Path, str]:
    """SHA-256 of each existing file, taken before it is opened: see ``refuse_replaced``."""
    return {path: sha256_of(path) for path in paths if path.is_file()}


def refuse_replaced(digests: Mapping[Path, str], lost: str) -> None:
    """Refuse a result that names files by ``digests`` if one was replaced meanwhile.

    Raises:
        SamkrError: SE-A29, saying what is ``lost``: either version may have been measured.
    """
    for path, digest in digests.items():
        now = sha256_of(path) if path.is_file() else "it is gone"
        if now != digest:
            raise SamkrError(
                "SE-A29",
                f"{path} was replaced while it was in use, so {lost}",
                {"before": digest, "now": now},
                fix="run it again when nothing builds or exports to that name, or give it a copy",
            )
