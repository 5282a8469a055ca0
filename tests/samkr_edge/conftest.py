"""A machine with a GPU and TensorRT of any version, both fake."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_tensorrt import Driver, FakeTensorRT

import samkr_edge.device


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Driver:
    """An RTX 4090 behind a fake CUDA driver; caches go to the test's folder."""
    fake = Driver()
    monkeypatch.setattr(samkr_edge.device, "_load_driver", lambda: (fake, ""))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return fake


@pytest.fixture
def install(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], FakeTensorRT]:
    """``install("10.3.0")``: from now on ``import tensorrt`` gives this version."""

    def put(version: str) -> FakeTensorRT:
        fake = FakeTensorRT(version, driver)
        monkeypatch.setitem(sys.modules, "tensorrt", fake)
        return fake

    return put
