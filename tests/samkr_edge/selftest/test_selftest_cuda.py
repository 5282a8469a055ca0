"""Stage 1 of the self-test: what it finds of each way to the driver, and of a driver that does something wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_cuda_packages import FakeCudaPython, FakePyCuda
from fake_driver import Driver

from benchmarks.selftest import cuda_backends
from benchmarks.selftest.run import run_stage
from benchmarks.selftest.stage import Check, Rig
from benchmarks.selftest.stages import STAGES


@pytest.fixture(autouse=True)
def quick(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less is copied, and a copy takes time by the driver's clock."""
    driver.copy_ms = 0.5
    for name, value in {"COPIED": 4096, "TAKEN": 1 << 16, "TRIES": 1, "RETURNED_WITHIN": 1 << 15}.items():
        monkeypatch.setattr(cuda_backends, name, value)


def run(folder: Path) -> dict[str, Check]:
    return {check.what: check for check in run_stage(STAGES[1], Rig(folder / "work", folder / "shared"))}


def failed(checks: dict[str, Check]) -> list[str]:
    return [what for what, check in checks.items() if check.passed is False]


def test_the_driver_alone_passes_and_packages_that_are_not_there_are_not_run(
    driver: Driver, tmp_path: Path
) -> None:
    checks = run(tmp_path)
    assert failed(checks) == []
    assert [what for what, check in checks.items() if check.passed] == [
        f"driver: {what}"
        for what in ("copy", "events", "graph", "two threads", "out of memory", "memory back")
    ]
    assert "not installed" in checks["cuda-python"].found
    assert "not installed" in checks["pycuda"].found
    assert checks["driver: events"].figures == {"ms": 0.5}
    assert driver.live == 0


def test_every_package_is_tried(
    driver: Driver, cuda_python: FakeCudaPython, pycuda: FakePyCuda, tmp_path: Path
) -> None:
    checks = run(tmp_path)
    assert failed(checks) == []
    assert [what for what, check in checks.items() if check.passed is None] == ["pycuda: graph"]
    assert len(checks) == 18
    assert driver.live == 0


def test_a_package_that_is_too_new_for_the_driver_is_told_and_no_failure(
    driver: Driver, cuda_python: FakeCudaPython, tmp_path: Path
) -> None:
    """cuda-python 13 on JetPack 6: the driver has no cuEventElapsedTime_v2."""
    cuda_python.not_in_driver["cuEventElapsedTime"] = "cuEventElapsedTime_v2"
    checks = run(tmp_path)
    assert failed(checks) == []
    assert checks["cuda-python: the rest"].passed is None
    assert "cuEventElapsedTime_v2" in checks["cuda-python: the rest"].found
    assert checks["cuda-python: copy"].passed


def forgets_a_byte(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = driver._copy
    monkeypatch.setattr(driver, "_copy", lambda to, source, size: copy(to, source, size - 1))


def tells_no_time(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.copy_ms = 0.0


def captures_nothing(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "queue", lambda stream, operation: operation())


def has_no_end(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    block = driver._block
    monkeypatch.setattr(driver, "_block", lambda out, size: block(out, type(size)(min(size.value, 1 << 16))))


def keeps_what_is_freed(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    block = driver._block

    def kept(out: Any, size: Any) -> int:
        code = block(out, size)
        driver.free_bytes -= 4096
        return code

    monkeypatch.setattr(driver, "_block", kept)


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (forgets_a_byte, ["driver: copy", "driver: graph", "driver: two threads"]),
        (tells_no_time, ["driver: events"]),
        (captures_nothing, ["driver: graph"]),
        (has_no_end, ["driver: out of memory"]),
        (keeps_what_is_freed, ["driver: memory back"]),
    ],
)
def test_a_driver_that_is_wrong_is_seen(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: Any, seen: list[str]
) -> None:
    fault(driver, monkeypatch)
    assert failed(run(tmp_path)) == seen


def test_a_capture_that_the_driver_refuses_is_an_error_of_ours(driver: Driver, tmp_path: Path) -> None:
    driver.refuse_capture = True
    checks = run(tmp_path)
    assert failed(checks) == ["no error"]
    assert checks["no error"].found.startswith("SE-V83")
