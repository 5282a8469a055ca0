"""The stages of the self-test, in their order; each stands on those before it, so `make test-gpu` ends at the first
that fails."""

from __future__ import annotations

import pytest

from benchmarks.cli.selftest import tell
from benchmarks.selftest.selftest import Selftest
from benchmarks.selftest.stage import Stage
from benchmarks.selftest.stages import STAGES


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param(
            stage,
            id=f"{stage.number:02}-{stage.title.replace(' ', '-')}",
            marks=pytest.mark.jetson if "jetson" in stage.needs else pytest.mark.gpu,
        )
        for stage in STAGES
    ],
)
def test_stage(stage: Stage, selftest: Selftest, capsys: pytest.CaptureFixture[str]) -> None:
    if stage not in selftest.stages:
        pytest.skip("not among the stages that were asked for")
    with capsys.disabled():
        outcome = selftest.run(stage, tell)
    if outcome.state == "failed":
        pytest.fail(outcome.why, pytrace=False)
    if outcome.state != "passed":
        pytest.skip(outcome.why)
