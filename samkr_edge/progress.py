"""A progress bar on stderr, or in a log a line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from samkr_edge.printable import one_line
from samkr_edge.terminal import console, say

if TYPE_CHECKING:
    from rich.console import Console

_LOG_EVERY_S = 10.0


class Advance(Protocol):
    """Move a progress bar on by ``n``; ``note`` replaces the text at its end."""

    def __call__(self, n: float = 1, note: str = "") -> None: ...


@contextmanager
def progress(label: str, total: float | None, *, unit: str = "") -> Iterator[Advance]:
    """A progress bar on stderr with the time taken and left; ``total=None`` shows a pulse.

    Where stderr is no terminal (a log, CI), a line every ten seconds says how far it is, and one how it ended.
    """
    screen = console(stderr=True)
    label = one_line(label)
    with _bar(screen, label, total, unit) if screen.is_terminal else _lines(label, total, unit) as advance:
        yield advance


@contextmanager
def _bar(screen: Console, label: str, total: float | None, unit: str) -> Iterator[Advance]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=32),
        TextColumn("{task.fields[so_far]}", markup=False),
        TimeElapsedColumn(),
        *([] if total is None else [TimeRemainingColumn()]),
        TextColumn("{task.fields[note]}", markup=False),
        console=screen,
    )
    with bar:
        task = bar.add_task(label, total=total, so_far=_so_far(0, total, unit), note="")

        def advance(n: float = 1, note: str = "") -> None:
            if note:
                bar.update(task, note=one_line(note))
            bar.update(task, advance=n, so_far=_so_far(bar.tasks[task].completed + n, total, unit))

        yield advance


@contextmanager
def _lines(label: str, total: float | None, unit: str) -> Iterator[Advance]:
    done, last_note = 0.0, ""
    started = told = time.monotonic()

    def tell() -> None:
        elapsed = str(timedelta(seconds=round(time.monotonic() - started)))
        say(f"{label}: " + ", ".join(filter(None, (_so_far(done, total, unit), last_note, elapsed))))

    def advance(n: float = 1, note: str = "") -> None:
        nonlocal done, last_note, told
        done, last_note = done + n, one_line(note) or last_note
        ended = total is not None and done > total - 1e-6  # the last line says it
        if not ended and time.monotonic() - told >= _LOG_EVERY_S:
            told = time.monotonic()
            tell()

    try:
        yield advance
    except BaseException:
        if done:  # what was refused before it began got nowhere
            tell()
        raise
    tell()


def _so_far(done: float, total: float | None, unit: str) -> str:
    """As "2 of 3 images", "37 %", "12 frames"; empty where nothing is counted."""
    if unit == "%":
        return f"{done:.0f} %"
    if total is None:
        return f"{done:.0f} {unit}" if unit else ""
    digits = 1 if unit == "s" and total < 10 else 0
    return f"{done:.{digits}f} of {total:.{digits}f} {unit}".rstrip()
