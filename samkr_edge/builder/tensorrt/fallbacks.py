"""Fallback plans for a builder that fails or computes wrongly. Pure.

Each keeps the requested FP32, or relies on the inspection of the built engine to find where it is not kept.
"""

from __future__ import annotations

from dataclasses import replace

from samkr_edge.builder.tensorrt.plan import BuildPlan
from samkr_edge.builder.tensorrt.typing_choice import OBEY, PREFER, precision_flags
from samkr_edge.runtime.tensorrt_log import is_about_memory


def after_failure(plan: BuildPlan, code: str, reason: str) -> BuildPlan | None:
    """The next plan to try, or None.

    Strong typing fails if Myelin rejects the graph (Model-Optimizer#4832 on 10.16.2), weak typing if no kernel meets a
    constraint (TensorRT#3552). A graph that the parser refuses is refused with weak typing's flags too.

    Args:
        code: of the error: SE-B90 the build failed, SE-B91 the parser refused.
        reason: TensorRT's, for the plan's note.
    """
    if code not in ("SE-B90", "SE-B91") or is_about_memory(reason):  # which other types do not fix
        return None
    if "STRONGLY_TYPED" in plan.network_flags and "bake_fp16" in plan.steps and plan.precision != "fp8":
        return _weakly_typed(plan, reason)
    if code == "SE-B90" and OBEY in plan.builder_flags:
        return _preferring(plan, reason)
    return None


def _weakly_typed(plan: BuildPlan, reason: str) -> BuildPlan:
    note = f"weak typing, and the layers are inspected: the strongly typed build failed ({reason[:120]})"
    return replace(
        plan,
        typing="weak",
        steps=tuple(step for step in plan.steps if step != "bake_fp16"),
        network_flags=tuple(flag for flag in plan.network_flags if flag != "STRONGLY_TYPED"),
        builder_flags=(*precision_flags(plan.precision, "weak"), *plan.builder_flags),
        notes=(*plan.notes, note),
    )


def _preferring(plan: BuildPlan, reason: str) -> BuildPlan:
    note = (
        "FP32 was requested but not enforced, and the layers are inspected: "
        f"enforced, the build failed ({reason[:120]})"
    )
    flags = tuple(PREFER if flag == OBEY else flag for flag in plan.builder_flags)
    return replace(plan, builder_flags=flags, notes=(*plan.notes, note))


def sampling_widely(plan: BuildPlan) -> BuildPlan | None:
    """The plan with the adaptive blocks entirely FP32; None if they already are, or if the graph has its own FP16."""
    if "wide_sampling" in plan.steps or (plan.typing == "strong" and "bake_fp16" not in plan.steps):
        return None
    baked = plan.steps[-1:] == ("bake_fp16",)
    steps = plan.steps[: len(plan.steps) - baked]
    note = "adaptive blocks are entirely FP32: this TensorRT samples wrongly next to FP16"
    return replace(
        plan,
        steps=(*steps, "wide_sampling", *(("bake_fp16",) if baked else ())),
        notes=(*plan.notes, note),
    )
