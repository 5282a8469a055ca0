"""The three standard streams, which may be closed, full, without a reader, or in another encoding.

Results go to stdout, and one that cannot be printed is an error. Notes go to stderr, where a failure never ends the
work: there may be no reader.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from samkr_edge.errors import SamkrError
from samkr_edge.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

_UNBROKEN = 100_000


def console(*, stderr: bool = False) -> Console:
    """A console. In a pipe or a file no line is broken and no cell is cut, however long: programs read them.

    Text means what it says: without this, Rich takes ``samkr-edge[train]`` and a policy's ``[0-9]`` for markup, and
    replaces the middle of ``12:on:05.mp4`` by a picture.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _UNBROKEN
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def say(text: str) -> None:
    """Print lines on stderr; a live progress bar is moved below them."""
    print(printable(text), file=sys.stderr)


def put(text: str) -> bool:
    """Print a result on stdout unchanged, and flush; see ``arriving``. False if its reader has left."""
    with arriving():
        print(text, end="", flush=True)
        return True
    return False


@contextmanager
def arriving() -> Iterator[None]:
    """Report what stdout refuses inside ``with``. A reader that has left (`| head`) has seen enough: no error.

    Raises:
        SamkrError: SE-D06 it cannot be written (a full disk).
    """
    try:
        yield
    except BrokenPipeError:
        discard_stdout()
    except OSError as error:
        discard_stdout()
        raise SamkrError(
            "SE-D06",
            "the output could not be written to stdout",
            {"reason": error.strerror or error},
            fix="redirect it to a place with space; files that the command wrote are complete",
        ) from error


def delivered(code: int) -> int:
    """The exit code, after flushing all that was printed; 3 if that fails."""
    try:
        put("")
    except SamkrError as error:
        say(str(error))
        return code or error.exit_code
    return code


def discard_stdout() -> None:
    """Discard what stdout still holds and all that follows, since Python flushes it once more at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def nobody_reads() -> bool:
    """Whether stdout cannot be written because the reader of the pipe has left."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return True
    return False


def open_streams() -> None:
    """Make the standard streams safe to use; called at the start of our processes.

    A closed one gets the null device: otherwise the next opened file would get its number, and what a library prints
    would go into that file. Characters that a stream's encoding lacks are printed as ``\\xfc`` or ``\\u2026``.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # `open` takes the lowest free number: this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is None or isinstance(sys.stderr, io.TextIOWrapper):
        encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(_Heedless(2)), encoding, "backslashreplace", line_buffering=True
        )


class _Heedless(io.RawIOBase):
    """A file object that ignores failures to write."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def writable(self) -> bool:
        return True

    def write(self, data: memoryview, /) -> int:  # type: ignore[override]
        try:
            return os.write(self._number, data)
        except OSError:
            return len(data)
