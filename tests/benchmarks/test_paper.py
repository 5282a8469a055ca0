"""The paper's figures, as they are quoted beside ours."""

from __future__ import annotations

import pytest

from benchmarks.paper import TABLES, PaperFigure, paper_figure


@pytest.mark.parametrize(
    ("network", "skeleton", "figure"),
    [
        ("samkr_w48", "coco17", PaperFigure(71.6, "COCO val2017, Table 3", 164.4)),
        ("dekr_w32", "coco17", PaperFigure(68.0, "COCO val2017, Table 3")),
        ("samkr_w48", "crowdpose14", PaperFigure(74.4, "CrowdPose test, Table 5")),
        ("swahr_w48", "coco17", PaperFigure(70.8, "COCO val2017, Table 3", 816.3)),
        ("higherhrnet_w32", "coco17", PaperFigure(67.1, "COCO val2017, Table 3")),
        ("higherhrnet_w48", "crowdpose14", PaperFigure(65.9, "CrowdPose test, Table 5")),
        ("swahr_w32", "crowdpose14", None),  # the paper has only W48 there
        ("8_samkr_16", "coco17", None),  # our other name for a network that is in the paper once
        ("samkr_tiny", "coco17", None),
        ("samkr_w32", "mine21", None),
    ],
)
def test_a_figure_is_that_of_the_table_for_the_data(
    network: str, skeleton: str, figure: PaperFigure | None
) -> None:
    assert paper_figure(network, skeleton) == figure


def test_a_cell_that_the_paper_leaves_open_is_no_figure() -> None:
    table = TABLES[2]
    assert table.printed("higherhrnet_w32", "AP M") is None
    assert table.printed("higherhrnet_w32", "Params M") == 28.5


def test_every_row_of_the_four_systems_names_our_network() -> None:
    ours = {
        "HrHRNet-W32": "higherhrnet_w32", "HrHRNet-W48": "higherhrnet_w48",
        "SWAHR (HrHRNet-W32)": "swahr_w32", "SWAHR (HrHRNet-W48)": "swahr_w48",
        "DEKR (W32)": "dekr_w32", "DEKR (W48)": "dekr_w48",
        "SAMKR (W32)": "samkr_w32", "SAMKR (W48)": "samkr_w48",
        "SWAHR": "swahr_w48", "DEKR": "dekr_w48", "SAMKR": "samkr_w48",
    }  # fmt: skip
    rows = [row for table in TABLES[2:] for row in table.rows]
    assert {row.cells[0]: row.networks[0] for row in rows if row.networks} == ours
    assert not [row.cells[0] for row in rows if row.cells[0] in ours and not row.networks]
