"""Results go to stdout, progress and notes to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from samkr_edge.cli.tables import fitted
from samkr_edge.json_output import OUTPUT_SCHEMA_VERSION, print_json
from samkr_edge.printable import one_line, printable
from samkr_edge.terminal import arriving, put, say

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

__all__ = [
    "OUTPUT_SCHEMA_VERSION",
    "Advance",
    "console",
    "emit",
    "heading",
    "print_json",
    "progress",
    "say",
    "show",
]

_LOG_EVERY_S = 10.0
_UNBROKEN = 100_000
_PAGE = 110


class Advance(Protocol):
    """Move a progress bar on by ``n``; ``note`` replaces the text at its end."""

    def __call__(self, n: float = 1, note: str = "") -> None: ...


def console(*, stderr: bool = False) -> Console:
    """A console. In a pipe or a file no line is broken and no cell is cut, however long: programs read them.

    Text means what it says: without this, Rich takes ``samkr-edge[train]`` and a policy's ``[0-9]`` for markup, and
    replaces the middle of ``12:on:05.mp4`` by a picture.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _UNBROKEN
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def emit(payload: dict[str, Any], human: RenderableType | str, as_json: bool) -> None:
    """Print a command's result on stdout: ``human`` for people, or ``payload`` as one JSON object.

    Raises:
        SamkrError: SE-D06 it cannot be written.
    """
    if as_json:
        print_json({"schema_version": OUTPUT_SCHEMA_VERSION, **payload})
    else:
        show(human)


def heading(text: str) -> None:
    """A line across the screen on stdout with ``text`` at its beginning; as wide as a page where there is no screen."""
    from rich.rule import Rule
    from rich.text import Text

    show(Rule(Text(text, "bold"), align="left"), width=_PAGE)


def show(result: RenderableType | str, style: str | None = None, *, width: int | None = None) -> None:
    """Print a result for people on stdout, no wider than ``width`` characters.

    The lines of plain text stay whole: a terminal breaks them itself, and copies them whole.
    """
    if isinstance(result, str) and style is None:  # Rich would make spaces of a tab
        put(printable(result) + "\n")
        return
    screen = console()
    # Rich writes an empty text at the end of a capture, which an unbuffered stdout on a full disk refuses.
    with arriving(), screen.capture() as captured:
        screen.print(
            _Printable(fitted(result, screen)),
            style=style,
            soft_wrap=isinstance(result, str),
            width=None if width is None else min(width, screen.width),
        )
    put(captured.get())


class _Printable:
    """Something to print, without the control characters that names brought into it."""

    def __init__(self, content: RenderableType) -> None:
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        from rich.segment import Segment

        for segment in console.render(self._content, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


@contextmanager
def progress(label: str, total: float | None, *, unit: str = "") -> Iterator[Advance]:
    """A progress bar on stderr with rate and time left; ``total=None`` shows a pulse.

    Where stderr is no terminal (a log, CI) a line every ten seconds says how far it is, and one at the end.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    label = one_line(label)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TextColumn(unit, markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console(stderr=True),
    )
    with bar:
        task = bar.add_task(label, total=total, note="")
        told = time.monotonic()

        def advance(n: float = 1, note: str = "") -> None:
            nonlocal told
            if note:
                bar.update(task, note=one_line(note))
            bar.advance(task, n)
            if not bar.console.is_terminal and time.monotonic() - told >= _LOG_EVERY_S:
                told = time.monotonic()
                of = "" if total is None else f" of {total:g}"
                say(f"{label}: {bar.tasks[task].completed:g}{of} {unit} {one_line(note)}".rstrip())

        yield advance
