"""Options of `predict` about videos and what is written while they run."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import typer

from samkr_edge.cli.places import file_to_write
from samkr_edge.frames.excerpt import Excerpt, seconds_of

STDOUT = Path("-")
# Most pictures a second on the page: more is hardly seen, and every one takes time from the network.
PAGE_RATE = 15.0


def video_time(name: str, help: str) -> Any:
    """An option that takes a time in a video; see ``samkr_edge.frames.excerpt.seconds_of``."""
    return typer.Option(name, metavar="TIME", help=help, callback=_is_time)


def lines_place() -> Any:
    """``--jsonl``: a file, or - for stdout."""
    return typer.Option(
        "--jsonl", help="Write one JSON line a frame as it happens; - is stdout.", callback=_place
    )


def excerpt_of(every: int, start: str | None, stop: str | None) -> Excerpt:
    """The frames of video files that ``--every``, ``--from`` and ``--to`` name.

    Raises:
        typer.BadParameter: none can be between.
    """
    begin, end = seconds_of(start or "0"), inf if stop is None else seconds_of(stop)
    if begin >= end:
        raise typer.BadParameter(f"nothing is from {start or 0} to {stop}: --to is the later time")
    return Excerpt(every, begin, end)


def _is_time(text: str | None) -> str | None:
    if text is not None:
        try:
            seconds_of(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    return text


def _place(place: Path | None) -> Path | None:
    written_into = place is not None and (place == STDOUT or place.is_fifo())
    return place if written_into else file_to_write(place)
