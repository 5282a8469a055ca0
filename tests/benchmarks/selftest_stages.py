"""Stages that end in every way a stage can end, for the tests of what follows them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.selftest.stage import Check, Rig, not_run


def good(rig: Rig) -> Iterator[Check]:
    print("noise of a library on stdout")
    (rig.folder / "left behind").write_text("x")
    yield Check("bytes", "equal", "equal", True, {"bytes": np.int64(4), "largest_error": np.float32(0.25)})
    yield not_run("pycuda", "pycuda is not installed")
    yield Check(
        "figures", "odd ones", "any", np.bool_(True), {"infinite": float("inf"), "array": np.arange(2)}
    )  # type: ignore[arg-type]


def wrong(rig: Rig) -> Iterator[Check]:
    yield Check("first", "fine", "any", True)
    yield Check("error", "0.3", "at most 0.1", False)
    yield Check("last", "fine", "any", True)


def nothing_to_run_on(rig: Rig) -> Iterator[Check]:
    yield not_run("engine", "no flavour serves this card")


def raises(rig: Rig) -> Iterator[Check]:
    yield Check("first", "fine", "any", True)
    raise RuntimeError("a library is broken")


def silent(rig: Rig) -> Iterator[Check]:
    yield from ()


def segfaults(rig: Rig) -> Iterator[Check]:
    yield Check("builder", "made", "any", True)
    print("last words", file=sys.stderr, flush=True)
    ctypes.string_at(0)


def dies_on_its_way_out(rig: Rig) -> Iterator[Check]:
    import atexit

    atexit.register(lambda: os.kill(os.getpid(), signal.SIGABRT))
    yield Check("engine", "ran", "any", True)


def exits(rig: Rig) -> Iterator[Check]:
    yield Check("first", "fine", "any", True)
    os._exit(0)


def hangs(rig: Rig) -> Iterator[Check]:
    yield Check("first", "fine", "any", True)
    time.sleep(600)


def hangs_for_good(rig: Rig) -> Iterator[Check]:
    """As native code does, which no signal but one ends; with a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield Check("first", str(child.pid), "any", True)
    time.sleep(600)


def leaves_a_process_behind(rig: Rig) -> Iterator[Check]:
    if (pid := os.fork()) == 0:
        time.sleep(600)
    yield Check("first", str(pid), "any", True)
