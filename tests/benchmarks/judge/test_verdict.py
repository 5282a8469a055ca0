"""The sentence says what the numbers say, also when they disappoint."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest

from benchmarks.judge.choose import front
from benchmarks.judge.gate import Limits, gate_failure
from benchmarks.judge.verdict import decide
from benchmarks.judge.wording import signed
from benchmarks.schema import AgainstFp32, ModelResult, Spread

RowMaker = Callable[..., ModelResult]


def test_a_fast_model_within_noise_is_taken_and_the_noise_named(three_models: list[ModelResult]) -> None:
    verdict = decide(three_models, images=400)
    assert verdict.recommended == "samkr_tiny INT8 QAT"
    assert verdict.sentence == (
        "Take INT8 (QAT): it is 1.92× as fast as FP32 (p50 12.6 ms against 24.1 ms) and its 57.1 AP differ by "
        "−0.3 [−0.8, +0.2], which 400 images cannot tell from noise."
    )
    assert verdict.notes == []


def test_a_loss_beyond_noise_within_the_budget_is_called_a_loss(three_models: list[ModelResult]) -> None:
    verdict = decide(three_models[:2], images=400)
    assert "loses 0.9 AP [−1.6, −0.3]" in verdict.sentence
    assert verdict.sentence.startswith("Take INT8 (PTQ)")


def test_a_loss_beyond_the_budget_keeps_the_baseline(three_models: list[ModelResult]) -> None:
    verdict = decide(three_models[:2], images=400, max_drop=0.5)
    assert verdict.recommended == "samkr_tiny FP32"
    assert verdict.sentence.startswith("Keep FP32: INT8 (PTQ) is 1.94× as fast as FP32 but loses 0.9 AP")
    assert "more than the 0.5 AP" in verdict.sentence


def test_a_clearly_faster_model_beats_a_slightly_more_accurate_one(row: RowMaker) -> None:
    models = [
        row("FP32", 24, 57.4),
        row("INT8 PTQ", 9, 56.9, (-0.5, -0.9, -0.1), (2.6, 2.5, 2.7)),
        row("INT8 QAT", 13, 57.2, (-0.2, -0.7, 0.3), (1.8, 1.7, 1.9)),
    ]
    assert decide(models, images=400).recommended == "samkr_tiny INT8 PTQ"


def test_int8_that_is_slower_is_called_slower(row: RowMaker) -> None:
    models = [row("FP32", 10, 57.4), row("INT8 PTQ", 20, 57.4, (0.0, -0.4, 0.4), (0.5, 0.48, 0.52))]
    verdict = decide(models, images=400)
    assert verdict.recommended == "samkr_tiny FP32"
    assert verdict.sentence == (
        "Keep FP32: INT8 (PTQ) is slower than FP32 at 0.50× its speed (p50 20.0 ms against 10.0 ms)."
    )


def test_a_speed_up_whose_interval_holds_one_is_no_speed_up(row: RowMaker) -> None:
    models = [row("FP32", 10, 57.4), row("INT8 PTQ", 9.9, 57.4, (0.0, -0.4, 0.4), (1.01, 0.98, 1.04))]
    assert "not measurably faster than FP32" in decide(models, images=400).sentence


def test_ap_near_zero_is_said_plainly_and_nothing_is_recommended(row: RowMaker) -> None:
    models = [row("FP32", 24, 1.7), row("INT8 PTQ", 12, 1.6, (-0.1, -0.3, 0.1), (2.0, 1.9, 2.1))]
    verdict = decide(models, images=400)
    assert verdict.recommended is None
    assert "AP 1.7 is too low for an accuracy difference to mean much" in verdict.sentence
    assert "GPU or imported weights" in verdict.sentence
    assert "2.00× as fast" in verdict.sentence


def test_without_accuracy_nothing_is_recommended(row: RowMaker) -> None:
    verdict = decide([row("FP32", 24), row("INT8 PTQ", 12, speed=(2.0, 1.9, 2.1))], images=None)
    assert verdict.recommended is None
    assert "accuracy was not measured" in verdict.sentence
    assert any("--data" in note for note in verdict.notes)


def test_one_model_alone_is_described(row: RowMaker) -> None:
    verdict = decide([row("FP32", 24, 57.4)], images=400)
    assert verdict.sentence.startswith("FP32 takes 24.0 ms a frame (p50) and scores 57.4 AP")


def test_unstable_times_and_few_images_are_noted(row: RowMaker) -> None:
    shaky = row("FP32", 24, 57.4, stable=False, reasons=["network time varied by 20%"])
    other = row("INT8 PTQ", 12, 57.0, (-0.4, -3.0, 2.0), (2.0, 1.9, 2.1))
    notes = decide([shaky, other], images=30, unstable=["the CPU clock moved by -9.0% (limit 3%)"]).notes
    assert any("clock moved" in note for note in notes)
    assert any("samkr_tiny FP32: network time varied" in note for note in notes)
    assert any("Only 30 images" in note for note in notes)


def test_rows_of_different_networks_are_named_in_full(row: RowMaker) -> None:
    models = [
        row("FP32", 24, 57.4),
        row("FP32", 12, 57.4, (0.0, -0.1, 0.1), (2.0, 1.9, 2.1)).model_copy(
            update={"name": "samkr_small FP32"}
        ),
    ]
    assert decide(models, images=400).sentence.startswith(
        "Take samkr_small FP32: it is 2.00× as fast as samkr_tiny"
    )


@pytest.mark.parametrize(("value", "text"), [(-0.34, "−0.3"), (0.04, "0.0"), (-0.04, "0.0"), (1.25, "+1.2")])
def test_signed_numbers(value: float, text: str) -> None:
    assert signed(value) == text


def test_the_gate_names_the_row_that_lost_too_much(three_models: list[ModelResult]) -> None:
    assert gate_failure(three_models, Limits(max_drop=1.0, max_latency=20.0)) is None
    failed = gate_failure(three_models, Limits(max_drop=0.5))
    assert failed is not None
    assert (failed.code, failed.exit_code) == ("SE-Q60", 6)
    assert "samkr_tiny INT8 PTQ" in failed.message
    assert "QAT" not in failed.message


def test_the_gate_names_every_limit_that_is_broken(three_models: list[ModelResult]) -> None:
    failed = gate_failure(three_models, Limits(max_drop=0.5, max_moved=3, max_latency=13.5))
    assert failed is not None
    assert failed.code == "SE-Q60"
    moved, slow = failed.facts["and"]
    assert "moved joints by more than 3 px (SE-Q63)" in moved
    assert "took more than 13.5 ms (p90) (SE-Q61)" in slow
    alone = gate_failure(three_models, Limits(max_drop=0.5))
    assert alone is not None
    assert "and" not in str(alone).partition("fix:")[0].split()


def test_the_gate_names_the_row_that_is_too_slow_and_spares_the_baseline(
    three_models: list[ModelResult],
) -> None:
    failed = gate_failure(three_models, Limits(max_latency=13.5))
    assert failed is not None
    assert failed.code == "SE-Q61"
    assert "INT8 QAT" in failed.message
    assert "FP32" not in failed.message
    alone = gate_failure(three_models[:1], Limits(max_latency=13.5))
    assert alone is not None
    assert "FP32" in alone.message


def test_the_pareto_front_leaves_out_what_another_model_beats() -> None:
    points = [(24.0, 57.4), (12.4, 56.5), (12.6, 57.1), (30.0, 57.0), (12.6, 57.1)]
    assert front(points) == [1, 2, 4, 0]
    assert front([]) == []


def test_a_spread_serialises_as_three_numbers() -> None:
    assert Spread(value=1, low=0, high=2).model_dump() == {"value": 1, "low": 0, "high": 2}


@pytest.mark.parametrize("ap", [None, math.nan])
def test_a_gate_on_accuracy_does_not_pass_what_has_none(
    three_models: list[ModelResult], ap: float | None
) -> None:
    fp32, ptq, _ = three_models
    difference = None if ap is None else Spread(value=ap, low=ap, high=ap)
    blind = ptq.model_copy(update={"accuracy": None if ap is None else {"ap": ap}, "difference": difference})
    failed = gate_failure([fp32, blind], Limits(max_drop=1.0))
    assert failed is not None
    assert failed.code == "SE-Q62"
    assert "INT8 PTQ" in failed.message
    assert gate_failure([fp32, blind], Limits()) is None


def test_a_gate_that_could_not_fail_does_not_pass(row: RowMaker) -> None:
    nothing_found = [row("FP32", 24, 0.6), row("INT8 PTQ", 12, 0.0, (-0.6, -1, 0), (2, 1.9, 2.1))]
    failed = gate_failure(nothing_found, Limits(max_drop=1.0))
    assert failed is not None
    assert failed.code == "SE-Q62"


def test_a_time_that_is_no_number_is_too_slow(three_models: list[ModelResult]) -> None:
    latency = three_models[1].latency.model_copy(update={"p90_ms": math.nan})
    models = [three_models[0], three_models[1].model_copy(update={"latency": latency})]
    failed = gate_failure(models, Limits(max_latency=1000.0))
    assert failed is not None
    assert failed.code == "SE-Q61"


def test_a_model_without_accuracy_is_not_recommended(three_models: list[ModelResult]) -> None:
    fp32, ptq, _ = three_models
    verdict = decide([fp32, ptq.model_copy(update={"accuracy": None, "difference": None})], images=400)
    assert verdict.recommended == fp32.name
    assert verdict.sentence.endswith("but its accuracy is unknown.")


def test_ap_of_images_that_were_learned_from_is_called_so(three_models: list[ModelResult]) -> None:
    seen = [model.model_copy(update={"trained_on": True}) for model in three_models]
    for models in (seen, seen[:2], seen[:1]):
        sentence = decide(models, images=400).sentence
        assert re.search(r"\d train-fit AP\b", sentence)
        assert not re.search(r"\d AP\b", sentence.replace(" AP that may be lost", ""))
    assert "train-fit" not in decide(three_models, images=400).sentence


def test_a_verdict_on_photos_is_against_fp32_and_never_of_ap_alone(row: RowMaker) -> None:
    def followed(ap: float, kept: int, new: int, far: float | None) -> AgainstFp32:
        return AgainstFp32(
            ap=Spread(value=ap, low=ap - 2, high=min(ap + 1, 100)),
            kept=kept, lost=60 - kept, new=new, moved_px=0.4, moved_px_p95=far, oks=0.99, oks_p5=0.9,
        )  # fmt: skip

    fp32 = row("FP32", 24.1, against_fp32=followed(100, 60, 0, 0.0))
    ptq = row("INT8 PTQ", 12.4, None, None, (1.94, 1.91, 1.96), against_fp32=followed(98.6, 59, 2, 1.8))
    verdict = decide([fp32, ptq], images=100)
    assert verdict.sentence == (
        "Take INT8 (PTQ): it is 1.94× as fast as FP32 (p50 12.4 ms against 24.1 ms) and keeps 59 of 60 people (2 new), "
        "with 95 % of the joints within 1.8 px: 98.6 AP against FP32 [96.6, 99.6]."
    )
    assert any("not how good FP32 is" in note for note in verdict.notes)
    far = row("INT8 PTQ", 12.4, None, None, (1.94, 1.91, 1.96), against_fp32=followed(90.0, 55, 9, None))
    verdict = decide([fp32, far], images=100)
    assert verdict.sentence.startswith("Keep FP32:")
    assert verdict.sentence.endswith(
        "55 of 60 people (9 new): 90.0 AP against FP32 [88.0, 91.0], below the 98 that are wanted."
    )
    assert gate_failure([fp32, ptq], Limits(max_moved=2.0, max_drop=2.0)) is None
    for limits, code in ((Limits(max_moved=1.0), "SE-Q63"), (Limits(max_drop=1.0), "SE-Q60")):
        failed = gate_failure([fp32, ptq], limits)
        assert failed is not None
        assert failed.code == code
    lost = gate_failure([fp32, far], Limits(max_moved=1000.0))
    assert lost is not None
    assert lost.code == "SE-Q63"
