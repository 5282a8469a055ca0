"""Whether the installed Typer can drive the command line.

With a Typer that is too old for the installed Click, help or usage errors raise, a missing argument becomes None, or
every option counts as given, so that the version is printed and nothing runs (0.12 with Click 8.5). pyproject.toml
requires a Typer that works; this reports one that was forced.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from samkr_edge.errors import SamkrError

# From this version on help, options, missing arguments and usage errors work with the newest Click that it accepts.
LOWEST = "0.18.0"


def did_nothing(arguments: list[str], entered: list[str]) -> bool:
    """Whether a successful command line names a command (not an option of the root) that was never entered."""
    words = [argument for argument in arguments if argument != "--"]
    return bool(words) and not words[0].startswith("-") and not entered


def is_too_old(version_of_typer: str | None = None) -> bool:
    """Whether the installed Typer, or the given version, is too old."""
    return _numbers(version_of_typer or _version("typer")) < _numbers(LOWEST)


def mismatch(reason: str) -> SamkrError:
    """SE-U98: the installed Typer and Click do not work together."""
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
