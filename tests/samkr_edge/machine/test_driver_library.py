"""A libcuda.so.1 that is there and is no driver: the toolkit's stub, half of an update, something else of that name."""

import ctypes
import json
from collections.abc import Callable
from typing import Any

import pytest
from fake_driver import Driver

import samkr_edge.machine.driver
from samkr_edge.cli import run
from samkr_edge.doctor import findings as doctor
from samkr_edge.doctor.trial_import import ImportTrial
from samkr_edge.errors import SamkrError
from samkr_edge.machine.device import ask_driver, running_device
from samkr_edge.machine.driver import FUNCTIONS, open_driver, require_gpu


def no_library(name: str) -> Any:
    """A file that is no library at all."""
    return ctypes.CDLL(__file__)


def no_symbols(name: str) -> Any:
    """A real library without one function of the driver's: the process itself."""
    return ctypes.CDLL(None)


class Stub(Driver):
    """The toolkit's libcuda for linking: every function is there and answers 34."""

    def cuInit(self, flags: int) -> int:
        return 34


class Half(Driver):
    """Of an older driver: what tells the GPU's memory has another name."""

    def __getattribute__(self, name: str) -> Any:
        if name == "cuDeviceTotalMem_v2":
            raise AttributeError(f"libcuda.so.1: undefined symbol: {name}")
        return super().__getattribute__(name)


BROKEN: dict[str, tuple[Callable[[str], Any], str]] = {
    "no library": (no_library, "is there but cannot be loaded"),
    "no symbols": (no_symbols, "it has no cuInit"),
    "stub": (lambda name: Stub(), "the toolkit's stub"),
    "half": (lambda name: Half(), "it has no cuDeviceTotalMem_v2"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_it_is_no_gpu_and_why_is_told(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load, reason = BROKEN[kind]
    monkeypatch.setattr(samkr_edge.machine.driver, "_load_driver", lambda: open_driver(load))
    # Importing every package for each broken driver takes long and says nothing of it.
    monkeypatch.setattr(
        doctor, "trial_imports", lambda modules: {name: ImportTrial(False) for name in modules}
    )
    with pytest.raises(SamkrError) as raised:
        require_gpu()
    assert raised.value.code == "SE-V87"
    assert reason in raised.value.facts["reason"]
    assert samkr_edge.machine.driver.gpu_count() == 0
    assert running_device().gpu is None
    assert run(["doctor", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["environment"]["gpus"] == 0
    (row,) = (row for row in shown["findings"] if row["what"] == "TensorRT engines")
    assert reason in row["detail"]


def test_where_there_is_none_a_missing_driver_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samkr_edge.machine.driver, "LIBRARY", "libnothing.so.0")
    assert "no NVIDIA driver is installed" in open_driver(ctypes.CDLL)[1]


def test_a_driver_without_a_gpu_is_told() -> None:
    class Alone(Driver):
        def cuDeviceGetCount(self, out: Any) -> int:
            return 0

    assert open_driver(lambda name: Alone()) == (None, "the driver shows no GPU")


def test_a_whole_driver_is_opened_and_every_function_that_is_called_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used: set[str] = set()

    class Watched(Driver):
        def __getattribute__(self, name: str) -> Any:
            if name.startswith("cu") and name[2].isupper():
                used.add(name)
            return super().__getattribute__(name)

    library = Watched()
    driver, reason = open_driver(lambda name: library)
    assert (driver, reason) == (library, "")
    used.clear()
    assert ask_driver(driver)["gpu"] == "NVIDIA GeForce RTX 4090"
    monkeypatch.setattr(samkr_edge.machine.driver, "_load_driver", lambda: (driver, ""))
    assert samkr_edge.machine.driver.gpu_count() == 1
    assert used <= set(FUNCTIONS)
