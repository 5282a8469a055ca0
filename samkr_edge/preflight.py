"""The check before a built model is loaded: its bytes against its passport, and the passport against this device.

What does not fit is refused with the reason and the command that fixes it. Loading an engine runs native code, so bytes
that do not match are never loaded: an engine is read once, hashed in memory, and those very bytes are deserialised.
"""

from __future__ import annotations

from pathlib import Path

from samkr_edge.engine_check import check_engine
from samkr_edge.errors import SamkrError
from samkr_edge.machine.cpu import cpu_device
from samkr_edge.machine.device import running_device
from samkr_edge.machine.driver import require_gpu
from samkr_edge.machine.onnx_runtime_module import import_onnxruntime
from samkr_edge.machine.tensorrt_module import tensorrt_version
from samkr_edge.passport import Passport, verified_bytes
from targets.profile import version_tuple


def preflight(model: Path) -> Passport:
    """Compare a built model with its passport and this device, before anything is loaded.

    Raises:
        SamkrError: what ``samkr_edge.passport.verified_bytes`` refuses; SE-A56 built for another machine, SE-A57
            built with CPU features that this CPU lacks, SE-A58 built by a newer runtime; for engines what
            ``samkr_edge.engine_check.check_engine`` refuses, SE-V87 no GPU, SE-V91 no TensorRT.
    """
    return admit(model)[0]


def admit(model: Path) -> tuple[Passport, bytes]:
    """``preflight``, returning also the bytes that it verified."""
    passport, data = verified_bytes(model)
    if passport.target == "cpu":
        _check_cpu(model, passport, passport.build_again(model))
    else:
        require_gpu()
        check_engine(model, passport, running_device(), tensorrt_version(passport.runtime))
    return passport, data


def _check_cpu(model: Path, passport: Passport, again: str) -> None:
    onnxruntime = import_onnxruntime()

    here = cpu_device()
    if passport.device.get("machine") != here["machine"]:
        raise SamkrError(
            "SE-A56",
            f"{model.name} was built for another machine, so it was not loaded",
            {"built on": passport.device.get("machine"), "this is": here["machine"]},
            fix=again,
        )
    missing = set(passport.device.get("cpu_features", [])) - set(here["cpu_features"])
    if missing:
        raise SamkrError(
            "SE-A57",
            f"{model.name} was built on a CPU with instructions that this one lacks, so it was not loaded",
            {
                "missing": ", ".join(sorted(missing)),
                "effect": "its INT8 kernels would be slow or saturate here",
            },
            fix=again,
        )
    built = passport.versions.get("onnxruntime", "0")
    if version_tuple(built)[:2] > version_tuple(onnxruntime.__version__)[:2]:
        raise SamkrError(
            "SE-A58",
            f"{model.name} was built with a newer ONNX Runtime, so it was not loaded",
            {"built with": built, "this is": onnxruntime.__version__},
            fix=f"{again}   # or: pip install 'onnxruntime>={built}'",
        )
