"""Whether the installed Typer can drive the command line.

A Typer that is older than the Click beside it fails in two ways: it raises while it prints help or a usage error, or it
takes every option for given, prints the version and ends well without having run anything (0.12 beside Click 8.5).
pyproject.toml asks for a Typer that works; who forces another one is told, and nothing looks as if it were done.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from samkr_edge.errors import SamkrError

# From here on help, options and usage errors all work with the newest Click that it accepts: 0.12.0 to 0.15.0 misread
# Click 8.5, 0.17.0 to 0.17.3 do not find `rich.markup`.
LOWEST = "0.17.4"


def did_nothing(arguments: list[str], entered: list[str]) -> bool:
    """Whether a command line that ended well names a command (and not an option of the root), and none was entered."""
    return bool(arguments) and not arguments[0].startswith("-") and not entered


def is_of_the_parser(error: BaseException) -> bool:
    """Whether an exception was raised in Typer or Click themselves, and not in what they call."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    module = traceback.tb_frame.f_globals.get("__name__", "") if traceback is not None else ""
    return module.partition(".")[0] in ("typer", "click")


def mismatch(reason: str) -> SamkrError:
    """SE-U98: Typer and Click do not work together here."""
    return SamkrError(
        "SE-U98",
        "the installed Typer cannot run this command line, so nothing was done",
        [
            f"reason     {reason}",
            f"found      typer {_version('typer')}, click {_version('click')}",
            f"expected   typer {LOWEST} or later",
        ],
        fix=f'pip install --upgrade "typer>={LOWEST}"',
    )


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "without metadata"
