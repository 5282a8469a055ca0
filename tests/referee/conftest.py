"""NVIDIA's own parser and builder, TensorRT for RTX: it builds for every GeForce RTX on a machine without a GPU.

Where there is no wheel of it (no Linux, another C library) these tests are skipped, and say so.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from engine_types import Build

from samkr_edge.builder.tensorrt.engine_bytes import SerializedEngine, build_bytes
from samkr_edge.builder.tensorrt.features import Features, features_of
from samkr_edge.builder.tensorrt.plan import plan_build
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.machine.tensorrt_module import import_tensorrt
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from targets.profile import load_target


@pytest.fixture(scope="session")
def features() -> Features:
    """Of the wheel that is installed here. One that does not load is an error, not a reason to skip."""
    if find_spec("tensorrt_rtx") is None:
        pytest.skip("no wheel tensorrt-rtx-cu12 or tensorrt-rtx-cu13 is installed here")
    return features_of(import_tensorrt("rtx"), "rtx")


@pytest.fixture(scope="session")
def build(features: Features) -> Build:
    """``build(onnx, "rtx-4090", precision=...)``: plan and build as the command does, for one target or many."""

    def plan_and_build(source: Path, target: str = "rtx-4090", **wishes: Any) -> SerializedEngine:
        facts = facts_of(read_onnx(source))
        return build_bytes(source, plan_build(load_target(target), features, facts, Wishes(**wishes)))

    return plan_and_build
