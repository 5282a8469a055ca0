"""The table on the terminal keeps its numbers whatever its width."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from benchmarks.report.table import render
from benchmarks.schema import ModelResult, Results
from samkr_edge.cli.tables import fitted


@pytest.mark.parametrize("width", [20, 40, 76, 110])
def test_a_narrow_terminal_folds_names_and_never_numbers(
    three_models: list[ModelResult], run_of: Callable[..., Results], width: int
) -> None:
    named = [
        m.model_copy(update={"name": f"{m.name}, a-file-with-a-long-name.cpu.onnx"}) for m in three_models
    ]
    stream = io.StringIO()
    screen = Console(file=stream, width=width, highlight=False)
    screen.print(fitted(render(run_of(named)), screen))
    text = stream.getvalue()
    assert "AP" in text
    for model in named:
        assert f"{model.ap:.1f}" in text
        assert f"{model.latency.p99_ms:.2f}" in text
    assert "…" not in text
