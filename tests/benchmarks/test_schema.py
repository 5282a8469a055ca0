"""``results.json`` survives a round trip, and what is not one is refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.paper import paper_figure
from benchmarks.schema import ModelResult, Results, read_results, write_results
from samkr_edge.errors import SamkrError

RunMaker = Callable[..., Results]


def test_a_run_reads_back_as_it_was_written(
    three_models: list[ModelResult], run_of: RunMaker, tmp_path: Path
) -> None:
    results = run_of(three_models)
    write_results(tmp_path / "results.json", results)
    assert read_results(tmp_path / "results.json") == results
    assert read_results(tmp_path) == results
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_another_schema_version_is_refused(
    three_models: list[ModelResult], run_of: RunMaker, tmp_path: Path
) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({**run_of(three_models).model_dump(mode="json"), "schema_version": 7}))
    with pytest.raises(SamkrError) as caught:
        read_results(path)
    assert (caught.value.code, caught.value.exit_code) == ("SE-A61", 4)
    assert caught.value.facts["schema"] == "7, this version reads 1"


@pytest.mark.parametrize(("text", "code"), [("{}", "SE-A60"), ("[1]", "SE-A60"), ('{"models": [', "SE-D03")])
def test_what_is_not_a_results_file_is_refused(text: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(SamkrError) as caught:
        read_results(tmp_path)
    assert caught.value.code == code


def test_an_edited_file_is_refused_with_the_place(
    three_models: list[ModelResult], run_of: RunMaker, tmp_path: Path
) -> None:
    content = run_of(three_models).model_dump(mode="json")
    content["models"][1]["latency"]["p50_ms"] = "fast"
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(SamkrError) as caught:
        read_results(tmp_path)
    assert caught.value.code == "SE-A62"
    assert "models.1.latency.p50_ms" in caught.value.facts["at"]


def test_the_paper_is_quoted_only_for_its_own_networks() -> None:
    figure = paper_figure("samkr_w48", "coco17")
    assert figure is not None
    assert (figure.ap, figure.latency_ms) == (71.6, 164.4)
    assert paper_figure("samkr_tiny", "coco17") is None
    assert paper_figure("samkr_w32", "mouse5") is None
