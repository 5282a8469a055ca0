"""Why a build gave no engine: memory, a missing kernel, a bug in TensorRT, or what its log says. Pure.

The last message is rarely the reason: in 8.x it is "Assertion engine != nullptr failed", and only warnings say that
memory was short. The texts are from issues 2232, 2647, 3291, 3579, 3748, 3983 and 4797 of NVIDIA/TensorRT, 758 of
onnx-tensorrt and 50 of Model-Optimizer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from samkr_edge.builder.tensorrt.parser_errors import Complaint, explain, locate
from samkr_edge.builder.tensorrt.plan import MIB, BuildPlan
from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted
from samkr_edge.onnx_graph.onnx_file import OnnxFile
from samkr_edge.runtime.tensorrt_log import Messages, is_about_memory

_NO_KERNEL = "could not find any implementation for node"
_LAYER = re.compile(re.escape(_NO_KERNEL) + r" (.*?)\.?\)?\s*$", re.IGNORECASE | re.DOTALL)
# Only says that there is no engine.
_EMPTY = ("engine != nullptr", "engineptr != nullptr", "engine could not be created")
# Part of an error, lower case -> (meaning, remedy); remedy None: another precision or another TensorRT.
_CAUSES: tuple[tuple[str, str, str | None], ...] = (
    (
        "unable to load library",
        "a part of TensorRT is not installed, or not on the library path",
        "pip install --force-reinstall the TensorRT package; on a Jetson: sudo apt install --reinstall tensorrt",
    ),
    (
        "no kernel image is available",
        "this TensorRT does not support this GPU",
        "samkr-edge targets   # which TensorRT supports this GPU",
    ),
    (
        "cuda driver version is insufficient",
        "the NVIDIA driver is too old for this TensorRT",
        "update the NVIDIA driver",
    ),
    ("myelin", "TensorRT's compiler failed on it: a bug in this version, not a lack of memory", None),
    ("no tactics to implement operation", "TensorRT's compiler has no kernel for it", None),
)


@dataclass(frozen=True)
class _Reason:
    text: str
    meaning: str
    remedy: str | None


def build_error(model: str, title: str, messages: Messages, plan: BuildPlan, graph: OnnxFile) -> SamkrError:
    """The error for a build that gave no engine: SE-B96 the memory was short, else SE-B90.

    Args:
        model: file name of the ONNX; ``title`` names TensorRT and its version.
        messages: what TensorRT said during the build.
    """
    said = messages.said()
    short = _memory(said)
    if short is not None:
        workspace = plan.workspace_bytes // MIB
        return SamkrError(
            "SE-B96",
            f"there was not enough memory to build {model}, so nothing was written",
            {
                "TensorRT": _line(short),
                "workspace": f"{workspace} MiB; a tactic that needs more is skipped, and here none was left",
            },
            fix=f"close other programs that use memory, then: {_again(model, plan)} --workspace {workspace * 2}",
        )
    layer = next((found[1] for is_error, text in said if is_error and (found := _LAYER.search(text))), None)
    reason = _missing_kernel(said, title, layer) if layer is not None else _reason(said, graph)
    operation, node = locate(Complaint(layer or reason.text), graph)
    facts = {
        "node": f"{node} ({operation})" if node else None,
        "layer": _line(layer) if layer is not None and layer != node else None,
        "TensorRT": _line(reason.text),
        "meaning": reason.meaning or None,
    }
    what = (
        f"{title} has no kernel for a layer of {model}"
        if layer is not None
        else f"{title} could not build {model}"
    )
    return SamkrError(
        "SE-B90", f"{what}, so nothing was written", facts, fix=reason.remedy or otherwise(model, plan)
    )


def _memory(said: list[tuple[bool, str]]) -> str | None:
    """The message that says memory was the reason: an error, or the last one before a layer was given up.

    Warnings of skipped tactics are ignored: successful builds also skip tactics that need too much memory.
    """
    before = ""
    for is_error, text in said:
        if is_error and is_about_memory(text):
            return text
        if is_error and _NO_KERNEL in text.lower():
            return before if is_about_memory(before) else None
        before = text
    return None


def _missing_kernel(said: list[tuple[bool, str]], title: str, layer: str) -> _Reason:
    """Why there is no kernel, if the previous message says it (a failed tactic of TensorRT's compiler)."""
    texts = [text for _, text in said]
    place = next(index for index, text in enumerate(texts) if _NO_KERNEL in text.lower())
    before = texts[place - 1] if place else ""
    told = before if "skipping tactic" in before.lower() else texts[place]
    return _Reason(
        told, f"{title} lacks it in this precision, for this GPU; more memory would not help", None
    )


def _reason(said: list[tuple[bool, str]], graph: OnnxFile) -> _Reason:
    """The first error with a known meaning, else the last informative one."""
    errors = [
        text for is_error, text in said if is_error and not any(part in text.lower() for part in _EMPTY)
    ]
    for text in errors:
        for part, meaning, remedy in _CAUSES:
            if part in text.lower():
                return _Reason(text, meaning, remedy)
        # Without the node's name, which may contain a word that is searched for ("/head/GridSample").
        meaning, remedy = explain(text.replace(locate(Complaint(text), graph)[1] or "\0", ""))
        if meaning:
            return _Reason(text, meaning, remedy)
    if not errors:
        return _Reason("it gave no reason", "", "samkr-edge doctor")
    if "internal error" in errors[-1].lower():
        return _Reason(errors[-1], "a bug in this TensorRT, not a lack of memory", None)
    return _Reason(errors[-1], "", "samkr-edge doctor")


def otherwise(model: str, plan: BuildPlan) -> str:
    """Another way to an engine of this graph."""
    if plan.calibrate:
        return (
            "samkr-edge quantize CHECKPOINT --data DIR -o int8.pt && samkr-edge export int8.pt -o int8.onnx"
        )
    if plan.dla_core is not None:
        return f"leave --dla-core out: {_again(model, plan)} --precision {plan.precision}"
    lower = {"int8": "fp16", "fp8": "fp16", "fp16": "fp32"}.get(plan.precision)
    if lower is None:
        return "another version of TensorRT; samkr-edge targets lists what each device takes"
    return f"{_again(model, plan)} --precision {lower}   # or another version of TensorRT"


def _again(model: str, plan: BuildPlan) -> str:
    target = plan.target if plan.compute_capabilities else "auto"
    return f"samkr-edge build {quoted(model)} --target {target}"


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
