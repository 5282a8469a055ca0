"""Stages 6 to 9 over the stand-in: they pass, and fail in the right check where something is made wrong."""

from __future__ import annotations

import contextlib
import gc
import io
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_tensorrt import FakeTensorRT

from benchmarks.selftest import choices, endurance, errors, timing_cache
from benchmarks.selftest.choices import same_winner
from benchmarks.selftest.errors import CommandRun, told
from benchmarks.selftest.stage import Check, Rig
from samkr_edge.builder.tensorrt import engine_trial
from samkr_edge.cli import run

pytestmark = pytest.mark.usefixtures("references_are_kept")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks and people, for all tests here; engines are each test's own."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def rig(shared: Path, tmp_path: Path) -> Rig:
    (tmp_path / "stage").mkdir()
    for engine in shared.glob("engines/*"):
        engine.unlink()
    return Rig(tmp_path / "stage", shared)


@pytest.fixture
def trt(install: Callable[[str], FakeTensorRT]) -> FakeTensorRT:
    return install("10.3.0")


def by_name(found: Sequence[Check]) -> dict[str, bool | None]:
    return {check.what.removeprefix("TensorRT: "): check.passed for check in found}


# Stage 6.


def test_caches_that_are_foreign_or_cut_do_no_harm(trt: FakeTensorRT, rig: Rig) -> None:
    found = list(timing_cache.checks(rig, "samkr_tiny"))
    # The stand-in builds too fast for a ratio.
    assert by_name(found) == {
        "cache kept": True,
        "second build": None,
        "foreign cache ignored": True,
        "cache that was cut before it was kept ignored": True,
        "cut cache ignored": True,
    }


