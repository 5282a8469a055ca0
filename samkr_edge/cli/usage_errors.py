"""What Typer says of a command line that it cannot read, as an error of ours: one form, for people and for `--json`."""

from __future__ import annotations

from typing import Any

from samkr_edge.errors import SamkrError

USAGE = "SE-U00"


def usage_error(error: Exception) -> SamkrError | None:
    """SE-U00 for a missing argument, an unknown option or command, a value that does not fit; else None."""
    say = getattr(error, "format_message", None)
    if getattr(error, "exit_code", None) != 2 or not callable(say) or help_instead(error) is not None:
        return None
    # Choices come one below the other; two of Typer's own sentences stay two.
    message = ", ".join(line.strip().rstrip(",") for line in str(say()).splitlines() if line.strip())
    context: Any = getattr(error, "ctx", None)
    facts = [] if context is None else [f"usage      {' '.join(context.get_usage().split()[1:])}"]
    command = "samkr-edge" if context is None else context.command_path
    return SamkrError("SE-U00", message, facts, fix=f"{command} --help")


def help_instead(error: Exception) -> str | None:
    """The help that Typer raises where a command line names no command, empty where it has printed it; else None."""
    # By name: the class has moved between Click's modules and Typer's own.
    return str(error.format_message()) if type(error).__name__ == "NoArgsIsHelpError" else None  # type: ignore[attr-defined]
