"""Which of the stages' requirements this machine has, looked up without risk to this process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.selftest.stage import Needs, Stage
from samkr_edge.builder.tensorrt.features import RTX_CAPABILITIES, features_of
from samkr_edge.child_process import HOME, NAMES
from samkr_edge.doctor.environment import environment
from samkr_edge.doctor.trial_import import ImportTrial, trial_imports
from samkr_edge.errors import SamkrError
from samkr_edge.machine.device import running_device, target_of
from samkr_edge.machine.driver import require_gpu
from samkr_edge.machine.tensorrt_module import MODULES, TITLES, Flavour, import_tensorrt
from targets.device import Device

NO_ONNX = 'the package onnx is not installed: pip install "samkr-edge[build]"'


@dataclass(frozen=True)
class MachineUnderTest:
    """What this machine has for the stages.

    Attributes:
        lacking: missing requirement -> why, in a few words.
        versions: of the TensorRT flavours that can be imported, and of torch if requested: ``TensorRT`` -> ``10.3.0``.
    """

    device: Device
    lacking: Mapping[Needs, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Plain JSON for results; ``title`` names the device in a sentence."""
        target = target_of(self.device)
        return {
            "environment": environment(),
            "device": asdict(self.device),
            "title": "" if target.name == "cpu" else target.title,
            "versions": dict(self.versions),
            "code": code_digest(),
        }


def look_around(stages: Iterable[Stage]) -> MachineUnderTest:
    """What these stages need and have. TensorRT and torch are imported in another process, since that can end it."""
    needed = {need for stage in stages for need in stage.needs}
    lacking: dict[Needs, str] = {}
    device = running_device()
    if "gpu" in needed and (reason := _no_gpu()):
        lacking["gpu"] = reason
    if "jetson" in needed and not any("tegra" in part for part in device.compatible):
        lacking["jetson"] = "this is not a Jetson"
    if "onnx" in needed and find_spec("onnx") is None:
        lacking["onnx"] = NO_ONNX
    modules: dict[str, str] = {}
    if "gpu" not in lacking:  # without a GPU the other look-ups are pointless
        modules |= {TITLES[flavour]: MODULES[flavour] for flavour in MODULES} if "tensorrt" in needed else {}
        modules |= {"torch": "torch"} if "torch" in needed else {}
    trials = trial_imports(list(modules.values()))
    complaints = {
        title: _complaint(title, trials[module])
        for title, module in modules.items()
        if not trials[module].works
    }
    rtx, capability = TITLES["rtx"], device.compute_capability
    if rtx in modules and rtx not in complaints and capability not in RTX_CAPABILITIES:
        complaints[rtx] = f"{rtx} cannot build engines for SM {capability}"
    if "torch" in complaints:
        lacking["torch"] = complaints.pop("torch")
    if len(complaints) == len(TITLES):
        lacking["tensorrt"] = "; ".join(complaints.values())
    versions = {
        title: version
        for title, module in modules.items()
        if title not in complaints and (version := trials[module].version)
    }
    return MachineUnderTest(device, lacking, versions)


def require_gpu_here() -> None:
    """Raises SamkrError SE-V61, one line, if there is no GPU to test."""
    if reason := _no_gpu():
        raise SamkrError("SE-V61", f"the self-test needs an NVIDIA GPU, and there is none: {reason}")


def code_digest() -> str:
    """SHA-256 over samkr-edge's Python files: a stage that passed with other code says nothing about this code."""
    digest = hashlib.sha256()
    for name in NAMES:
        for path in sorted((Path(HOME) / name).rglob("*.py")):
            digest.update(f"{path.relative_to(HOME)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def served_flavours() -> tuple[Flavour, ...]:
    """The flavours of TensorRT that are installed here and make engines for this GPU.

    TensorRT for RTX is made for some compute capabilities, a Jetson's not among them.
    """
    found: list[Flavour] = []
    for flavour in MODULES:
        try:
            trt = import_tensorrt(flavour)
        except SamkrError:
            continue
        if flavour != "rtx" or running_device().compute_capability in features_of(trt, flavour).capabilities:
            found.append(flavour)
    return tuple(found)


def _no_gpu() -> str:
    """Why there is no GPU; empty if there is one."""
    try:
        require_gpu()
    except SamkrError as error:
        return " ".join(str(error.facts["reason"]).split())
    return ""


def _complaint(title: str, trial: ImportTrial) -> str:
    if not trial.found:
        return f"{title} is not installed"
    reason = f"{trial.lacks} is missing" if trial.lacks else trial.error
    return f"{title} does not import: {reason}"
