"""The facts about a machine that decide a model's numbers, and must be equal for one machine to replace another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_RUNTIMES = (
    "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "tensorrt", "tensorrt-rtx", "onnx", "torch",
)  # fmt: skip


def machine_facts(environment: Mapping[str, Any]) -> dict[str, Any]:
    """The device facts of an environment from ``samkr_edge.doctor.environment.environment``."""
    return {name: environment.get(name) for name in ("machine", "cpu", "cores", "jetson", "gpus")}


def what_computes(environment: Mapping[str, Any]) -> dict[str, Any]:
    """The device and the versions of the software that runs and builds models on it."""
    packages = environment.get("packages") or {}
    return {**machine_facts(environment), **{name: packages.get(name) for name in _RUNTIMES}}
