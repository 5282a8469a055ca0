"""Stage 0 of the self-test: a TensorRT that is what its version says passes, and what does not fit is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_driver import Driver
from fake_tensorrt import RTX_VERSIONS, VERSIONS, FakeTensorRT

from benchmarks.selftest.run import run_stage
from benchmarks.selftest.stage import Check, Rig
from benchmarks.selftest.stages import STAGES
from samkr_edge.runtime.tensorrt_types import NUMPY_TYPES

Install = Callable[[str], FakeTensorRT]


def run(folder: Path) -> dict[str, Check]:
    return {check.what: check for check in run_stage(STAGES[0], Rig(folder / "work", folder / "shared"))}


def failed(checks: dict[str, Check]) -> list[str]:
    return [what for what, check in checks.items() if check.passed is False]


@pytest.mark.parametrize("version", [*VERSIONS, *RTX_VERSIONS])
def test_every_known_version_passes(install: Install, tmp_path: Path, version: str) -> None:
    install(version)
    checks = run(tmp_path)
    assert failed(checks) == []
    title = "TensorRT for RTX" if version.startswith("rtx") else "TensorRT"
    assert [what for what, check in checks.items() if check.passed] == [
        "GPU", *(f"{title}: {what}" for what in ("CUDA", "start", "features", "types"))
    ]  # fmt: skip
    assert checks[f"{title}: types"].found == "float16, float32, uint8: equal"
    assert checks["GPU"].figures["compute_capability"] == "8.9"


def test_an_api_that_is_not_what_its_version_has_is_named(install: Install, tmp_path: Path) -> None:
    trt = install("10.3.0")
    del trt.IProgressMonitor
    checks = run(tmp_path)
    assert "TensorRT: features" in failed(checks)
    assert checks["TensorRT: features"].found == "progress_monitor is False, not True"


def test_a_package_for_a_newer_cuda_than_the_drivers_is_not_touched(
    install: Install, driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install("10.16.1.11")
    package = tmp_path / "site-packages" / "tensorrt"
    package.mkdir(parents=True)
    (package.parent / "tensorrt_cu13-10.16.1.11.dist-info").mkdir()
    trt.__file__ = str(package / "__init__.py")
    checks = run(tmp_path)
    assert failed(checks) == ["TensorRT: CUDA", "TensorRT: start"]
    assert checks["TensorRT: CUDA"].figures == {"made_for": 13, "driver": "12.8"}
    assert trt.loggers == [], "neither builder nor runtime was made"


def test_a_tensorrt_that_does_not_start_says_why(install: Install, tmp_path: Path) -> None:
    install("10.3.0").cuda_failure = 35
    checks = run(tmp_path)
    assert failed(checks) == ["TensorRT: start"]
    assert "the NVIDIA driver is too old" in checks["TensorRT: start"].found
    assert checks["TensorRT: types"].passed is None


def test_values_that_are_read_as_another_type_are_seen(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("10.3.0")
    monkeypatch.setitem(NUMPY_TYPES, "HALF", np.int16)
    assert failed(run(tmp_path)) == ["TensorRT: types"]


def test_both_flavours_are_looked_at(install: Install, tmp_path: Path) -> None:
    install("10.3.0")
    install("rtx 1.7.1.116")
    checks = run(tmp_path)
    assert failed(checks) == []
    assert len(checks) == 9


def test_a_card_that_is_not_served_gets_no_engine(install: Install, driver: Driver, tmp_path: Path) -> None:
    driver.capability = (8, 7)
    install("rtx 1.7.1.116")
    checks = run(tmp_path)
    assert failed(checks) == []
    assert checks["TensorRT for RTX: types"].passed is None
