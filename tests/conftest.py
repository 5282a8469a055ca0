"""What every test may count on."""

import gc
import signal
from collections.abc import Iterator

import pytest

from samkr_edge.machine.onnx_runtime_module import switch_off_telemetry

switch_off_telemetry()  # some tests import onnxruntime themselves


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported here stays to the end: looking through it at every full collection would cost more than most
    tests, and each measurement begins with one.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def interrupts_arrive() -> Iterator[None]:
    """Ctrl-C raises, also where the tests run in the background of a shell, which starts its jobs deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
