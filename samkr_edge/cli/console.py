"""Results go to stdout, everything about the way there to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from samkr_edge.artefact import json_text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

OUTPUT_SCHEMA_VERSION = 1
_LOG_EVERY_S = 10.0


class Advance(Protocol):
    """Move a progress bar on by ``n``; ``note`` replaces the text at its end."""

    def __call__(self, n: float = 1, note: str = "") -> None: ...


def console(*, stderr: bool = False) -> Console:
    """A console; 110 columns where the output is not a terminal, so that a table in a log stays readable.

    Text means what it says: without this, Rich takes ``samkr-edge[train]`` and a policy's ``[0-9]`` for markup.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 110, highlight=False, markup=False)


def emit(payload: dict[str, Any], human: RenderableType | str, as_json: bool) -> None:
    """Print a command's result on stdout: ``human`` for people, or ``payload`` as one JSON object."""
    if as_json:
        print(json_text({"schema_version": OUTPUT_SCHEMA_VERSION, **payload}, indent=None), end="")
    else:
        console().print(human)


def say(text: str) -> None:
    """One line on stderr."""
    console(stderr=True).print(text)


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
