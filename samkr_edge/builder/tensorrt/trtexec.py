"""A build plan as a ``trtexec`` command line, for a device without samkr-edge. Pure.

``--fp16`` alone would let TensorRT round what must stay FP32: a weakly typed graph needs every such layer by name.
Flags are from NVIDIA's ``sampleOptions.cpp``, TensorRT 8.0 to 11.1. ``trtexec`` writes no passport, so `predict`,
`eval` and `bench` refuse its engine.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from samkr_edge.builder.tensorrt.full_precision import Operation, constrained
from samkr_edge.builder.tensorrt.plan import MIB, BuildPlan
from samkr_edge.builder.tensorrt.typing_choice import OBEY
from samkr_edge.onnx_graph.onnx_file import FLOAT, Node, OnnxFile
from targets.profile import version_tuple

ENGINE = "model.engine"
# The first releases whose trtexec has these flags.
NAMES_LAYERS, LISTS_LAYERS = (8, 4), (8, 2)
# ONNX operations in samkr-edge's graphs whose results are never floats; for TopK, its second result.
_WHOLE = frozenset({"Equal", "Greater", "Less", "Shape", "QuantizeLinear"})
_NO_PASSPORT = (
    "trtexec measures its engine itself; without a passport `predict`, `eval` and `bench` refuse it (SE-A51)"
)


@dataclass(frozen=True)
class TrtexecBuild:
    """How ``trtexec`` builds a plan.

    Attributes:
        words: of the command; empty if it cannot build this.
        notes: what the user should know, the reason first.
    """

    words: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def command(self) -> str | None:
        """The command line for a shell."""
        return shlex.join(self.words) if self.words else None

    def to_dict(self) -> dict[str, Any]:
        return {"command": self.command, "notes": list(self.notes)}

    def describe(self) -> str:
        """As text: the notes, and the command on a separate line."""
        head = "  on the device, without samkr-edge:" if self.words else "  not for trtexec"
        lines = [head, *(f"  note         {note}" for note in self.notes)]
        return "\n".join([*lines, *([self.command] if self.command else [])])


def trtexec(plan: BuildPlan, graph: OnnxFile, name: str) -> TrtexecBuild:
    """The command that builds a prepared graph with the settings of ``plan``.

    Args:
        graph: as the plan prepared it.
        name: of its file on the device.
    """
    version = version_tuple(plan.tensorrt)
    if plan.flavour == "rtx":
        return TrtexecBuild(
            (), ("TensorRT for RTX needs no device: leave --prepared out, and it is built here",)
        )
    if plan.calibrate:
        return TrtexecBuild((), ("trtexec takes no calibration images, and without them it makes ranges up",))
    pins = _pinned(plan, graph)
    notes = [_NO_PASSPORT]
    words = ["trtexec", f"--onnx={name}", f"--saveEngine={ENGINE}"]
    if "STRONGLY_TYPED" in plan.network_flags:
        words.append("--stronglyTyped")
    words += [flag for flag, name in (("--fp16", "FP16"), ("--int8", "INT8")) if name in plan.builder_flags]
    if pins and version >= NAMES_LAYERS:
        words.append("--precisionConstraints=obey")
        words.append("--layerPrecisions=" + ",".join(f"{node.name}:fp32" for node in pins))
        typed = [node for node in pins if node.op_type not in _WHOLE]
        words.append("--layerOutputTypes=" + ",".join(f"{node.name}:{_output_types(node)}" for node in typed))
        notes.append(
            f"{len(pins)} layers stay FP32 by name; those that the parser adds have no name here. `inspect` reads what "
            f"came out from {ENGINE}.layers.json"
        )
    elif pins:
        notes.append(
            f"this trtexec cannot keep layers in FP32, and {len(pins)} should be: joints are rounded; "
            "--precision fp32 does not"
        )
    if "TF32" in plan.cleared_flags:
        words.append("--noTF32")
    mib = plan.workspace_bytes // MIB
    words.append(f"--memPoolSize=workspace:{mib}" if version >= NAMES_LAYERS else f"--workspace={mib}")
    if plan.optimization_level is not None:
        words.append(f"--builderOptimizationLevel={plan.optimization_level}")
    levels = {"AMPERE_PLUS": "ampere+", "SAME_COMPUTE_CAPABILITY": "sameComputeCapability"}
    if plan.hardware_compatibility is not None:
        words.append(f"--hardwareCompatibilityLevel={levels[plan.hardware_compatibility]}")
    if "VERSION_COMPATIBLE" in plan.builder_flags:
        words.append("--versionCompatible")
    if plan.dla_core is not None:
        words += [f"--useDLACore={plan.dla_core}", "--allowGPUFallback"]
    if plan.profile_batch is not None:
        shape = f"{graph.inputs[0].name}:{'x'.join(map(str, plan.input_shape))}"
        words += [f"--{which}Shapes={shape}" for which in ("min", "opt", "max")]
    if plan.timing_cache is not None:
        words.append(f"--timingCacheFile={plan.timing_cache}")
    if version >= LISTS_LAYERS:
        words += ["--profilingVerbosity=detailed", f"--exportLayerInfo={ENGINE}.layers.json"]
    return TrtexecBuild(tuple(words), tuple(notes))


def _pinned(plan: BuildPlan, graph: OnnxFile) -> list[Node]:
    """The nodes that a weakly typed build marks as FP32."""
    if OBEY not in plan.builder_flags:
        return []
    operations = [Operation(node.op_type, node.inputs, node.outputs) for node in graph.nodes]
    begins, ends = ([value.name for value in values] for values in (graph.inputs, graph.outputs))
    wide = "wide_sampling" in plan.steps
    indices = constrained(operations, begins, ends, _floats(graph), wide_sampling=wide)
    return [graph.nodes[index] for index in indices]


def _output_types(node: Node) -> str:
    return "fp32+int32" if node.op_type == "TopK" else "fp32"


def _floats(graph: OnnxFile) -> set[str]:
    """Names of the FP32 tensors: an operation's type is that of its inputs, a selection's that of the values it
    selects.
    """
    known = {name for name, tensor in graph.tensors.items() if tensor.data_type == FLOAT}
    known |= {value.name for value in graph.inputs if value.elem_type == FLOAT}
    for node in graph.nodes:
        if node.op_type in _WHOLE or not node.inputs:
            continue
        read = node.inputs[1 if node.op_type == "Where" else 0]
        if node.op_type == "Cast":
            given = node.attributes["to"] == FLOAT
        else:
            given = node.op_type == "DequantizeLinear" or read in known
        if given:
            known.update(node.outputs[:1] if node.op_type == "TopK" else node.outputs)
    return known
