"""A stage's process can crash, hang or be interrupted: what it measured stays, and how it ended is told."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.selftest.outcome import StageOutcome
from benchmarks.selftest.stage import Check, Stage
from benchmarks.selftest.supervise import StoppedByUser, supervise


@pytest.fixture(autouse=True)
def stages_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def a_day_passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """By the supervisor's clock, when it is called: no limit is waited for, nor reached before on a busy machine."""
    days: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + sum(days))
    monkeypatch.setattr("benchmarks.selftest.supervise.time", clock)
    return lambda: days.append(24 * 60 * 60)


def stage(name: str) -> Stage:
    return Stage(2, "a stage", f"selftest_stages:{name}", (), 1)


def run(
    name: str, tmp_path: Path, left: float | None = None, then: Callable[[], None] | None = None
) -> StageOutcome:
    """``then`` is called after every check."""
    told: list[Check] = []

    def tell(check: Check) -> None:
        told.append(check)
        if then is not None:
            then()

    outcome = supervise(stage(name), tmp_path / "shared", tell, left, grace_s=0.5)
    assert tuple(told) == outcome.checks, "every check is told, and none twice"
    return outcome


def ends(pid: int) -> bool:
    """Whether a process that was killed is gone, within the time that a busy machine takes for it."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":  # it waits for whoever adopts it
            return True
        time.sleep(0.05)
    return False


def test_checks_and_their_figures_arrive(tmp_path: Path) -> None:
    outcome = run("good", tmp_path)
    assert (outcome.state, outcome.why) == ("passed", "")
    assert [check.passed for check in outcome.checks] == [True, None, True]
    assert outcome.checks[0].figures == {"bytes": 4, "largest_error": 0.25}
    assert outcome.checks[2].figures == {"infinite": "inf", "array": [0, 1]}
    assert outcome.seconds > 0
    assert outcome.said == ()


def test_a_stage_goes_on_after_a_failed_check(tmp_path: Path) -> None:
    outcome = run("wrong", tmp_path)
    assert (outcome.state, outcome.why) == ("failed", "error: 0.3")
    assert len(outcome.checks) == 3


def test_a_stage_that_has_nothing_to_run_on_is_not_run(tmp_path: Path) -> None:
    outcome = run("nothing_to_run_on", tmp_path)
    assert (outcome.state, outcome.why) == ("not run", "no flavour serves this card")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("raises", "RuntimeError: a library is broken"),
        ("silent", "measured nothing"),
        ("segfaults", 'died of SIGSEGV after "builder"'),
        ("dies_on_its_way_out", "died of SIGABRT after its last check"),
        ("exits", 'ended with exit code 0 after "first"'),
        ("no_such_function", "has no attribute 'no_such_function'"),
    ],
)
def test_how_it_ended_is_its_last_check(tmp_path: Path, name: str, told: str) -> None:
    outcome = run(name, tmp_path)
    assert outcome.state == "failed"
    assert told in outcome.checks[-1].found
    assert [check.passed for check in outcome.checks[:-1]] == [True] * (len(outcome.checks) - 1)


def test_last_words_are_kept(tmp_path: Path) -> None:
    assert "last words" in run("segfaults", tmp_path).said


def test_a_stage_that_hangs_is_stopped_and_has_failed(
    tmp_path: Path, a_day_passes: Callable[[], None]
) -> None:
    outcome = run("hangs", tmp_path, then=a_day_passes)
    assert outcome.state == "failed"
    assert 'did not end; stopped after "first"' in outcome.why


def test_what_no_signal_ends_is_killed_with_what_it_started(
    tmp_path: Path, a_day_passes: Callable[[], None]
) -> None:
    outcome = run("hangs_for_good", tmp_path, then=a_day_passes)
    assert outcome.state == "failed"
    assert ends(int(outcome.checks[0].found))


def test_a_process_left_behind_does_not_hold_the_next_stage_up(tmp_path: Path) -> None:
    outcome = run("leaves_a_process_behind", tmp_path)
    assert outcome.state == "passed"
    assert ends(int(outcome.checks[0].found))


def test_the_end_of_the_minutes_is_no_failure(tmp_path: Path, a_day_passes: Callable[[], None]) -> None:
    outcome = run("hangs", tmp_path, left=60, then=a_day_passes)
    assert (outcome.state, outcome.why) == ("unfinished", 'stopped at the time limit, after "first"')


@pytest.mark.parametrize("name", ["hangs", "hangs_for_good"])
def test_ctrl_c_keeps_what_was_measured_and_leaves_no_process(tmp_path: Path, name: str) -> None:
    def interrupt(check: Check) -> None:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(StoppedByUser) as stopped:
        supervise(stage(name), tmp_path / "shared", interrupt, grace_s=0.5)
    outcome = stopped.value.outcome
    assert (outcome.state, outcome.why) == ("unfinished", 'stopped by Ctrl-C after "first"')
    assert [check.what for check in outcome.checks] == ["first"]


def test_the_folder_of_a_stage_is_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run("good", tmp_path)
    assert not list(tmp_path.rglob("left behind"))
