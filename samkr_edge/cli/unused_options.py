"""Options that a command would ignore are a mistake, not a detail."""

from __future__ import annotations

from collections.abc import Mapping

from samkr_edge.errors import SamkrError


def refuse_unused(needed: str, given: object, options: Mapping[str, object]) -> None:
    """Refuse options that mean nothing since what they belong to is not given.

    Args:
        needed: what they belong to, as in "--data DIR".
        given: its value, None if it is not given.
        options: name -> value, None for those that are not given.

    Raises:
        SamkrError: SE-U78.
    """
    unused = [name for name, value in options.items() if value is not None]
    if unused and given is None:
        raise SamkrError(
            "SE-U78",
            f"{', '.join(unused)} needs {needed}, which is not given, so nothing was done",
            fix=f"run the same command with {needed}, or without {unused[0]}",
        )
