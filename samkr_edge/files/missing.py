"""A file that was named and is not there: one error, whatever the file would have been."""

from __future__ import annotations

from pathlib import Path

from samkr_edge.errors import SamkrError
from samkr_edge.fixes import look_beside


def missing_file(path: str | Path, what: str, fix: str | None = None) -> SamkrError:
    """SE-A23.

    Args:
        what: kind of file that was expected: ``model``, ``checkpoint``.
        fix: where more helps than a look at what is beside it.
    """
    return SamkrError(
        "SE-A23", f"there is no {what} {path}, so nothing was done", fix=fix or look_beside(path)
    )
