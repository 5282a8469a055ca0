"""Which of the installed parts work here, judged by real imports and real engines."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from samkr_edge.doctor import gpu_findings
from samkr_edge.doctor.diagnosis import Diagnosis
from samkr_edge.doctor.environment import PACKAGES, installed
from samkr_edge.doctor.gpu_trial import GpuTrial, try_on_gpu
from samkr_edge.doctor.opencv_install import how_to_get, how_to_mend, opencv_finding, pip_line
from samkr_edge.doctor.tensorrt_install import (
    MODULES,
    distribution_version,
    systems_tensorrt,
    tensorrt_install,
)
from samkr_edge.doctor.trial_import import ImportTrial, trial_imports
from samkr_edge.doctor.typer_check import is_too_old
from samkr_edge.machine.driver import why_no_gpu

FILES = ("pydantic", "pyyaml", "typer", "rich")
MODELS = ("numpy", "opencv", "onnxruntime", "pycocotools", "scipy")


def try_packages() -> dict[str, ImportTrial]:
    """Distribution -> the result of its import; takes some seconds if torch is installed."""
    modules = {distribution: module for distribution, module in PACKAGES.items() if module is not None}
    trials = trial_imports(list(modules.values()))
    return {distribution: trials[module] for distribution, module in modules.items()}


def try_gpu(facts: dict[str, Any], trials: dict[str, ImportTrial]) -> dict[str, GpuTrial]:
    """Package for the GPU -> the result of opening it; some seconds each. Empty without a GPU."""
    if not facts["gpus"]:
        return {}
    packages = {"cuda-python": ("cuda-python", "cuda-bindings"), "pycuda": ("pycuda",)}
    names = ["driver", *(name for name, its in packages.items() if any(map(distribution_version, its)))]
    return try_on_gpu([*names, *(name for name in MODULES if trials[name].works)])


def findings(
    facts: dict[str, Any], trials: dict[str, ImportTrial], gpu_trials: Mapping[str, GpuTrial] | None = None
) -> list[Diagnosis]:
    """What works here and what does not, from facts of ``environment()``, ``try_packages`` and ``try_gpu``."""
    gpu_trials = gpu_trials or {}
    runtimes = [n for n in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino") if installed(n)]
    needs = partial(_needs, facts["packages"], trials)
    files = needs("read its own files", FILES, "")
    if files.works and is_too_old(facts["packages"].get("typer") or trials["typer"].version):
        detail = f"{files.detail}; this typer misreads command lines"
        files = Diagnosis(False, files.what, detail, f'pip install "{requirement("typer")}"')
    found = [
        files,
        needs("run and score models", MODELS, ""),
        needs("build for the CPU", ("onnx",), "build"),
        needs("train and export", ("torch", "onnx"), "train"),
        needs("quantize", ("torch", "onnx", "nvidia-modelopt"), "quantize"),
        needs("write HTML reports", ("jinja2",), "report"),
        needs("read AV1, write H.264", ("av",), "video"),
    ]
    if trials["opencv"].works:
        found.insert(2, opencv_finding())
    if len(runtimes) > 1:
        found.append(
            Diagnosis(
                False,
                "one ONNX Runtime",
                f"{' and '.join(runtimes)} write into the same folder; which one loads is chance",
                f"pip uninstall {' '.join(runtimes)} && pip install {runtimes[0]}",
            )
        )
    vnni = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"} & set(facts["cpu_features"])
    detail = ", ".join(sorted(vnni)) if vnni else "no integer dot product: INT8 may be no faster than FP32"
    found.append(Diagnosis(bool(vnni), "fast INT8 on this CPU", detail))
    found.append(_engines(facts, trials, gpu_trials, needs))
    found.append(needs("build for GeForce RTX, without a GPU", ("onnx", "tensorrt-rtx"), "rtx"))
    rtx = tensorrt_install("tensorrt-rtx")
    if (trial := gpu_trials.get("tensorrt-rtx")) is not None:
        run = Diagnosis(True, "run engines for GeForce RTX", f"tensorrt-rtx {rtx.version}")
        found.append(gpu_findings.with_trial(run, "tensorrt-rtx", rtx, facts, trial))
    for name in MODULES:
        found += gpu_findings.one_of_each(name, tensorrt_install(name), facts)
    return found + gpu_findings.backends(gpu_trials, facts) + gpu_findings.jetpack(facts)


def _engines(
    facts: dict[str, Any],
    trials: dict[str, ImportTrial],
    gpu_trials: Mapping[str, GpuTrial],
    needs: Callable[[str, tuple[str, ...], str], Diagnosis],
) -> Diagnosis:
    """Whether TensorRT builds and runs engines here."""
    systems = systems_tensorrt()
    if not trials["tensorrt"].found and systems is not None:
        return gpu_findings.hidden_tensorrt(systems, sys.prefix, sys.version_info[:2])
    if not facts["gpus"]:
        reason = why_no_gpu() or "no NVIDIA driver or GPU is visible"
        fix = "docker run --runtime nvidia   # in a container" if facts["jetson"] else "use --target cpu here"
        return Diagnosis(False, "TensorRT engines", reason, fix)
    finding = needs("TensorRT engines", ("tensorrt",), "tensorrt")
    if not trials["tensorrt"].found:
        lean = any(distribution_version(f"tensorrt-lean{end}") for end in ("", "-cu11", "-cu12", "-cu13"))
        return gpu_findings.missing_tensorrt(finding.detail, facts, lean)
    if finding.works and (trial := gpu_trials.get("tensorrt")) is not None:
        return gpu_findings.with_trial(finding, "tensorrt", tensorrt_install("tensorrt"), facts, trial)
    return finding


def _needs(
    versions: dict[str, str], trials: dict[str, ImportTrial], what: str, names: tuple[str, ...], extra: str
) -> Diagnosis:
    # Every command needs the base, and most need the packages that run models.
    needed = dict.fromkeys((*FILES, *(MODELS if names != FILES else ()), *names))
    missing = [name for name in needed if not trials[name].found]
    missing += [
        f"{lacks} ({name} imports it)" for name in needed if (lacks := trials[name].lacks) is not None
    ]
    if missing == ["opencv"]:
        return Diagnosis(False, what, "missing: opencv", how_to_get())
    if missing:
        return Diagnosis(False, what, f"missing: {', '.join(missing)}", pip_line(extra, "opencv" in missing))
    broken = [name for name in needed if trials[name].error is not None]
    if broken == ["opencv"]:
        error = str(trials["opencv"].error)
        return Diagnosis(False, what, f"opencv does not import: {error}", how_to_mend(error))
    if broken:
        reasons = "; ".join(f"{name} does not import: {trials[name].error}" for name in broken)
        if all("UnicodeDecodeError" in str(trials[name].error) for name in broken):
            return Diagnosis(False, what, reasons, "export PYTHONUTF8=1   # the packages are whole")
        wanted = " ".join(f'"{requirement(name)}"' for name in broken)
        return Diagnosis(False, what, reasons, f"pip install --upgrade --force-reinstall {wanted}")
    shown = (f"{name} {versions.get(name) or trials[name].version or ''}".strip() for name in names)
    return Diagnosis(True, what, ", ".join(shown))


def requirement(distribution: str) -> str:
    """This package's requirement with its bounds, ``onnxruntime>=1.22``; else the bare name."""
    try:
        asked = importlib.metadata.requires("samkr-edge") or []
    except importlib.metadata.PackageNotFoundError:  # a source tree that was not installed
        asked = []
    names = (line.partition(";")[0].strip() for line in asked)
    return next(
        (line for line in names if re.match(rf"{re.escape(distribution)}(?![\w.-])", line)), distribution
    )
