"""Choosing across runs, the paper's tables, and sensitivity: what the page holds besides single runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.judge.choose import Candidate, budgets, choose
from benchmarks.paper import TABLES
from benchmarks.report.overview import chosen, run_names
from benchmarks.report.page import MAX_BYTES, Asked, write_report
from benchmarks.report.paper_tables import ours
from benchmarks.report.sensitivity import read_sensitivity
from benchmarks.schema import Energy, MemoryMb, ModelResult, PowerFacts, Results, SplitMs, write_results
from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import write_json

RunMaker = Callable[..., Results]
RowMaker = Callable[..., ModelResult]

FOUR = [
    Candidate("w48 FP32", 40.0, 71.0, "val"),
    Candidate("w48 INT8", 22.0, 70.4, "val"),
    Candidate("w32 FP32", 25.0, 68.5, "val"),
    Candidate("w32 INT8", 12.0, 67.9, "val"),
]


def test_within_a_latency_the_most_accurate_is_taken() -> None:
    choice = choose(FOUR, max_latency=33)
    assert choice.name == "w48 INT8"
    assert choice.sentence == (
        "Take w48 INT8 for at most 33 ms (p90): 70.4 AP at p90 22.0 ms; a more accurate one is slower: "
        "w48 FP32 (71.0 AP, p90 40.0 ms)."
    )


def test_above_an_ap_the_fastest_is_taken_and_both_limits_hold_together() -> None:
    assert choose(FOUR, min_ap=68).name == "w48 INT8"
    assert choose(FOUR, min_ap=60).name == "w32 INT8"
    assert choose(FOUR, max_latency=23, min_ap=70).name == "w48 INT8"
    nothing = choose(FOUR, max_latency=5, min_ap=60)
    assert nothing.name is None
    assert nothing.sentence.startswith(
        "No measured model has at most 5 ms (p90) and at least 60 AP: the fastest is w32"
    )


def test_ap_of_different_images_is_not_compared() -> None:
    other = Candidate("x", 1.0, 99.0, "other images")
    assert choose([*FOUR, other], max_latency=33).name is None
    assert choose([], max_latency=33).name is None


def test_what_is_not_known_of_a_choice_is_said(three_models: list[ModelResult], run_of: RunMaker) -> None:
    fp32, ptq, qat = three_models
    models = [fp32, ptq.model_copy(update={"accuracy": None, "difference": None}), qat]
    results = run_of(models, stable=False, reasons=["the clock moved"])
    choice = chosen([("here", results)], 20.0, None)
    assert choice is not None
    assert choice.sentence.endswith("; its times are unstable; not considered, AP unknown: INT8 (PTQ).")
    relabelled = results.dataset.model_copy(update={"annotations_sha256": "c" * 64})  # type: ignore[union-attr]
    two = [("here", results), ("there", results.model_copy(update={"dataset": relabelled}))]
    nothing = chosen(two, 20.0, None)
    assert nothing is not None
    assert nothing.name is None
    assert chosen(two, None, None) is None


def test_every_budget_has_its_model_and_dominated_ones_have_none() -> None:
    assert [candidate.name for candidate in budgets(FOUR)] == ["w32 INT8", "w48 INT8", "w48 FP32"]


def test_runs_are_named_by_what_tells_them_apart(three_models: list[ModelResult], run_of: RunMaker) -> None:
    laptop = run_of(three_models, environment={"cpu": "A CPU"})
    orin = run_of(
        three_models, environment={"cpu": "ARM", "jetson": "NVIDIA Jetson AGX Orin R36 (release), ..."}
    )
    assert run_names([laptop, orin]) == ["A CPU", "Jetson AGX Orin"]
    container = run_of(three_models, environment={"cpu": "ARM", "jetson": "tegra234 L4T unknown"})
    assert run_names([laptop, container]) == ["A CPU", "tegra234"]
    two_threads = laptop.model_copy(update={"settings": laptop.settings.model_copy(update={"threads": 2})})
    assert run_names([laptop, two_threads]) == ["1 thread", "2 threads"]
    assert len(set(run_names([laptop, laptop]))) == 2
    assert run_names([laptop]) == ["A CPU"]


def page_of(tmp_path: Path, runs: list[Results], wishes: Asked | None = None) -> str:
    paths = []
    for number, results in enumerate(runs):
        paths.append(tmp_path / str(number) / "results.json")
        write_results(paths[-1], results)
    written = write_report(paths, tmp_path / "page.html", wishes)
    assert written.size < MAX_BYTES
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_constraint_is_answered_first_and_all_runs_share_one_table(
    three_models: list[ModelResult], run_of: RunMaker, tmp_path: Path
) -> None:
    fast = [
        model.model_copy(
            update={"latency": model.latency.model_copy(update={"p90_ms": model.latency.p90_ms / 3})}
        )
        for model in three_models
    ]
    runs = [run_of(three_models, environment={"cpu": "Slow"}), run_of(fast, environment={"cpu": "Quick"})]
    page = page_of(tmp_path, runs, Asked(max_latency=5.0))
    body = page[page.index("<body>") :]
    assert "Take INT8 (QAT) · Quick for at most 5 ms (p90)." in body
    assert (
        body.index("Take INT8 (QAT) · Quick")
        < body.index("Which model for which budget")
        < body.index("<article")
    )
    table = body[body.index('id="all"') : body.index("<article")]
    assert table.count("<tr>") == 1 + 6


def test_runs_on_different_images_share_no_plot(
    three_models: list[ModelResult], run_of: RunMaker, tmp_path: Path
) -> None:
    one = run_of(three_models)
    assert one.dataset is not None
    other = one.model_copy(update={"dataset": one.dataset.model_copy(update={"images_digest": "c" * 64})})
    assert 'class="plot' not in page_of(tmp_path, [one, other])
    assert 'class="plot' in page_of(tmp_path, [one, one])


def test_memory_int8_copies_and_energy_are_shown_where_they_were_measured(
    three_models: list[ModelResult], run_of: RunMaker, tmp_path: Path
) -> None:
    full = [
        model.model_copy(
            update={
                "memory_mb": MemoryMb(peak=412, before_opening=61),
                "int8_share": 0.91,
                "energy": Energy(millijoules_per_frame=131.5, watts=9.0, frames=100, samples=80),
                "split_ms": SplitMs(
                    preprocess=0.2, copy_in=0.4, network=20, copy_out=0.3, decode=1, other=0.1
                ),
            }
        )
        for model in three_models
    ]
    power = PowerFacts(
        source="INA3221 through sysfs", rail="VDD_IN (the total)", sampling_hz=20, idle_watts=4.2
    )
    page = page_of(tmp_path, [run_of(full, power=power)])
    for text in (
        "412",
        "91%",
        "131.5",
        "0.40+20.00+0.30",
        "copy in",
        "VDD_IN (the total)",
        "4.20 W at rest subtracted",
    ):
        assert text in page
    page = page_of(tmp_path, [run_of(three_models)])
    for text in ("peak MB", "INT8</th>", "copy in", "mJ</th>"):
        assert text not in page


def test_crowdposes_levels_stand_in_the_table(
    three_models: list[ModelResult], run_of: RunMaker, tmp_path: Path
) -> None:
    levels = {"ap": 65.7, "easy": 73.0, "medium": 66.4, "hard": 57.5}
    crowd = [model.model_copy(update={"accuracy": levels}) for model in three_models]
    assert "73.0/66.4/57.5" in page_of(tmp_path, [run_of(crowd)])
    del levels["easy"]
    assert "–/66.4/57.5" in page_of(tmp_path, [run_of(crowd)])


def test_the_papers_rows_have_as_many_cells_as_columns() -> None:
    assert [table.number for table in TABLES] == [1, 2, 3, 4, 5, 6]
    for table in TABLES:
        assert {len(row.cells) for row in table.rows} == {len(table.columns)}
        assert any(row.networks for row in table.rows)


def test_ours_stands_beside_the_papers_row_of_the_same_network_and_nowhere_else(
    row: RowMaker, run_of: RunMaker
) -> None:
    scores = {
        "ap": 68.21,
        "ap50": 87.0,
        "ap75": 74.1,
        "apm": 62.0,
        "apl": 77.9,
        "ar": 73.0,
        "arm": 66.0,
        "arl": 82.9,
    }
    model = row("FP32", 24, 68.21, network="samkr_w32", accuracy=scores)
    facts = run_of([model]).dataset
    assert facts is not None
    coco = run_of([model], dataset=facts.model_copy(update={"name": "coco", "images": 5000}))
    found = {
        (table.number, line.cells[0]): ours(table, line, [("Orin", coco)])
        for table in TABLES
        for line in table.rows
    }
    filled = [place for place, lines in found.items() if lines]
    assert filled == [(1, "272"), (2, "8_SAMKR_16"), (3, "SAMKR (W32)"), (4, "SAMKR (W32)")]
    (line,) = found[3, "SAMKR (W32)"]
    assert line.what == "FP32, 5000 images of coco/val, deployment"
    assert line.cells == ("68.2", "87.0", "74.1", "62.0", "77.9", "73.0", "66.0", "82.9")


def test_times_stand_in_table_6_with_the_device(row: RowMaker, run_of: RunMaker) -> None:
    parts = SplitMs(preprocess=1.2, network=86.4, decode=2.05, other=0.1)
    results = run_of([row("INT8 PTQ", 90.0, network="samkr_w48", split_ms=parts)], images=None)
    table = TABLES[5]
    assert [heading for _, heading in table.metrics] == ["network ms", "decode ms", "p50 ms", "p90 ms"]
    lines = [ours(table, line, [("Orin", results)]) for line in table.rows]
    assert lines[:2] == [[], []]
    assert (lines[2][0].what, lines[2][0].cells) == ("INT8 PTQ, Orin", ("86.4", "2.05", "90.0", "97.2"))


def test_the_papers_page_needs_no_results_and_shares_no_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", "--paper", "-o", str(tmp_path / "paper.html"), "--json"]) == 0
    page = (tmp_path / "paper.html").read_text(encoding="utf-8")
    assert "#numbers" not in page  # a link to what is not there
    assert page.count('<table class="tables">') == 6
    assert not re.search(r"https?://", page)
    for figure in ("164.4", "71.6", "74.4", "63.9", "70.4"):
        assert figure in page
    assert json.loads(capsys.readouterr().out)["verdicts"] == []
    assert run(["report", "-o", str(tmp_path / "no.html")]) == 2
    assert "SE-U67" in capsys.readouterr().err


def sensitivity(**changes: Any) -> dict[str, Any]:
    def group(name: str, sure: bool, *ap: float) -> dict[str, Any]:
        return {
            "group": name,
            "macs_share": 0.25,
            "distinguishable": sure,
            "alone": {"name": "x", "difference": {"ap": list(ap), "oks": [0, 0, 0]}},
            "restored": None,
        }

    groups = [group("offset heads", True, -2.0, -3.0, -1.0), group("stem", False, 0.5, -0.5, 1.0)]
    return {
        "checkpoint": "final.pt",
        "images": 400,
        "fp32_ap": 57.4,
        "groups": groups,
        "conclusion": "offset heads stand out.",
        **changes,
    }


def test_sensitivity_bars_lie_on_one_axis_with_zero(tmp_path: Path) -> None:
    write_json(tmp_path / "sensitivity.json", sensitivity())
    part = read_sensitivity(tmp_path)
    assert part.zero == pytest.approx(75)
    heads, stem = part.bars
    assert (heads.start, heads.width, heads.low, heads.high) == pytest.approx((25, 50, 0, 50))
    assert (stem.start, stem.width) == pytest.approx((75, 12.5))
    assert (heads.distinguishable, stem.distinguishable, heads.difference) == (True, False, "−2.0")
    assert part.caption.endswith("57.4 AP")
    write_json(tmp_path / "sensitivity.json", sensitivity(trained_on=True))
    assert read_sensitivity(tmp_path).caption.endswith("57.4 train-fit AP")
    # FP32 has 100 AP against its own people, whatever that AP is called.
    kept = sensitivity(metric="AP against labels of mine")
    write_json(tmp_path / "sensitivity.json", kept)
    assert "FP32 57.4 AP" in read_sensitivity(tmp_path).caption
    write_json(tmp_path / "sensitivity.json", {**kept, "reference": {"model": "final.pt"}})
    assert read_sensitivity(tmp_path).caption == "final.pt, 400 images"


def test_sensitivity_is_a_part_of_the_page(
    three_models: list[ModelResult], run_of: RunMaker, tmp_path: Path
) -> None:
    write_json(tmp_path / "sensitivity.json", sensitivity())
    page = page_of(tmp_path, [run_of(three_models)], Asked(sensitivity=tmp_path / "sensitivity.json"))
    assert page.count('class="sense"') == 2
    assert "offset heads stand out." in page


def test_another_file_is_no_sensitivity_file(tmp_path: Path) -> None:
    write_json(tmp_path / "sensitivity.json", sensitivity(groups=[{"group": "a"}]))
    with pytest.raises(SamkrError) as caught:
        read_sensitivity(tmp_path)
    assert caught.value.code == "SE-A68"
    assert "groups.0" in caught.value.facts["at"]


def test_a_sweep_is_reported_from_its_folder(
    three_models: list[ModelResult], run_of: RunMaker, tmp_path: Path
) -> None:
    outcomes = []
    for number, label in enumerate(("tiny 128x128, cpu", "tiny 256x256, cpu")):
        write_results(tmp_path / "cells" / f"{number}.json", run_of(three_models, label=label))
        outcomes.append({"results": f"cells/{number}.json"})
    write_json(tmp_path / "sweep.json", {"outcomes": [*outcomes, {"results": None}]})
    write_report([tmp_path], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count('<article class="run"') == 2
    assert "tiny 256x256, cpu" in page
    write_json(tmp_path / "sweep.json", {"outcomes": []})
    with pytest.raises(SamkrError) as caught:
        write_report([tmp_path], tmp_path / "page.html")
    assert caught.value.code == "SE-A69"
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(SamkrError) as caught:
        write_report([tmp_path], tmp_path / "page.html")
    assert caught.value.code == "SE-A67"
