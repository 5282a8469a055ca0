"""A network's name that the zoo does not have."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from samkr_edge.errors import SamkrError


def unknown_network(name: str, known: Sequence[str], fix: str) -> SamkrError:
    """SE-U01: there is no network of this name; the error names the nearest of those that there are."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return SamkrError(
        "SE-U01", f"there is no model named {name!r}", {"nearest": ", ".join(near) or None}, fix=fix
    )
