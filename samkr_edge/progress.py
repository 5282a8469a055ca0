"""A progress bar on stderr, or in a log a line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from samkr_edge.printable import one_line
from samkr_edge.terminal import console, say

_LOG_EVERY_S = 10.0


class Advance(Protocol):
    """Move a progress bar on by ``n``; ``note`` replaces the text at its end."""

    def __call__(self, n: float = 1, note: str = "") -> None: ...


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
