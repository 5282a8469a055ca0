"""Whether the installed Typer can drive the command line.

A Typer that is older than the Click beside it raises while it prints help or a usage error, passes None for an argument
that is missing, or takes every option for given, prints the version and ends well without having run anything (0.12
beside Click 8.5). pyproject.toml asks for a Typer that works; who forces another one is told.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from samkr_edge.errors import SamkrError

# From here on help, options, missing arguments and usage errors all work with the newest Click that it accepts.
LOWEST = "0.18.0"


def did_nothing(arguments: list[str], entered: list[str]) -> bool:
    """Whether a command line that ended well names a command (and not an option of the root), and none was entered."""
    words = [argument for argument in arguments if argument != "--"]
    return bool(words) and not words[0].startswith("-") and not entered


def is_too_old(version_of_typer: str | None = None) -> bool:
    """Whether the installed Typer, or the one named, is older than what works."""
    return _numbers(version_of_typer or _version("typer")) < _numbers(LOWEST)


def mismatch(reason: str) -> SamkrError:
    """SE-U98: Typer and Click do not work together here."""
    return SamkrError(
        "SE-U98",
        "the installed Typer cannot run this command line, so nothing was done",
        {
            "reason": reason,
            "found": f"typer {_version('typer')}, click {_version('click')}",
            "expected": f"typer {LOWEST} or later",
        },
        fix=f'pip install --upgrade "typer>={LOWEST}"',
    )


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "without metadata"


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)[:3]]
