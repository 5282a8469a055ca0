"""stdout and stderr as a command finds them: closed, full, without some letters, or a pipe that nobody reads."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from samkr_edge.errors import SamkrError


def make_ready() -> None:
    """Let whatever is printed pass: nothing may fail after the work is done because of a letter or a closed stream.

    What an encoding lacks (``LC_ALL=C``, file names that are no UTF-8) is printed as ``\\xe9``. A stream that was
    closed (``>&-``), which Python has as None, becomes one that nobody reads.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (until the process ends)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up(stream: TextIO) -> None:
    """Send what a stream still holds, and all that comes, nowhere: at exit Python would fail on it once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextmanager
def arriving() -> Iterator[None]:
    """Where stdout cannot be written within ``with``, the error says that and speaks of no file; SE-D06.

    A reader that has gone (`| head`) is no error: what is still printed goes nowhere, and the command does the rest.
    """
    try:
        yield
    except (BrokenPipeError, SystemExit):  # the second is Rich's answer to the first
        give_up(sys.stdout)
    except OSError as error:
        raise _lost(error) from error


def tell(text: object) -> None:
    """A line on stderr; where that cannot be written either, the exit code is all that is left."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        give_up(sys.stderr)


def flushed(code: int) -> int:
    """The exit code, once all that was printed has arrived; 3 where it could not (a full disk)."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        give_up(sys.stdout)
    except OSError as error:
        give_up(sys.stdout)
        code = code or _lost(error).exit_code
        tell(_lost(error))
    try:
        sys.stderr.flush()
    except OSError:
        give_up(sys.stderr)
    return code


def _lost(error: OSError) -> SamkrError:
    return SamkrError(
        "SE-D06",
        "what this command printed could not be written, so it is lost",
        [f"reason     {error.strerror or error}"],
        fix="free some room where its output goes, then the same command again",
    )
