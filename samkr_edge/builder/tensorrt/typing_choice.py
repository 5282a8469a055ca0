"""Strong or weak typing, and TensorRT's flags for it. Pure.

A strongly typed network runs in its graph's types, so FP32 stays where the graph has it. With weak typing TensorRT
chooses; constraints on single layers are sometimes ignored (TensorRT#3941, #4505, #3889) or make the build fail
(#3552). So it is only used on versions and devices without strong typing, and its layers are inspected after the build.
"""

from __future__ import annotations

from samkr_edge.builder.tensorrt.features import Features
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.onnx_graph.onnx_facts import OnnxFacts

OBEY, PREFER = "OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS"
# Set by default; with it, FP32 convolutions would use no more bits than FP16 ones.
CLEARED = ("TF32",)


def choose_typing(
    features: Features, onnx: OnnxFacts, wishes: Wishes, precision: str
) -> tuple[str, str | None]:
    """``strong`` wherever it exists, or ``weak``; and a note for the user."""
    if not features.precision_flags:
        return "strong", None
    if not features.strongly_typed:
        return "weak", None
    if onnx.weights == "fp16" or precision == "fp8":
        return "strong", None
    if wishes.calibrate:
        return (
            "weak",
            "weak typing: TensorRT's own calibration takes precision flags; the layers are inspected",
        )
    if wishes.dla_core is not None:
        return "weak", "weak typing: a DLA takes precision flags"
    if bakes(onnx, precision) and not features.onnx_package:
        return "weak", (
            "weak typing, which TensorRT does not always obey; the layers are inspected. Strong typing takes the "
            'package onnx here: pip install "samkr-edge[build]"'
        )
    return "strong", None


def bakes(onnx: OnnxFacts, precision: str) -> bool:
    """Whether strong typing needs FP16 written into the graph."""
    return precision in ("fp16", "int8", "fp8") and onnx.weights == "fp32"


def network_flags(features: Features, typing: str) -> tuple[str, ...]:
    flags = []
    if features.explicit_batch and features.number < (10,):
        flags.append("EXPLICIT_BATCH")
    if typing == "strong" and features.precision_flags:  # later versions have only strong typing
        flags.append("STRONGLY_TYPED")
    return tuple(flags)


def precision_flags(precision: str, typing: str) -> tuple[str, ...]:
    """Builder flags of a weakly typed network; the builder marks what must stay FP32."""
    if typing == "strong" or precision not in ("fp16", "int8"):
        return ()
    # For INT8 too: the rest runs as FP16.
    return ("FP16", "INT8", OBEY) if precision == "int8" else ("FP16", OBEY)