def test_a_build_that_a_foreign_cache_breaks_is_told(
    trt: FakeTensorRT, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = trt.IBuilderConfig.create_timing_cache

    def breaks(self: Any, serialized_timing_cache: bytes) -> Any:
        trt.build_messages = ["unexpected header"] if serialized_timing_cache[:2] == b"\0\1" else []
        return create(self, serialized_timing_cache)

    monkeypatch.setattr(trt.IBuilderConfig, "create_timing_cache", breaks)
    found = by_name(list(timing_cache.checks(rig, "samkr_tiny")))
    assert [what for what, passed in found.items() if passed is False] == ["foreign cache ignored"]


@pytest.mark.parametrize(("first", "second", "passed"), [(40, 8, True), (40, 30, False), (0.5, 0.5, None)])
def test_a_cache_has_to_help_where_a_build_takes_its_time(
    first: float, second: float, passed: bool | None
) -> None:
    assert timing_cache.second_build(first, second).passed is passed


# Stage 7.


def here(words: Sequence[str]) -> CommandRun:
    """The command line in this process, where the stand-in is."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = run(list(words))
    return CommandRun(status, said.getvalue(), 1.0)


def test_errors_are_told(trt: FakeTensorRT, rig: Rig) -> None:
    """What the plan, the passport and the runtime refuse; the stand-in's parser takes any operator."""
    found = {
        check.what.removeprefix("TensorRT: "): check for check in errors.checks(rig, here, interrupted="")
    }
    unknown = found.pop("unknown operator")
    assert all(check.passed for check in found.values()), found
    assert {what: check.figures.get("code") for what, check in found.items()} == {
        "opset 20": "SE-B88",
        "workspace of 16 MiB": "",
        "cut engine": "SE-A54",
        "cut engine with a passport that fits": "SE-V89",
        "weak typing that insists on FP32": None,
        "memory of the GPU back": None,
    }
    assert unknown.figures["code"] in ("SE-B84", "SE-B91", "SE-B90", "")


@pytest.mark.parametrize(
    ("ran", "passed"),
    [
        (CommandRun(5, "error SE-B91: no", 3.0), True),
        (CommandRun(5, "error SE-B90: no", 3.0), False),
        (CommandRun(1, "Traceback (most recent call last):\nerror SE-B91: no", 3.0), False),
        (CommandRun(-6, "error SE-B91: no", 3.0), False),
        (CommandRun(5, "error SE-B91: no", 30.0), False),
        (CommandRun(0, "", 3.0), False),
    ],
    ids=["told", "another-code", "traceback", "aborted", "late", "built"],
)
def test_how_an_error_is_judged(ran: CommandRun, passed: bool) -> None:
    assert told("x", ran, 1.0, ("SE-B91",)).passed is passed


def test_a_builder_may_time_kernels_until_one_wants_more_memory() -> None:
    late = CommandRun(5, "error SE-B90: no", 90.0)
    assert told("x", late, 1.0, ("SE-B90",), may_work=True).passed
    assert not told("x", late, 1.0, ("SE-B91",), may_work=True).passed


def test_kernels_that_stay_loaded_are_no_memory_that_an_error_keeps(
    trt: FakeTensorRT, rig: Rig, driver: Any
) -> None:
    """Without lazy loading all that TensorRT has goes to the GPU with the process's first build."""
    start_building, loaded = trt.Builder.__init__, []

    def loads(self: Any, logger: Any) -> None:
        if not loaded:
            loaded.append(driver)
            driver.free_bytes -= 500_000_000
        start_building(self, logger)

    trt.Builder.__init__ = loads
    found = by_name(list(errors.checks(rig, here, interrupted="")))
    assert loaded
    assert found["memory of the GPU back"] is True


def test_memory_that_an_error_keeps_is_seen(
    trt: FakeTensorRT, rig: Rig, driver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keeps(words: Sequence[str]) -> CommandRun:
        driver.free_bytes -= 50_000_000
        return here(words)

    found = by_name(list(errors.checks(rig, keeps, interrupted="")))
    assert found["memory of the GPU back"] is False


# Stage 8.


@pytest.fixture(scope="module")
def old_objects_are_left_out() -> None:
    """Every opening ends with a full collection, which looks through all that earlier tests have left otherwise."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def memory_is_read_at_once(old_objects_are_left_out: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endurance, "BETWEEN_S", 0.0)


def test_an_engine_endures(trt: FakeTensorRT, rig: Rig) -> None:
    found = list(endurance.checks(rig, runs=5, openings=6))
    assert len(found) == 5
    assert all(check.passed for check in found if "of the process" not in check.what), found


def test_results_that_threads_mix_up_are_counted(trt: FakeTensorRT, rig: Rig) -> None:
    context = trt.IExecutionContext
    execute, ran = context._execute, []

    def wavering(self: Any) -> None:
        execute(self)
        ran.append(1)
        if len(ran) > 12:  # those before are the build's and the expected ones
            self._array("offset")[...] += len(ran)

    context._execute = wavering
    found = by_name(list(endurance.checks(rig, runs=5, openings=2)))
    assert found["4 threads x 5 runs"] is False


def test_memory_that_stays_is_seen(trt: FakeTensorRT, rig: Rig, driver: Any) -> None:
    begin = trt.Runtime.__init__

    def leaks(self: Any, logger: Any) -> None:
        begin(self, logger)
        driver.free_bytes -= 1_000_000

    trt.Runtime.__init__ = leaks
    found = by_name(list(endurance.checks(rig, runs=1, openings=6)))
    assert found["6 x open and close, memory of the GPU"] is False


def test_memory_that_others_take_once_is_not_ours(
    trt: FakeTensorRT, rig: Rig, driver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endurance, "resident_mb", lambda: 100.0)  # the stand-in's own memory comes and goes
    begin, opened, taken_at = trt.Runtime.__init__, [], [0]

    def beside(self: Any, logger: Any) -> None:
        begin(self, logger)
        opened.append(1)
        if len(opened) == taken_at[0]:
            driver.free_bytes -= 5_000_000

    trt.Runtime.__init__ = beside

    def passes() -> bool | None:
        opened.clear()
        found = by_name(list(endurance.checks(rig, runs=1, openings=6)))
        return found["6 x open and close, memory of the GPU"]

    passes()  # builds the engine
    passes()
    quiet, free = len(opened), driver.free_bytes
    taken_at[0] = quiet - 1
    assert passes()
    assert driver.free_bytes < free
    assert len(opened) == quiet + 3  # measured once more


def test_a_graph_that_cannot_be_captured_is_no_failure(trt: FakeTensorRT, rig: Rig, driver: Any) -> None:
    driver.refuse_capture = True
    found = by_name(list(endurance.checks(rig, runs=1, openings=2)))
    assert found["with a CUDA graph"] is None


# Stage 9.


@pytest.fixture
def bundles_are_built_here(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command that a bundle starts runs in this process; the commands."""
    for name in ("WARM_UP", "ROUNDS", "PER_ROUND"):  # of the candidates of `best`
        monkeypatch.setattr(engine_trial, name, 2)
    started: list[list[str]] = []

    class Here:
        def __init__(self, words: list[str], **options: object) -> None:
            started.append(words)

        def wait(self) -> int:
            words = started[-1]
            with contextlib.redirect_stdout(io.StringIO()):
                return run(words[words.index("build") :])

    monkeypatch.setattr(subprocess, "Popen", Here)
    return started


@pytest.mark.parametrize(("version", "passed"), [("10.16.1.11", True), ("rtx 1.7.1.116", None)], ids=str)
def test_choices(
    install: Callable[[str], FakeTensorRT],
    rig: Rig,
    bundles_are_built_here: list[list[str]],
    version: str,
    passed: bool | None,
) -> None:
    install(version)
    found = {check.what.split(": ", 1)[-1]: check for check in choices.checks(rig)}
    assert {what: check.passed for what, check in found.items()} == {
        "--precision best, twice": True,
        "--calibrate": passed,
        "--hardware-compatible same": None if "rtx" in version else True,
        "--hardware-compatible ampere+": None if "rtx" in version else True,
        "a bundle's engine, used a second time": True,
    }, found
    assert len(bundles_are_built_here) == 1


def test_maps_that_are_not_a_number_fail(
    trt: FakeTensorRT, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choices, "_errors", lambda source, engine: [1e-4, float("nan")])
    assert choices._for_other_gpus(rig, "tensorrt", "ampere+").passed is False


def test_calibration_that_fails_is_told(
    trt: FakeTensorRT, rig: Rig, bundles_are_built_here: list[list[str]]
) -> None:
    trt.calibrates = False
    found = {check.what: check for check in choices.checks(rig)}
    assert found["TensorRT: --calibrate"].passed is False
    assert found["TensorRT: --calibrate"].found.startswith("SE-B90")


@pytest.mark.parametrize(
    ("second", "passed"), [({"fp16": 2.0, "int8": 1.2}, True), ({"fp16": 1.0, "int8": 1.3}, False)]
)
def test_two_winners_are_wrong_where_they_are_far_apart(second: dict[str, float], passed: bool) -> None:
    first = {"fp16": 2.0, "int8": 1.2}
    winners = [min(times, key=times.__getitem__) for times in (first, second)]
    assert same_winner("best", winners, [first, second]).passed is passed


def test_candidates_that_are_alike_may_win_in_turn() -> None:
    times = [{"fp16": 2.0, "int8": 1.99}, {"fp16": 1.99, "int8": 2.0}]
    assert same_winner("best", ["int8", "fp16"], times).passed
