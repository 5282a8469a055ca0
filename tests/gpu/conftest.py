"""The self-test as tests: one run for all of them, its table and sentence at the end. `make test-gpu` starts it.

STAGE, MINUTES and OUT in the environment are the options of `samkr-edge selftest`.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.selftest.machine import look_around, require_gpu_here
from benchmarks.selftest.report import passed, summary
from benchmarks.selftest.selftest import Selftest
from benchmarks.selftest.stages import chosen_stages
from samkr_edge.errors import EXIT_CODES, SamkrError

RUN = pytest.StashKey[Selftest]()


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Without a GPU, or for what cannot be asked, the error alone, as the command prints it, and its exit code."""
    if "not gpu" in config.option.markexpr:
        return None
    try:
        chosen_stages(wanted())
        minutes()
        require_gpu_here()
    except SamkrError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return None


def wanted() -> list[str]:
    """Stages that were asked for, as ``chosen_stages`` takes them."""
    return os.environ.get("STAGE", "").split()


def minutes() -> float | None:
    """Of the run; None without a limit.

    Raises:
        SamkrError: SE-U55 that is no time.
    """
    text = os.environ.get("MINUTES", "")
    try:
        found = float(text) if text else None
    except ValueError:
        found = math.nan
    if found is not None and not found > 0:
        raise SamkrError("SE-U55", f"MINUTES={text} is no time", fix="make test-gpu MINUTES=10")
    return found


@pytest.fixture(scope="session")
def selftest(request: pytest.FixtureRequest) -> Iterator[Selftest]:
    chosen = chosen_stages(wanted())
    with tempfile.TemporaryDirectory(prefix="samkr-edge-selftest-") as shared:
        out = Path(os.environ.get("OUT") or "selftest")
        run = Selftest(out, Path(shared), chosen, look_around(chosen), minutes=minutes())
        request.config.stash[RUN] = run
        yield run


def pytest_sessionfinish(session: pytest.Session) -> None:
    run = session.config.stash.get(RUN, None)
    if session.exitstatus == pytest.ExitCode.INTERRUPTED:
        session.exitstatus = 130
    elif run is not None and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        verdict = passed(run.outcomes)
        if verdict is None:
            session.exitstatus = EXIT_CODES["V"]
        elif not verdict:
            session.exitstatus = EXIT_CODES["Q"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    run = config.stash.get(RUN, None)
    if run is None:
        return
    import io

    from rich.console import Console

    text = io.StringIO()
    Console(file=text, width=110, highlight=False, markup=False).print(summary(run.outcomes, run.facts))
    terminalreporter.write(f"\n{text.getvalue()}every figure: {run.file}\n")
