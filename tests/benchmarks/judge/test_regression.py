"""A gate against an earlier run does not pass by accident: what was not compared is named, and fails it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.judge.regression import WHAT, Comparison, compare_runs, regression
from benchmarks.judge.row_pairs import pair_rows
from benchmarks.schema import ModelResult, Results

RowMaker = Callable[..., ModelResult]
RunMaker = Callable[..., Results]


def failure(found: Comparison, results: Results, *may_differ: str) -> str | None:
    error = regression(found, results, None, may_differ)
    return error and error.code


def test_the_same_run_is_compared_whole(three_models: list[ModelResult], run_of: RunMaker) -> None:
    run = run_of(three_models)
    found = compare_runs(run, run, 1.0)
    assert (found.uncompared, found.compared) == ([], 3 + 2)
    assert failure(found, run) is None


def test_a_renamed_file_is_known_by_its_bytes_and_a_retrained_model_by_its_role(
    three_models: list[ModelResult], row: RowMaker
) -> None:
    fp32, ptq, qat = three_models
    renamed = qat.model_copy(update={"name": "samkr_tiny INT8 QAT, new.onnx", "file": "new.onnx"})
    retrained = ptq.model_copy(update={"sha256": "f" * 64, "name": "samkr_tiny INT8 PTQ, ptq.onnx"})
    rows = pair_rows(three_models, [fp32, renamed, retrained])
    assert [(old.name, new.name) for old, new in rows.pairs] == [
        ("samkr_tiny FP32", "samkr_tiny FP32"),
        ("samkr_tiny INT8 QAT", "samkr_tiny INT8 QAT, new.onnx"),
        ("samkr_tiny INT8 PTQ", "samkr_tiny INT8 PTQ, ptq.onnx"),
    ]
    assert (rows.gone, rows.new) == ([], [])


def test_two_models_in_one_role_are_told_apart_by_their_files_or_not_at_all(row: RowMaker) -> None:
    def named(file: str, sha256: str) -> ModelResult:
        found = row("INT8 PTQ", 12, 56, (-1, -2, 0), (1.9, 1.8, 2.0), file=file, sha256=sha256)
        return found.model_copy(update={"name": f"INT8, {file}"})

    before = [named("a.onnx", "1" * 64), named("b.onnx", "2" * 64)]
    now = [named("b.onnx", "3" * 64), named("a.onnx", "4" * 64)]
    assert [(old.file, new.file) for old, new in pair_rows(before, now).pairs] == [
        ("b.onnx", "b.onnx"),
        ("a.onnx", "a.onnx"),
    ]
    others = [named("c.onnx", "5" * 64), named("d.onnx", "6" * 64)]
    assert pair_rows(before, others).pairs == []


def changed_settings(run: Results, **changes: Any) -> Results:
    return run.model_copy(update={"settings": run.settings.model_copy(update=changes)})


def changed_dataset(run: Results, **changes: Any) -> Results:
    assert run.dataset is not None
    return run.model_copy(update={"dataset": run.dataset.model_copy(update=changes)})


def without_accuracy(run: Results) -> Results:
    models = [model.model_copy(update={"accuracy": None, "difference": None}) for model in run.models]
    return run.model_copy(update={"dataset": None, "models": models})


def with_ap(run: Results, ap: float) -> Results:
    last = run.models[-1].model_copy(update={"accuracy": {"ap": ap}})
    return run.model_copy(update={"models": [*run.models[:-1], last]})


def with_other_baseline(run: Results) -> Results:
    first = run.models[0].model_copy(update={"sha256": "e" * 64})
    return run.model_copy(update={"models": [first, *run.models[1:]]})


@pytest.mark.parametrize(
    ("change", "what", "why"),
    [
        (
            lambda run: run.model_copy(update={"models": run.models[:2]}),
            "rows",
            "QAT (qat.cpu.onnx) is missing",
        ),
        (lambda run: changed_dataset(run, images=8, images_digest="c" * 64), "accuracy", "400 of 400 images"),
        (lambda run: changed_dataset(run, images_digest="c" * 64), "accuracy", "have changed"),
        (lambda run: changed_dataset(run, annotations_sha256="c" * 64), "accuracy", "have changed"),
        (without_accuracy, "accuracy", "only then"),
        (lambda run: with_ap(run, math.nan), "accuracy", "AP was 57.1, is nan"),
        (lambda run: changed_settings(run, threads=4), "speed", "threads 1 then, 4 now"),
        (lambda run: changed_settings(run, mode="offline", batch=8), "speed", "batch 1 then, 8 now"),
        (lambda run: changed_settings(run, cuda_graph=True), "speed", "CUDA graph False then, True now"),
        (lambda run: run.model_copy(update={"environment": {"cpu": "Other"}}), "speed", "cpu"),
        (
            lambda run: run.model_copy(
                update={"machine": run.machine.model_copy(update={"power_mode_before": "15W"})}
            ),
            "speed",
            "power mode None then, 15W now",
        ),
        (with_other_baseline, "speed", "different bytes"),
    ],
)
def test_what_cannot_be_compared_fails_unless_it_may_differ(
    three_models: list[ModelResult],
    run_of: RunMaker,
    change: Callable[[Results], Results],
    what: str,
    why: str,
) -> None:
    before = run_of(three_models)
    now = change(before)
    found = compare_runs(now, before, 1.0)
    assert {one.what for one in found.uncompared} == {what}
    assert why in found.uncompared[0].why
    error = regression(found, now, None)
    assert error is not None
    assert (error.code, error.exit_code) == ("SE-Q67", 6)
    assert f"--may-differ {what}" in str(error.fix)
    assert failure(found, now, what) is None
    assert failure(found, now, *(set(WHAT) - {what})) == "SE-Q67"


def test_a_new_row_has_no_baseline_and_is_named(three_models: list[ModelResult], run_of: RunMaker) -> None:
    found = compare_runs(run_of(three_models), run_of(three_models[:2]), 1.0)
    assert [str(one) for one in found.uncompared] == [
        "rows       samkr_tiny INT8 QAT (qat.cpu.onnx) has no earlier row"
    ]


def test_an_accuracy_that_could_not_have_fallen_is_no_pass(
    three_models: list[ModelResult], run_of: RunMaker
) -> None:
    run = with_ap(run_of(three_models), 0.4)
    assert ["could not have fallen" in one.why for one in compare_runs(run, run, 1.0).uncompared] == [True]


def test_a_row_that_lost_accuracy_fails(three_models: list[ModelResult], run_of: RunMaker) -> None:
    before = run_of(three_models)
    now = with_ap(before, 55.0)
    error = regression(compare_runs(now, before, 1.0), now, None, WHAT)
    assert error is not None
    assert error.code == "SE-Q65"
    assert error.facts == {"samkr_tiny INT8 QAT": "57.1 AP before, 55.0 AP now"}


def test_a_row_that_got_slower_fails(
    three_models: list[ModelResult], row: RowMaker, run_of: RunMaker
) -> None:
    before = run_of(three_models)
    slower = run_of([*three_models[:2], row("INT8 QAT", 20.0, 57.1, (-0.3, -0.8, 0.2), (1.2, 1.1, 1.3))])
    error = regression(compare_runs(slower, before, 1.0), slower, None)
    assert error is not None
    assert error.code == "SE-Q66"
    assert "INT8 QAT" in error.message
    assert "PTQ" not in error.message


def test_unstable_times_are_no_excuse_for_a_slower_row(
    three_models: list[ModelResult], row: RowMaker, run_of: RunMaker
) -> None:
    before = run_of(three_models)
    wide = [*three_models[:2], row("INT8 QAT", 20.0, 57.1, (-0.3, -0.8, 0.2), (1.5, 1.1, 1.95))]
    assert compare_runs(run_of(wide), before, 1.0).uncompared == []
    shaky = run_of(wide, stable=False, reasons=["the clock moved"])
    (one,) = compare_runs(shaky, before, 1.0).uncompared
    assert (one.what, "1.92× before, 1.50× now" in one.why) == ("speed", True)


def test_runs_with_nothing_in_common_are_never_a_pass(
    three_models: list[ModelResult], row: RowMaker, run_of: RunMaker
) -> None:
    now = run_of(three_models)
    other = run_of([row("FP16", 20, 57.0)])
    error = regression(compare_runs(now, other, 1.0), now, None, WHAT)
    assert error is not None
    assert (error.code, error.facts["rows"][0]) == (
        "SE-Q67",
        "samkr_tiny FP16 (fp16.cpu.onnx) is missing now",
    )
    alone = without_accuracy(run_of(three_models[:1]))
    assert failure(compare_runs(alone, alone, 1.0), alone, *WHAT) == "SE-Q67"
