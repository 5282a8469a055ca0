"""Every pass over a graph says what it turns into what, and whether the numbers stay."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

from samkr_edge.builder.cpu.branches import take_apart
from samkr_edge.builder.cpu.retarget import PASSES
from samkr_edge.builder.enlarge import enlarge_sums
from samkr_edge.builder.tensorrt.edits import STEPS
from samkr_edge.builder.tensorrt.image_input import planar_input

STEP_PASSES = [step.on_file or step.on_graph for step in STEPS]
ALL = [
    *(one.run for one in PASSES),
    take_apart,
    planar_input,
    *(one for one in STEP_PASSES if one is not enlarge_sums),
]


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.__name__)
def test_a_pass_says_its_rewrite_and_whether_it_is_exact(one: Callable[..., Any]) -> None:
    text = inspect.getdoc(one) or ""
    assert any("=>" in line for line in text.splitlines() if line.startswith("    "))
    assert re.search("(?i)\\bexact", text)
    assert inspect.signature(one).return_annotation == "int"


def test_no_two_passes_count_under_one_name() -> None:
    assert len({one.field for one in PASSES}) == len({one.words for one in PASSES}) == len(PASSES)
