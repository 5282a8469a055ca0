"""What every test may count on."""

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from samkr_edge.files.artefact import undisturbed
from samkr_edge.machine.onnx_runtime_module import switch_off_telemetry

switch_off_telemetry()  # some tests import onnxruntime themselves

# Bytecode is kept, also where the environment says not to, as in many container images: each of the hundreds of Python
# processes that the tests start would compile torch and its likes anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported here stays to the end: looking through it at every full collection would cost more than most
    tests, and each measurement begins with one. Graphs are millions of small objects and few of them are cycles:
    looking through them every 700 objects would find next to nothing.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(10_000)


@pytest.fixture(scope="session", autouse=True)
def interrupts_arrive() -> Iterator[None]:
    """Ctrl-C raises, also where the tests run in the background of a shell, which starts its jobs deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Commands set torch's threads for the whole process, by default to all cores, which other workers use too."""
    yield
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``made_once("ptq.onnx", write)``: the file that ``write(path)`` makes, once for all workers of this run.

    Nothing is changed in it, nor written next to it. ``write`` makes the whole file or none.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # every worker has a folder of its own in the run's

    def path_of(name: str, write: Callable[[Path], object]) -> Path:
        path = shared / "made_once" / name
        lock = path.with_suffix("")
        lock.mkdir(parents=True, exist_ok=True)
        with undisturbed(lock, alone=True):  # another worker that makes it is waited for
            if not path.exists():
                write(path)
        return path

    return path_of
