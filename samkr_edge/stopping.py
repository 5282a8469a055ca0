"""Requests to stop: the signals of `docker stop`, `systemctl stop` and a lost terminal are treated like Ctrl-C.

So whatever a command does on Ctrl-C (keep its results, save its weights, end its child) it does on SIGTERM and SIGHUP
too, and it ends with the exit code that supervisors expect, 128 + the signal's number.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

CTRL_C = 130
# One request can arrive twice, from a supervisor and from our parent process; a later signal is a new request.
_SAME_REQUEST_S = 5.0


class Stopped(KeyboardInterrupt):
    """Asked to stop by a signal that only this process got, and not its children.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


@contextmanager
def heard_as_ctrl_c() -> Iterator[Sequence[int]]:
    """SIGTERM and SIGHUP do what SIGINT does at that moment; yields the signals received so far.

    A signal that this process was started to ignore, such as SIGHUP under `nohup`, stays ignored. Main thread only.
    """
    heard: list[int] = []
    last = -_SAME_REQUEST_S

    def hear(number: int, frame: FrameType | None) -> None:
        nonlocal last
        again, last = time.monotonic() - last < _SAME_REQUEST_S, time.monotonic()
        if again:
            return
        heard.append(number)
        _leave_lost_terminal()
        ctrl_c = signal.getsignal(signal.SIGINT)
        if callable(ctrl_c) and ctrl_c is not signal.default_int_handler:
            ctrl_c(signal.SIGINT, frame)  # set by a command that finishes its step first
        else:
            raise Stopped(number)

    before = {}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, hear)
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def caused(error: BaseException | None) -> bool:
    """Whether an exception comes from Ctrl-C: a compiled module interrupted at its import fails to import."""
    # Not by `__context__`: an error while saving after Ctrl-C must be reported.
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error is not None


def name_of(heard: Sequence[int]) -> str:
    """Who asked to stop, for people."""
    return signal.Signals(heard[0]).name if heard else "Ctrl-C"


def exit_code(heard: Sequence[int]) -> int:
    """130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    return 128 + heard[0] if heard else CTRL_C


@contextmanager
def taking_along(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """For waiting for a command of ours: a request to stop is passed on to it, so that it can save."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if isinstance(stop, Stopped):  # Ctrl-C in a terminal reaches both
            child.send_signal(stop.number)
        child.wait()
        raise


def _leave_lost_terminal() -> None:
    """Once the terminal is closed, printing to it would raise an error in the middle of saving."""
    for number in (1, 2):
        try:
            os.write(number, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)
