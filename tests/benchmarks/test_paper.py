"""The paper's figures, as they are quoted beside ours."""

from __future__ import annotations

import pytest

from benchmarks.paper import PaperFigure, paper_figure


@pytest.mark.parametrize(
    ("network", "skeleton", "figure"),
    [
        ("samkr_w48", "coco17", PaperFigure(71.6, "COCO val2017, Table 3", 164.4)),
        ("dekr_w32", "coco17", PaperFigure(68.0, "COCO val2017, Table 3")),
        ("samkr_w48", "crowdpose14", PaperFigure(74.4, "CrowdPose test, Table 5")),
        ("8_samkr_16", "coco17", None),  # our other name for a network that is in the paper once
        ("samkr_tiny", "coco17", None),
        ("samkr_w32", "mine21", None),
    ],
)
def test_a_figure_is_that_of_the_table_for_the_data(
    network: str, skeleton: str, figure: PaperFigure | None
) -> None:
    assert paper_figure(network, skeleton) == figure
