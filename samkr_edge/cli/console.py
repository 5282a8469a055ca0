"""A command's result, for people or as JSON, on stdout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from samkr_edge.cli.tables import fitted
from samkr_edge.json_output import OUTPUT_SCHEMA_VERSION, print_json
from samkr_edge.printable import printable
from samkr_edge.terminal import arriving, console, put

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

_PAGE = 110


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
    """A line across the screen on stdout that begins with ``text``; without a screen it has a page's width."""
    from rich.rule import Rule
    from rich.text import Text

    show(Rule(Text(text, "bold"), align="left"), width=_PAGE)


def show(result: RenderableType | str, style: str | None = None, *, width: int | None = None) -> None:
    """Print a result for people on stdout, no wider than ``width`` characters.

    Lines of plain text are not wrapped: a terminal does that, and copies them whole.
    """
    if isinstance(result, str) and style is None:  # Rich would turn tabs into spaces
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
    """Something to print, with the control characters of names made visible."""

    def __init__(self, content: RenderableType) -> None:
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        from rich.segment import Segment

        for segment in console.render(self._content, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
