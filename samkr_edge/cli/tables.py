"""Tables on a narrow terminal, without cut cells: text wraps between words; if still too wide, rows become lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Column, Table

# Characters. A longer word may be broken if its column allows it by ``overflow="fold"``.
_LONG_WORD = 20
_UNLIMITED = 100_000


def fitted(shown: RenderableType, screen: Console) -> RenderableType:
    """What is to be printed, with every table replaced by ``fitted_table``."""
    from rich.console import Group
    from rich.table import Table

    if isinstance(shown, Table):
        return fitted_table(shown, screen)
    if isinstance(shown, Group):
        return Group(*(fitted(part, screen) for part in shown.renderables))
    return shown


def fitted_table(table: Table, screen: Console) -> RenderableType:
    """The table; if it is too wide, with wrapped text; if that is not enough, as a list of its rows.

    Numbers (right-aligned columns) and columns with ``no_wrap`` stay on one line. Words stay whole, except long ones
    in a column that folds.
    """
    natural = [_width(column, screen) for column in table.columns]
    least = [_least(column, width, screen) for column, width in zip(table.columns, natural, strict=True)]
    room = screen.width - _frame(table, natural, screen)
    if sum(natural) <= room:
        return table
    if sum(least) > room:
        return _as_list(table)
    spare, wanted = room - sum(least), sum(natural) - sum(least)
    for column, few, many in zip(table.columns, least, natural, strict=True):
        column.overflow = "fold"
        column.width = few + (many - few) * spare // wanted
    return table


def _width(column: Column, screen: Console) -> int:
    """The width of the column's widest line."""
    from rich.measure import Measurement

    unlimited = screen.options.update(max_width=_UNLIMITED)
    cells = [Measurement.get(screen, unlimited, cell).maximum for cell in (column.header, *column.cells)]
    return max([*cells, column.min_width or 0])


def _least(column: Column, natural: int, screen: Console) -> int:
    """The least width in which the column can be read."""
    from rich.measure import Measurement

    if column.no_wrap:
        return natural
    unlimited = screen.options.update(max_width=_UNLIMITED)
    cells = [Measurement.get(screen, unlimited, cell) for cell in column.cells]
    words = [Measurement.get(screen, unlimited, column.header).minimum]
    words += [cell.maximum if column.justify == "right" else cell.minimum for cell in cells]
    longest = min(max(words), _LONG_WORD) if column.overflow == "fold" else max(words)
    return max(longest, column.min_width or 0)


def _frame(table: Table, natural: list[int], screen: Console) -> int:
    """Characters that borders and padding take."""
    from rich.measure import Measurement

    whole = Measurement.get(screen, screen.options.update(max_width=_UNLIMITED), table).maximum
    return whole - sum(natural)


def _as_list(table: Table) -> RenderableType:
    """Each row as its first cell, and under it a line for every other non-empty cell."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    lines: list[RenderableType] = [] if table.title is None else [Text(str(table.title), "italic")]
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        name, *others = (cell if isinstance(cell, Text) else Text(str(cell)) for cell in cells)
        lines.append(Text.assemble(name, style="bold"))
        for column, value in zip(table.columns[1:], others, strict=True):
            if value.plain:
                heading = " ".join(str(column.header).split())
                line = Text.assemble(f"{heading}: " if heading else "", value)
                lines.append(Padding(line, (0, 0, 0, 2), expand=False))
    return Group(*lines, *([] if table.caption is None else [Text(str(table.caption), "dim")]))
