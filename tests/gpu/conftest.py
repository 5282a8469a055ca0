"""The self-test as tests: one run for all of them, its table and sentence at the end. `make test-gpu` starts it.

STAGE, MINUTES and OUT in the environment are the options of `samkr-edge selftest`.
"""

from __future__ import annotations

import os
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


def pytest_sessionstart(session: pytest.Session) -> None:
    """Without a GPU one line, before anything is collected."""
    if "not gpu" in session.config.option.markexpr:
        return
    try:
        require_gpu_here()
        chosen_stages(wanted())
    except SamkrError as error:
        pytest.exit(str(error), returncode=error.exit_code)


def wanted() -> list[str]:
    """Stages that were asked for, as :func:`chosen_stages` takes them."""
    return os.environ.get("STAGE", "").split()


@pytest.fixture(scope="session")
def selftest(request: pytest.FixtureRequest) -> Iterator[Selftest]:
    chosen = chosen_stages(wanted())
    minutes = float(os.environ["MINUTES"]) if os.environ.get("MINUTES") else None
    with tempfile.TemporaryDirectory(prefix="samkr-edge-selftest-") as shared:
        out = Path(os.environ.get("OUT") or "selftest")
        run = Selftest(out, Path(shared), chosen, look_around(chosen), minutes=minutes)
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
