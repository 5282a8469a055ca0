"""Errors of TensorRT's parser explained: which ONNX node, what it means, what to do. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted
from samkr_edge.onnx_graph.onnx_file import OnnxFile


@dataclass(frozen=True)
class Complaint:
    """One parser error: TensorRT's description, and the node if it is known."""

    text: str
    operation: str = ""
    node: str = ""


EXPORT_AGAIN = "export it again: samkr-edge export CHECKPOINT -o model.onnx"
# Part of TensorRT's text, lower case -> (what it means, what to do). The first match wins.
MEANINGS: tuple[tuple[str, str, str], ...] = (
    ("symmetric quantization", "zero points must be 0", "samkr-edge quantize ... and export again"),
    (
        "scale coefficients must all be positive",
        "a channel never fired while calibrating",
        "calibrate on more images",
    ),
    ("gridsample", "this version cannot sample", "use TensorRT 8.5 or later, or a *_nodc network"),
    ("deformconv", "DeformConv needs a plugin", EXPORT_AGAIN),
    (
        "no importer registered",
        "this version does not know the operation",
        "export with --opset 17, or update TensorRT",
    ),
    (
        "plugin not found",
        "this version does not know the operation",
        "export with --opset 17, or update TensorRT",
    ),
    ("getplugincreator could not find", "this version does not know the operation", "update TensorRT"),
    (
        "first input has type uint8",
        "image bytes may be read by a cast only, and the exported graph transposes them first",
        "samkr-edge build MODEL.onnx --target NAME, or --prepared trt.onnx for another builder",
    ),
    ("uint8", "this version takes no image bytes", "update TensorRT, or report this graph"),
    (
        "unsupported onnx data type",
        "a type that TensorRT does not have",
        "export again with samkr-edge export",
    ),
    (
        "reshape changes volume",
        "the graph has another batch or image size than its input",
        "samkr-edge export CHECKPOINT -o model.onnx --size HxW --batch N",
    ),
    ("input was not registered", "a node reads what no node writes", EXPORT_AGAIN),
    ("sort the model topologically", "nodes form a cycle, or two write the same tensor", EXPORT_AGAIN),
    ("null tensor", "the graph declares an output that no node writes", EXPORT_AGAIN),
    ("kernel weight dimension", "these weights do not fit what they are applied to", EXPORT_AGAIN),
    ("failed to import initializer", "weights are missing from the file, or incomplete", EXPORT_AGAIN),
    ("dynamic", "a shape that is not fixed", "export with --size and --batch"),
    ("strongly typed", "types do not match", "export again with --precision fp16"),
)


def parser_error(model: str, title: str, complaints: list[Complaint], graph: OnnxFile) -> SamkrError:
    """The error for a graph that TensorRT's parser refuses, SE-B91."""
    first = complaints[0] if complaints else Complaint("the parser gave no reason")
    operation, node = locate(first, graph)
    meaning, remedy = explain(" ".join((first.text, first.operation)))
    return SamkrError(
        "SE-B91",
        f"{title} cannot parse {model}, so nothing was built",
        {
            "node": f"{node or 'not named'}{f' ({operation})' if operation else ''}",
            "TensorRT": " ".join(first.text.split())[:160],
            "meaning": meaning or None,
            "and": f"{len(complaints) - 1} more" if len(complaints) > 1 else None,
        },
        fix=remedy or f"samkr-edge inspect {quoted(model)}",
    )


def locate(complaint: Complaint, graph: OnnxFile) -> tuple[str, str]:
    """Operation and name of the ONNX node, as given or found in the text."""
    known = {node.name: node.op_type for node in graph.nodes if node.name}
    if complaint.node in known:
        return known[complaint.node], complaint.node
    # The longest name, since "/net/conv1" is a part of "/net/conv10".
    named = max((name for name in known if name in complaint.text), key=len, default="")
    return known.get(named, complaint.operation), named or complaint.node


def explain(text: str) -> tuple[str, str]:
    """Meaning and remedy of a text of TensorRT; empty if unknown."""
    lower = text.lower()
    return next(((meaning, remedy) for part, meaning, remedy in MEANINGS if part in lower), ("", ""))
