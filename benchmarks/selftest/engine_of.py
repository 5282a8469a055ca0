"""An engine of a few operations, built like a network's and run once, to test this TensorRT's operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from samkr_edge.builder.tensorrt.engine_bytes import build_bytes
from samkr_edge.builder.tensorrt.fallbacks import after_failure
from samkr_edge.builder.tensorrt.features import Features, features_of
from samkr_edge.builder.tensorrt.micro_engine import run_once
from samkr_edge.builder.tensorrt.plan import MIB, BuildPlan
from samkr_edge.builder.tensorrt.typing_choice import CLEARED, OBEY, network_flags
from samkr_edge.errors import SamkrError
from samkr_edge.machine.device import running_device, target_of
from samkr_edge.machine.tensorrt_module import Flavour, import_tensorrt
from samkr_edge.onnx_graph.onnx_reading import decode_onnx

WORKSPACE = 512 * MIB


@dataclass(frozen=True)
class Form:
    """How the types of an engine are chosen.

    Attributes:
        title: for people.
        typing: ``strong``, ``weak``, or None: strong if this version has it.
        flags: of the builder.
        steps: what ``samkr_edge.builder.tensorrt.edits.prepare`` does to the graph.
    """

    title: str
    typing: str | None = None
    flags: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()

    def lacking(self, features: Features) -> str:
        """Why this version has no such engines; empty if it has."""
        if self.typing == "weak" and not features.precision_flags:
            return f"{features.title} has no weak typing"
        if self.typing == "strong" and features.precision_flags and not features.strongly_typed:
            return f"{features.title} has no strong typing"
        return ""


FP32 = Form("FP32")
# FP16 wherever TensorRT chooses it, except where it must keep FP32.
WEAK_FP16 = Form("weak FP16", "weak", ("FP16", OBEY))
# FP16 written into the graph, except where full precision must stay.
STRONG_FP16 = Form("FP32 inside strong FP16", "strong", steps=("bake_fp16",))


@dataclass(frozen=True)
class EngineOutputs:
    """An engine's outputs.

    Attributes:
        outputs: by name.
        note: how it was built, if not as requested; else empty.
    """

    outputs: dict[str, np.ndarray]
    note: str = ""


def features_here(flavour: Flavour) -> Features:
    """Of the installed TensorRT; raises SamkrError SE-V91 without one."""
    return features_of(import_tensorrt(flavour), flavour)


def plan_of(graph: bytes, form: Form, flavour: Flavour) -> BuildPlan:
    """The plan of an engine in this form, for this GPU."""
    features, device = features_here(flavour), running_device()
    strong = form.typing == "strong" or (
        form.typing is None and (features.strongly_typed or not features.precision_flags)
    )
    typing = "strong" if strong else "weak"
    return BuildPlan(
        target=target_of(device).name,
        tensorrt=features.version,
        flavour=flavour,
        compute_capabilities=(device.compute_capability or "",) if features.capabilities else (),
        precision="fp32" if form == FP32 else "fp16",
        typing=typing,
        steps=form.steps,
        network_flags=network_flags(features, typing),
        builder_flags=form.flags,
        cleared_flags=CLEARED,
        input_shape=tuple(size or 1 for size in decode_onnx(graph).inputs[0].shape),
        profile_batch=None,
        workspace_bytes=WORKSPACE,
        optimization_level=3 if features.optimization_level else None,
        hardware_compatibility=None,
        dla_core=None,
        calibrate=False,
        timing_cache=None,
        by_hand=None,
        notes=(),
    )


def run_plan(graph: bytes, plan: BuildPlan, inputs: Mapping[str, np.ndarray], name: str) -> EngineOutputs:
    """Build and run; if the build fails, try the same fallback as for networks.

    Args:
        inputs: by name, of the graph's shapes and types.
        name: of the graph, for errors.

    Raises:
        SamkrError: what building and running refuse.
    """
    note = ""
    model = decode_onnx(graph)
    while True:
        try:
            engine = build_bytes(Path(f"{name}.onnx"), plan, graph=model)
            break
        except SamkrError as error:
            instead = after_failure(plan, error.code, error.message)
            if instead is None:
                raise
            note, plan = instead.notes[-1], replace(instead, notes=())
    return EngineOutputs(run_once(engine.data, inputs, plan.flavour), note)
