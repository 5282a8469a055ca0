"""Files named by a user: one that is missing, and two that would have the same name in one folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from samkr_edge.errors import SamkrError
from samkr_edge.fixes import look_beside, quoted

# What opening a missing file raises.
NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


def missing_file(path: str | Path, what: str, fix: str | None = None) -> SamkrError:
    """SE-A23, for every kind of file and folder; says so if the name belongs to something else.

    Args:
        what: kind of file that was expected: ``model``, ``checkpoint``.
        fix: replaces the default, a look at the nearest folder.
    """
    found = None
    if os.path.isdir(path):
        found = "a folder"
    elif os.path.exists(path):
        found = "a file" if os.path.isfile(path) else "a pipe or a device"
    elif os.path.islink(path):
        found = f"a link to {os.path.realpath(path)}, which does not exist"
    return SamkrError(
        "SE-A23",
        f"there is no {what} {path}, so nothing was done",
        {"found": found},
        fix=fix or (f"name a file in it: ls {quoted(path)}" if os.path.isdir(path) else look_beside(path)),
    )


def one_name(paths: Sequence[Path]) -> SamkrError:
    """SE-U93: files of different folders that would share one, as in a bundle or on a device."""
    return SamkrError(
        "SE-U93",
        "two files in one folder cannot have the same name, so nothing was done",
        {"file": paths},
        fix="rename one of them, and the passport next to it if it is a built model",
    )
