"""What a real TensorRT does with types, for the stand-in: what it lists of an engine, and how it can go wrong."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import onnx
from onnx import TensorProto

HALF = TensorProto.FLOAT16


@dataclass(frozen=True)
class TypingFaults:
    """Faults of real versions; none by default.

    Attributes:
        ignores_constraints: a weakly typed network runs in FP16 whatever its layers ask for, and says nothing
            (TensorRT#3941, #4505, #3889).
        obey_fails: no kernel obeys a constraint, and the build fails (TensorRT#3552).
        strong_fails: Myelin takes no strongly typed network (Model-Optimizer#4832).
        samples_nearest: GridSample takes the nearest pixel where it is FP32 next to FP16 (pytorch/TensorRT#4074), or
            in every network that holds FP16.
    """

    ignores_constraints: bool = False
    obey_fails: bool = False
    strong_fails: bool = False
    samples_nearest: Literal["never", "next to fp16", "in fp16"] = "never"

    def refusal(self, strong: bool, flags: Collection[str]) -> str | None:
        """What the builder says in place of an engine."""
        if strong and self.strong_fails:
            return "Error Code 9: API Usage Error (No Myelin tactic for {ForeignNode[dequantize]})"
        if self.obey_fails and "OBEY_PRECISION_CONSTRAINTS" in flags:
            return "Error Code 10: Internal Error (No implementation obeys reformatting-free rules)"
        return None

    def as_run(self, data: bytes, strong: bool, flags: Collection[str], wide: Collection[str]) -> bytes:
        """The graph that the engine computes; ``wide``: layers that a weakly typed network keeps in FP32."""
        model = onnx.load_from_string(data)
        halves = any(i.data_type == HALF for i in model.graph.initializer) if strong else "FP16" in flags
        if self.samples_nearest == "never" or not halves:
            return data
        makers = {output: node for node in model.graph.node for output in node.output}
        for node in model.graph.node:
            if node.op_type == "GridSample" and (
                self.samples_nearest == "in fp16" or _next_to_half(node, makers, strong, wide)
            ):
                next(one for one in node.attribute if one.name == "mode").s = b"nearest"
        return model.SerializeToString()


def _next_to_half(sampling: Any, makers: dict[str, Any], strong: bool, wide: Collection[str]) -> bool:
    """Whether what makes the map that is sampled is FP16."""
    maker = makers[sampling.input[0]]
    while maker.op_type == "Reshape":
        maker = makers[maker.input[0]]
    if strong:
        return maker.op_type == "Cast"
    return maker.name not in wide


def is_trial(data: bytes) -> bool:
    """Whether this is ``samkr_edge.builder.tensorrt.sampling_trial.sampling_graph``."""
    return onnx.load_from_string(data).graph.name == "sampling"


def inspected(
    data: bytes, strong: bool, flags: Collection[str], wide: Collection[str], major: int, faults: TypingFaults
) -> str:
    """The engine inspector's JSON: a layer for every node, in what it computes in; reformats are not listed."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(data))
    graph = model.graph
    values = {v.name: v.type.tensor_type for v in (*graph.value_info, *graph.input, *graph.output)}
    makers = {output: node for node in graph.node for output in node.output}
    narrow = not strong and "FP16" in flags
    words = {TensorProto.FLOAT: "Float", HALF: "Half", TensorProto.INT8: "Int8", TensorProto.UINT8: "UInt8"}

    def is_dequantized(name: str) -> bool:
        return name in makers and makers[name].op_type == "DequantizeLinear"

    def tensor(name: str, node: Any) -> dict[str, Any]:
        kind = values[name]
        word = words.get(kind.elem_type, "Int32")
        if word == "Float" and narrow and (faults.ignores_constraints or node.name not in wide):
            word = "Half"
        if node.op_type == "Conv" and name == node.input[0] and is_dequantized(name):
            word = "Int8"
        kinds = {"Format": "Row major linear", "DataType": word} if major >= 11 else {"Format/Datatype": word}
        return {"Name": name, "Dimensions": [size.dim_value or -1 for size in kind.shape.dim], **kinds}

    layers = []
    for node in graph.node:
        if node.op_type in ("Constant", "QuantizeLinear", "DequantizeLinear"):
            continue
        inputs = [name for name in node.input if name in values]
        if node.op_type == "Conv":
            inputs = inputs[:1]
        layer = {
            "Name": node.name or node.output[0],
            "LayerType": "CaskConvolution" if node.op_type == "Conv" else node.op_type,
            "Inputs": [tensor(name, node) for name in inputs],
            "Outputs": [tensor(name, node) for name in node.output if name in values],
            "Metadata": f"[ONNX Layer: {node.name}]" if major >= 10 else "",
        }
        if node.op_type == "Conv" and is_dequantized(node.input[1]):
            layer["Weights"] = {"Type": "Int8"}
        layers.append(layer)
    return json.dumps({"Layers": layers})
