"""Each stage in its own supervised process: TensorRT can end a process with a signal, and it can hang.

Each process has its own process group. So Ctrl-C reaches only the supervisor, which keeps the measurements and stops
the stage, together with any processes that the stage has started.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from benchmarks.selftest.child import arguments, read_line
from benchmarks.selftest.outcome import StageOutcome, judge
from benchmarks.selftest.stage import Check, Rig, Stage
from samkr_edge import child_process
from samkr_edge.files.temporary import temporary_folder

# A stage counts as hanging after this many times its time on an Orin Nano.
PATIENCE = 5
# Seconds that a process gets to end before it is killed.
GRACE_S = 10.0
_SAID_LINES, _SAID_BYTES = 12, 16_384

OnCheck = Callable[[Check], None]


class StoppedByUser(KeyboardInterrupt):
    """Ctrl-C, or a signal treated like it, during a stage; ``outcome`` has its measurements so far."""

    def __init__(self, outcome: StageOutcome) -> None:
        super().__init__(outcome.why)
        self.outcome = outcome


def supervise(
    stage: Stage,
    shared: Path,
    measured: OnCheck,
    seconds_left: float | None = None,
    grace_s: float = GRACE_S,
) -> StageOutcome:
    """Run one stage in a child process.

    Args:
        shared: ``Rig.shared`` of the run; the stage's own folder is made, and thrown away after it.
        measured: called for every check immediately.
        seconds_left: of ``--minutes``: a stage still running then is stopped and unfinished.

    Raises:
        StoppedByUser: Ctrl-C; the child has ended by then.
    """
    with temporary_folder(f"samkr-edge-stage{stage.number}-") as folder:
        rig = Rig(folder / "work", shared)
        with (folder / "stderr").open("w+b") as said:
            follower = _Follower(stage, rig, said, measured, grace_s)
            return follower.follow(seconds_left)


class _Follower:
    """One child, what it has measured so far, and how it ends."""

    def __init__(self, stage: Stage, rig: Rig, said: IO[bytes], measured: OnCheck, grace_s: float) -> None:
        self.stage, self.measured, self.grace_s = stage, measured, grace_s
        self.checks: list[Check] = []
        self.done = False
        self.said, self.begun, self.rest = said, time.monotonic(), b""
        self.reader, writer = os.pipe()
        command = child_process.module("benchmarks.selftest.child", *arguments(stage, rig, writer))
        # The user's caches are neither used nor changed.
        own = {**os.environ, "SAMKR_EDGE_CACHE": str(rig.shared / "cache")}
        try:
            self.child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=own,
                cwd=rig.folder.parent,  # for what a library may drop there
                pass_fds=(writer,),
                start_new_session=True,
            )
        except BaseException:
            os.close(self.reader)
            raise
        finally:
            os.close(writer)

    def follow(self, seconds_left: float | None) -> StageOutcome:
        limit_s = self.stage.minutes * 60 * PATIENCE
        cut = seconds_left is not None and seconds_left < limit_s
        allowed = seconds_left if cut and seconds_left is not None else limit_s
        try:
            in_time = self._read(self.begun + allowed)
            if in_time:
                self._reap()
                self._judge_end()
            else:
                self._stop()
                if not cut:
                    self._add(
                        "process",
                        f"did not end; stopped after {self._last()}",
                        f"{limit_s / 60:.3g} minutes",
                    )
        except KeyboardInterrupt as stop:
            self._stop()
            by = str(stop) or "stopped by Ctrl-C"
            raise StoppedByUser(self._outcome(f"{by} after {self._last()}")) from None
        finally:
            self._kill()
            os.close(self.reader)
        if not in_time and cut:
            return self._outcome(f"stopped at the time limit, after {self._last()}")
        return self._outcome()

    def _read(self, until: float) -> bool:
        """Read checks until the pipe is closed; False if that took too long."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.reader, selectors.EVENT_READ)
            while (left := until - time.monotonic()) > 0:
                # In short waits: processes left behind by the child may keep the pipe open after it has ended.
                if not selector.select(min(left, 0.5)):
                    if self.child.poll() is not None and not selector.select(0):
                        return True
                    continue
                data = os.read(self.reader, 65_536)
                if not data:
                    return True
                self._take(data)
        return False

    def _take(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            check = read_line(line.decode("utf-8"))
            if check is None:
                self.done = True
            else:
                self.checks.append(check)
                self.measured(check)

    def _reap(self) -> None:
        """Wait for the end of a child that has closed its pipe: interpreters can hang, and crash, on their way out."""
        with suppress(subprocess.TimeoutExpired):
            self.child.wait(self.grace_s)

    def _judge_end(self) -> None:
        code = self.child.poll()
        if code is None:
            self._add("process", f"did not end within {self.grace_s:g} s of {self._last()}", "it ends")
        elif code < 0:
            self._add("process", f"died of {_signal_name(-code)} after {self._last()}", "it lives")
        elif code != 0 or not self.done:
            self._add(
                "process", f"ended with exit code {code} after {self._last()}", "exit code 0, at its end"
            )
        elif not self.checks:
            self._add("process", "measured nothing", "one check")

    def _last(self) -> str:
        """Where in the stage it happened."""
        if self.done:
            return "its last check"
        return f'"{self.checks[-1].what}"' if self.checks else "its start"

    def _add(self, what: str, found: str, limit: str) -> None:
        check = Check(what, found, limit, False)
        self.checks.append(check)
        self.measured(check)

    def _stop(self) -> None:
        """Interrupt it like Ctrl-C, so that a build can stop and remove temporary files; then kill it."""
        for ask in (signal.SIGINT, signal.SIGTERM):
            self._signal(ask)
            with suppress(subprocess.TimeoutExpired):
                self.child.wait(self.grace_s)
                break
        # Checks measured while it was being stopped count too.
        os.set_blocking(self.reader, False)
        with suppress(BlockingIOError):
            while data := os.read(self.reader, 65_536):
                self._take(data)

    def _kill(self) -> None:
        """Kill the rest of its process group."""
        self._signal(signal.SIGKILL)
        self.child.wait()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.child.pid, number)

    def _outcome(self, unfinished: str = "") -> StageOutcome:
        outcome = judge(self.stage, self.checks, time.monotonic() - self.begun, _tail(self.said), unfinished)
        return outcome if outcome.state == "failed" else replace(outcome, said=())


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _tail(said: IO[bytes]) -> list[str]:
    """The last lines of what a process wrote."""
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - _SAID_BYTES))
    return said.read().decode("utf-8", "replace").splitlines()[-_SAID_LINES:]
