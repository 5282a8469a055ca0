"""Results go to stdout, everything about the way there to stderr."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from samkr_edge.artefact import json_text
from samkr_edge.cli.streams import arriving
from samkr_edge.cli.tables import fitted
from samkr_edge.errors import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

OUTPUT_SCHEMA_VERSION = 1
_LOG_EVERY_S = 10.0
_UNBROKEN = 100_000
_PAGE = 110


class Advance(Protocol):
    """Move a progress bar on by ``n``; ``note`` replaces the text at its end."""

    def __call__(self, n: float = 1, note: str = "") -> None: ...


def console(*, stderr: bool = False) -> Console:
    """A console. In a pipe or a file no line is broken and no cell is cut, however long: programs read them.

    Text means what it says: without this, Rich takes ``samkr-edge[train]`` and a policy's ``[0-9]`` for markup, and
    ``:warning:`` in a file's name for a picture.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _UNBROKEN
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def emit(payload: dict[str, Any], human: RenderableType | str, as_json: bool) -> None:
    """Print a command's result on stdout: ``human`` for people, or ``payload`` as one JSON object."""
    if as_json:
        print_json({"schema_version": OUTPUT_SCHEMA_VERSION, **payload})
    elif isinstance(human, str):
        show(human)
    else:
        screen = console()
        with arriving():
            screen.print(fitted(human, screen))


def heading(text: str) -> None:
    """A line across the screen on stdout with ``text`` at its beginning; as wide as a page where there is no screen."""
    from rich.rule import Rule
    from rich.text import Text

    screen = console()
    with arriving():
        screen.print(Rule(Text(printable(text), "bold"), align="left"), width=min(screen.width, _PAGE))


def print_json(payload: dict[str, Any]) -> None:
    """One JSON object on stdout; what its encoding lacks as ``\\uXXXX``, which is the same to who reads JSON.

    JSON has no NaN and no infinity: they are null.
    """
    payload = _finite(payload)
    text = json_text(payload, indent=None)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(payload) + "\n"
    with arriving():
        print(text, end="", flush=True)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, (list, tuple)) else value


def show(text: str, style: str | None = None) -> None:
    """Text on stdout, its lines whole: where they do not fit, the terminal breaks them, and copies them whole."""
    with arriving():
        console().print(printable(text), style=style, soft_wrap=True)


def say(text: str) -> None:
    """The same on stderr."""
    console(stderr=True).print(printable(text), soft_wrap=True)


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
                bar.update(task, note=note)
            bar.advance(task, n)
            if not bar.console.is_terminal and time.monotonic() - told >= _LOG_EVERY_S:
                told = time.monotonic()
                of = "" if total is None else f" of {total:g}"
                print(f"{label}: {bar.tasks[task].completed:g}{of} {unit} {note}".rstrip(), file=sys.stderr)

        yield advance
