"""Stage 4 over the stand-in: it passes, and fails in the right check when something is made wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_tensorrt import FakeTensorRT

from benchmarks.selftest.networks import checks
from benchmarks.selftest.stage import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    (tmp_path / "stage").mkdir()
    (tmp_path / "shared").mkdir()
    return Rig(tmp_path / "stage", tmp_path / "shared")


def test_x(install: Callable[[str], FakeTensorRT], rig: Rig) -> None:
    install("10.3.0")
    for c in checks(rig, 10):
        print(c.passed, c.what, c.found, c.limit)
    assert 0
