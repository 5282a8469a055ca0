"""A test that waits forever fails, by name, and the others are run."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = """
import threading

def test_before(): pass
def test_that_hangs(): threading.Event().wait(50)
def test_after(): pass
"""


def test_a_test_that_hangs_is_named_and_the_rest_are_run(tmp_path: Path) -> None:
    (tmp_path / "test_three.py").write_text(TESTS)
    words = ["-n", "1", "--dist", "loadfile", "-v", "-p", "no:cacheprovider", "-o", "timeout=1"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), *words, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=45,
    )
    assert ended.returncode == 1
    assert "1 failed, 2 passed" in ended.stdout
    assert "test_that_hangs - Failed: " in ended.stdout


def test_there_is_such_an_end(pytestconfig: pytest.Config) -> None:
    assert 0 < float(pytestconfig.getini("timeout")) <= 900
