"""No cell of any table is cut, however narrow the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from samkr_edge.cli.tables import fitted

NAME = "runs/2026-11-28/samkr_w32_coco-qat.cpu.onnx"


def table() -> Table:
    """Columns as our commands make them, the one that Rich cuts by default among them."""
    made = Table(title="what is here")
    made.add_column("model")
    made.add_column("about", overflow="fold")
    made.add_column("AP", justify="right")
    made.add_column("difference", justify="right", no_wrap=True)
    made.add_row(Text("ok", "green"), "distilled from the float network", "57.1", "-0.3 [-0.8, +0.2]")
    made.add_row(NAME, NAME, "", "")
    return made


def printed(width: int) -> str:
    stream = io.StringIO()
    screen = Console(file=stream, width=width, highlight=False)
    screen.print(fitted(Group(table(), "end"), screen))
    return stream.getvalue()


@pytest.mark.parametrize("width", [20, 40, 80, 100, 140])
def test_every_cell_is_whole(width: int) -> None:
    text = printed(width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for word in ("57.1", "distilled", "network", "-0.3"):
        assert word in text
    everything = "".join(letter for letter in text if letter not in " \n│┃")
    assert everything.count(NAME) >= 1


def test_a_table_that_fits_stays_one_and_one_that_does_not_becomes_a_list() -> None:
    assert "│" in printed(140)
    assert "│" in printed(100)  # the prose on two lines
    lines = [line.rstrip() for line in printed(40).splitlines()]
    assert lines[:4] == ["what is here", "ok", "  about: distilled from the float", "  network"]


def test_a_list_leaves_empty_cells_out() -> None:
    assert printed(40).count("AP:") == 1
