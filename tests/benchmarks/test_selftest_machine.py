"""What stages need is looked for without importing it into this process, and what is not there is named."""

from __future__ import annotations

import pytest

from benchmarks.selftest import machine
from benchmarks.selftest.machine import look_around
from benchmarks.selftest.stage import Needs, Stage
from samkr_edge.doctor.trial_import import ImportTrial
from samkr_edge.errors import SamkrError
from targets.recognise import Device

ORIN = Device(
    model="NVIDIA Jetson Orin Nano", compatible=("nvidia,p3767-0005", "nvidia,tegra234"), gpu="Orin"
)
ABSENT = ImportTrial(False)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> dict[str, ImportTrial]:
    """Module -> what its import gives; this machine has a GPU."""
    trials: dict[str, ImportTrial] = {}
    monkeypatch.setattr(machine, "require_gpu", lambda: None)
    monkeypatch.setattr(machine, "running_device", lambda: ORIN)
    monkeypatch.setattr(machine, "trial_imports", lambda names: {name: trials[name] for name in names})
    return trials


def stage(*needs: Needs) -> Stage:
    return Stage(0, "a stage", "nowhere:checks", needs, 1)


def test_one_flavour_is_enough(tried: dict[str, ImportTrial]) -> None:
    tried |= {"tensorrt": ImportTrial(True, "10.3.0"), "tensorrt_rtx": ABSENT}
    found = look_around([stage("gpu", "tensorrt"), stage("gpu", "tensorrt", "jetson")])
    assert found.lacking == {}
    assert found.versions == {"TensorRT": "10.3.0"}
    assert found.facts()["title"] == "Jetson Orin Nano 8 GB"


def test_a_flavour_that_makes_no_engines_for_this_card_is_none(
    tried: dict[str, ImportTrial], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried |= {"tensorrt": ABSENT, "tensorrt_rtx": ImportTrial(True, "1.7.1.116")}
    for capability, lacking in (("8.9", set()), ("9.0", {"tensorrt"})):
        card = Device(gpu="a card", compute_capability=capability)
        monkeypatch.setattr(machine, "running_device", lambda card=card: card)
        found = look_around([stage("gpu", "tensorrt")])
        assert set(found.lacking) == lacking
    assert found.lacking["tensorrt"] == (
        "TensorRT is not installed; TensorRT for RTX cannot build engines for SM 9.0"
    )


def test_what_is_not_there_is_named(tried: dict[str, ImportTrial], monkeypatch: pytest.MonkeyPatch) -> None:
    tried |= {
        "tensorrt": ImportTrial(True, error="OSError: libnvinfer.so.10 is missing"),
        "tensorrt_rtx": ABSENT,
        "torch": ImportTrial(True, lacks="numpy", error="No module named 'numpy'"),
    }
    monkeypatch.setattr(machine, "running_device", Device)
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    found = look_around([stage("gpu", "tensorrt", "onnx"), stage("torch"), stage("jetson")])
    assert found.lacking == {
        "tensorrt": "TensorRT does not import: OSError: libnvinfer.so.10 is missing; "
        "TensorRT for RTX is not installed",
        "torch": "torch does not import: numpy is missing",
        "onnx": 'the package onnx is not installed: pip install "samkr-edge[build]"',
        "jetson": "this is not a Jetson",
    }
    assert found.versions == {}


def test_only_what_is_needed_is_tried(tried: dict[str, ImportTrial]) -> None:
    assert look_around([stage("gpu")]).lacking == {}


def test_without_a_gpu_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> None:
        raise SamkrError("SE-V87", "none", {"reason": "no driver is  installed"})

    monkeypatch.setattr(machine, "require_gpu", nowhere)
    monkeypatch.setattr(machine, "trial_imports", lambda names: {} if not names else pytest.fail(str(names)))
    assert look_around([stage("gpu", "tensorrt", "torch")]).lacking == {"gpu": "no driver is installed"}
