"""Typer's errors about a command line as ours: one form, for people and for `--json`."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from typing import Any

from samkr_edge.errors import SamkrError
from samkr_edge.fixes import SPREAD_GLOB, meant, quoted

USAGE = "SE-U00"
_LONGEST = 150
_NO_CHOICE = re.compile(r"'([^']*)' is not one of (.+)")


def usage_error(error: Exception, words: Sequence[str]) -> SamkrError | None:
    """SE-U00 for a missing argument, an unknown option or command, a value that does not fit; else None."""
    say = getattr(error, "format_message", None)
    if getattr(error, "exit_code", None) != 2 or not callable(say) or help_instead(error) is not None:
        return None
    # Typer lists choices on separate lines; two sentences stay two.
    message = ", ".join(line.strip().rstrip(",") for line in str(say()).splitlines() if line.strip())
    message = message.replace(": Value error, ", ": ")  # how some versions of Typer report an invalid choice
    context: Any = getattr(error, "ctx", None)
    facts = {} if context is None else {"usage": " ".join(context.get_usage().split()[1:])}
    if "unexpected extra argument" in message:
        message = message if len(message) <= _LONGEST else f"{message[:_LONGEST]}...)"
        if "--photos" in words:
            facts["usual"] = SPREAD_GLOB
    if choice := _NO_CHOICE.search(message):
        facts |= meant(choice[1], re.findall("'([^']+)'", choice[2]))
    command = "samkr-edge" if context is None else context.command_path
    if files := _files_like_options(words):
        facts["a file"] = f"{files[0]} is one here, and was read as options"
        again = (quoted(word) if word in files else shlex.quote(word) for word in words)
        return SamkrError("SE-U00", message, facts, fix=" ".join(["samkr-edge", *again]))
    return SamkrError("SE-U00", message, facts, fix=f"{command} --help")


def _files_like_options(words: Sequence[str]) -> list[str]:
    """Words such as ``-dash.mp4`` that name a file; after ``--`` they are not taken for options."""
    words = words[: words.index("--")] if "--" in words else words
    return [word for word in words if word.startswith("-") and os.path.exists(word)]


def empty_word(words: Sequence[str]) -> SamkrError | None:
    """SE-U00 for an empty word, which as a path would be the working directory."""
    for before, word in zip(["", *words], words, strict=False):
        option, sign, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if not word or (sign and not value):
            where = option or (f"what follows {before}" if before else "the first word")
            return SamkrError(
                "SE-U00",
                f"{where} is empty, so nothing was done",
                {"usual": "an unset shell variable"},
                fix="give it a value, or leave it out",
            )
    return None


def help_instead(error: Exception) -> str | None:
    """The help that Typer raises without a command, empty if it was already printed; else None."""
    # By name: the class has moved between Click's modules and Typer's own.
    return str(error.format_message()) if type(error).__name__ == "NoArgsIsHelpError" else None  # type: ignore[attr-defined]
