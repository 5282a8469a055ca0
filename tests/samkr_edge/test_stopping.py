"""What supervisors and lost terminals send is heard as Ctrl-C is, once, and by the commands that we wait for."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import FrameType

import pytest

from samkr_edge import stopping
from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from samkr_edge.stopping import Stopped, exit_code, heard_as_ctrl_c, taking_along

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture(autouse=True)
def as_they_were() -> Iterator[None]:
    """The test's process gets back what it did at each signal."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_raises_what_ctrl_c_raises_and_its_code_is_known(number: int, code: int) -> None:
    before = signal.getsignal(number)
    with heard_as_ctrl_c() as heard:
        with pytest.raises(KeyboardInterrupt, match="stopped by SIG"):
            signal.raise_signal(number)
        assert exit_code(heard) == code
    assert signal.getsignal(number) is before


def test_a_request_that_comes_twice_cuts_off_no_saving_and_a_later_one_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with heard_as_ctrl_c() as heard:
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        assert heard == [signal.SIGTERM]
        monkeypatch.setattr(stopping, "_SAME_REQUEST_S", 0.0)
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)


def test_a_command_that_ends_its_step_first_is_asked_as_by_ctrl_c() -> None:
    asked: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    signal.signal(signal.SIGINT, ask)
    with heard_as_ctrl_c():
        signal.raise_signal(signal.SIGTERM)
    assert asked == [signal.SIGINT]


def test_where_ctrl_c_is_ignored_as_in_a_script_s_background_the_others_are_heard() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with heard_as_ctrl_c(), pytest.raises(Stopped):
        signal.raise_signal(signal.SIGTERM)


def test_under_nohup_a_lost_terminal_stays_unheard() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with heard_as_ctrl_c() as heard:
        signal.raise_signal(signal.SIGHUP)
    assert not heard


@pytest.mark.parametrize(("stop", "told"), [(Stopped(signal.SIGTERM), 7), (KeyboardInterrupt(), 0)])
def test_the_command_that_is_waited_for_is_told_unless_ctrl_c_reached_it_too(
    stop: KeyboardInterrupt, told: int
) -> None:
    script = "trap 'exit 7' TERM; echo ready; read line; exit 0"
    child = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdin is not None
    child.stdout.readline()
    if not told:
        child.stdin.close()
    with pytest.raises(KeyboardInterrupt), taking_along(child):
        raise stop
    assert child.returncode == told


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), RuntimeError("a pool broke, as its processes were ended")]
)
def test_the_root_says_who_asked_and_ends_with_their_code(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(name: str) -> None:
        raise error

    monkeypatch.setattr("samkr_edge.cli.load_command", stopped)
    assert run(["doctor"], [signal.SIGTERM]) == 143
    assert capsys.readouterr().err == "stopped by SIGTERM\n"


@pytest.mark.parametrize(
    "told", [SamkrError("SE-U99", "it does not import"), RuntimeError("it does not import")]
)
def test_an_import_that_ctrl_c_has_stopped_is_no_broken_package(
    told: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(name: str) -> None:
        try:
            try:
                raise KeyboardInterrupt
            except KeyboardInterrupt as ctrl_c:
                raise ImportError("initialization failed") from ctrl_c  # as pybind11 does
        except ImportError as error:
            raise told from error

    monkeypatch.setattr("samkr_edge.cli.load_command", stopped)
    assert run(["doctor"]) == 130
    assert capsys.readouterr().err == "stopped by Ctrl-C\n"


def test_what_goes_wrong_while_work_is_saved_after_ctrl_c_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def saving(name: str) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise SamkrError("SE-D98", "the recording ends here")

    monkeypatch.setattr("samkr_edge.cli.load_command", saving)
    assert run(["doctor"]) == 3
    assert "SE-D98" in capsys.readouterr().err


def test_a_lost_terminal_gets_no_more_words(capfd: pytest.CaptureFixture[str]) -> None:
    """Every write to it would be an error in the middle of saving."""
    ours, theirs = os.openpty()
    kept = [os.dup(number) for number in (1, 2)]
    try:
        for number in (1, 2):
            os.dup2(theirs, number)
        os.close(ours)
        with pytest.raises(OSError, match="error"):
            os.write(1, b"working")
        stopping._leave_lost_terminal()
        for number in (1, 2):
            os.write(number, b"saved")
    finally:
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
        for number in (*kept, theirs):
            os.close(number)
