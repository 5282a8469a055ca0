"""Findings of ``samkr-edge doctor`` about CUDA and TensorRT, from what was found, imported and opened; pure.

Sources of the drivers' lowest versions: CUDA's release notes, "Minor Version Compatibility". Any call of a
TensorRT made for a newer major CUDA version than the driver's fails with CUDA's error 35.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samkr_edge.doctor.diagnosis import Diagnosis
from samkr_edge.doctor.gpu_trial import BACKENDS, GpuTrial
from samkr_edge.doctor.system_packages import hidden_package
from samkr_edge.doctor.tensorrt_install import TensorRTInstall
from samkr_edge.machine.cuda_errors import CAUSES, OLD_DRIVER

TITLES = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT for RTX"}
_DRIVERS = {11: "450.80", 12: "525.60", 13: "580.65"}


def hidden_tensorrt(systems: Path, prefix: str, python: tuple[int, int]) -> Diagnosis:
    """TensorRT is in the folder of the system's Python, where this Python does not look.

    Args:
        systems: that folder, ``/usr/lib/python3.10/dist-packages``.
        prefix: the environment here, ``sys.prefix``; python: its version.
    """
    why, fix = hidden_package(systems, prefix, python)
    return Diagnosis(False, "TensorRT engines", f"TensorRT is in {systems}, not visible here: {why}", fix)


def missing_tensorrt(detail: str, facts: Mapping[str, Any], lean: bool) -> Diagnosis:
    """There is a GPU and no TensorRT.

    Args:
        detail: what is missing.
        lean: whether TensorRT's lean runtime is installed, which is no substitute.
    """
    if lean:
        detail += "; tensorrt-lean is another module, without a builder"
    known = _major(facts.get("cuda"))
    if facts.get("jetson"):
        fix = "sudo apt install python3-libnvinfer   # then a venv of the system's Python, --system-site-packages"
    else:
        fix = f"pip install {_made_for('tensorrt', known)}" if known else 'pip install "samkr-edge[tensorrt]"'
    return Diagnosis(False, "TensorRT engines", detail, fix)


def with_trial(
    works: Diagnosis, name: str, install: TensorRTInstall, facts: Mapping[str, Any], trial: GpuTrial
) -> Diagnosis:
    """A finding from an import, corrected after TensorRT was really opened."""
    if trial.works:
        return Diagnosis(True, works.what, f"{works.detail}: {trial.said.rpartition(', ')[2]}")
    if trial.cuda_error in OLD_DRIVER:
        return _too_old(works.what, name, install, facts)
    reason, fix = CAUSES.get(
        trial.cuda_error or 0, ("", "nvidia-smi   # is the driver whole, and the GPU free?")
    )
    detail = f"{TITLES[name]} imports but does not open: {trial.said}" + (f" ({reason})" if reason else "")
    return Diagnosis(False, works.what, detail, fix)


def one_of_each(name: str, install: TensorRTInstall, facts: Mapping[str, Any]) -> list[Diagnosis]:
    """What keeps an installed flavour from running engines here: two installations, or one for a newer CUDA."""
    what, known = f"one {TITLES[name]}", _major(facts.get("cuda"))
    if len(install.cuda) > 1:
        fitting = [major for major in install.cuda if known is None or major <= known]
        kept = fitting[-1] if fitting and known is not None else install.cuda[0]
        others = [
            one for one in install.distributions if "-cu" in one and not one.startswith(f"{name}-cu{kept}")
        ]
        both = " and ".join(f"{name}-cu{major}" for major in install.cuda)
        return [
            Diagnosis(
                False,
                what,
                f"{both} write into the same folder; which one loads is chance",
                f"pip uninstall {' '.join(others)} && pip install --force-reinstall {name}-cu{kept}",
            )
        ]
    if known is not None and install.cuda and known < install.cuda[0]:
        return [_too_old(what, name, install, facts)]
    return []


def backends(trials: Mapping[str, GpuTrial], facts: Mapping[str, Any]) -> list[Diagnosis]:
    """Each way to CUDA that was tried."""
    found = []
    for name in BACKENDS:
        if (trial := trials.get(name)) is None:
            continue
        what = "CUDA by the driver" if name == "driver" else f"CUDA by {name}"
        if trial.works:
            found.append(Diagnosis(True, what, trial.said))
        elif name == "driver":
            found.append(
                Diagnosis(False, what, trial.said, "nvidia-smi   # is the driver whole, and the GPU free?")
            )
        else:
            known = _major(facts.get("cuda"))
            fix = "ignore it: samkr-edge needs only the driver"
            if name == "cuda-python" and known:
                fix += f'; or: pip install "cuda-python=={known}.*"'
            found.append(Diagnosis(False, what, trial.said, fix))
    return found


def jetpack(facts: Mapping[str, Any]) -> list[Diagnosis]:
    """A Jetson that does not say which JetPack it has; plans for it use its TensorRT version alone."""
    if not str(facts.get("jetson") or "").endswith("L4T unknown"):
        return []
    detail = f"{facts['jetson']}: this container has no /etc/nv_tegra_release"
    return [
        Diagnosis(
            False, "JetPack version", detail, "docker run -v /etc/nv_tegra_release:/etc/nv_tegra_release:ro"
        )
    ]


def _too_old(what: str, name: str, install: TensorRTInstall, facts: Mapping[str, Any]) -> Diagnosis:
    needed, known = max(install.cuda, default=None), _major(facts.get("cuda"))
    needs = (
        f"{name}-cu{needed} needs CUDA {needed}" if needed else f"{name} {install.version} needs a newer one"
    )
    detail = f"the driver is too old for this {TITLES[name]}: it supports CUDA {facts.get('cuda')}, {needs}"
    if facts.get("jetson"):
        fix = f"pip uninstall {' '.join(install.distributions)}   # JetPack's own fits its driver"
    else:
        at_least = f" to {_DRIVERS[needed]} or newer" if needed in _DRIVERS else ""
        fix = f"update the driver{at_least}"
        if needed and known:
            fix += f", or: pip uninstall {' '.join(install.distributions)} && pip install {_made_for(name, known)}"
    return Diagnosis(False, what, detail, fix)


def _made_for(name: str, cuda: int) -> str:
    """The package for a driver's CUDA: a driver runs packages made for its own major version and for older ones."""
    oldest = 12 if name == "tensorrt-rtx" else 11
    return f"{name}-cu{min(max(cuda, oldest), 13)}"


def _major(cuda: str | None) -> int | None:
    return int(cuda.partition(".")[0]) if cuda else None
