"""Exported graphs that other tools changed so that no build can take them: refused by name, before building."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from samkr_edge.errors import SamkrError
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_file import Q_DQ, OnnxFile
from samkr_edge.onnx_graph.onnx_precision import INTEGER_OPERATIONS, wide_quantizers
from samkr_edge.printable import counted

Runtime: TypeAlias = Literal["TensorRT", "the CPU"]


def refused_by(model: OnnxFile, path: Path) -> dict[Runtime, str]:
    """Runtime -> why its `build` refuses the graph in ``path``, if another tool has changed it."""
    reasons: dict[Runtime, str] = {}
    runtimes: tuple[Runtime, ...] = ("the CPU", "TensorRT")
    for runtime in runtimes:
        try:
            refuse_other_tools(model, path, runtime)
        except SamkrError as error:
            reasons[runtime] = f"{error.code}, {error.facts['found']}"
    if "TensorRT" not in reasons and (shifted := facts_of(model).zero_points):
        reasons["TensorRT"] = f"SE-B88 in INT8, {counted(len(shifted), 'quantizer')} with zero points"
    return reasons


def refuse_other_tools(model: OnnxFile, path: Path, runtime: Runtime) -> None:
    """Refuse the graph in ``path`` if its operations are no longer those that `export` writes.

    Raises:
        SamkrError: SE-B56 operations of another domain than ONNX's, which an optimiser has fused, SE-B57
            quantized by another tool, in a form that this runtime's build cannot take.
    """
    others = sorted({f"{node.domain}.{node.op_type}" for node in model.nodes if node.domain})
    if others:
        raise SamkrError(
            "SE-B56",
            f"{path.name} has operations that are not standard ONNX, so nothing was built",
            {
                "found": ", ".join(others)[:150],
                "usual": "an optimiser or a quantizer of another tool has fused operations",
                "instead": "on a CPU it runs as it is: samkr-edge predict and bench take it",
            },
            fix="build the ONNX as it was exported: samkr-edge export CHECKPOINT -o model.onnx",
        )
    integers = sorted({node.op_type for node in model.nodes if node.op_type in INTEGER_OPERATIONS})
    shifted = facts_of(model).zero_points
    if runtime == "TensorRT" and integers:  # zero points: see samkr_edge/builder/tensorrt/refusals.py
        found = f"operations {', '.join(integers)}, which TensorRT does not have"
    elif runtime == "the CPU" and shifted:
        found = f"{counted(len(shifted), 'quantizer')} with zero points, {shifted[0]} first"
    elif wide := wide_quantizers(model):
        found = f"{len(wide)} 16-bit quantizers, {wide[0]} first"
    elif loose := _loose_quantizers(model, runtime):
        found = f"{counted(len(loose), 'quantizer')} whose scale or zero point is not a constant, {loose[0]} first"
    else:
        return
    raise SamkrError(
        "SE-B57",
        f"{path.name} was quantized by another tool, and {runtime} cannot be built from that, so nothing was built",
        {
            "found": found[:150],
            "expected": "Q/DQ whose zero points are a signed 0, as samkr-edge quantize writes it",
            "instead": "on a CPU it runs as it is: samkr-edge predict and bench take it",
        },
        fix="samkr-edge quantize CHECKPOINT --data DIR -o int8.pt && samkr-edge export int8.pt -o int8.onnx",
    )


def _loose_quantizers(model: OnnxFile, runtime: Runtime) -> list[str]:
    """Names of those with a computed scale or zero point, or with none where the passes of this runtime read it."""
    least = 3 if runtime == "the CPU" else 2  # TensorRT's own plan says which versions want a zero point
    return [
        node.name
        for node in model.nodes
        if node.op_type in Q_DQ
        and (len(node.inputs) < least or not set(node.inputs[1:]) <= model.tensors.keys())
    ]
