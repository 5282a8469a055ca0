"""The quantizers of an ONNX file: the convolutions that they make INT8, and build steps that remove some."""

from __future__ import annotations

from collections.abc import Collection

from samkr_edge.onnx_graph.onnx_file import Node, OnnxFile

# In the name of every quantizer on the branch side of a residual sum.
BRANCH_QUANTIZER = "branch_input_quantizer"
# The channels of a group, in and out, of an INT8 convolution are a multiple of this.
GROUP_STEP = 4


def quantized_convolutions(model: OnnxFile) -> list[tuple[Node, Node]]:
    """(convolution, what dequantizes its weights) of those that read quantized images and quantized weights."""
    makers = {
        output: node for node in model.nodes if node.op_type == "DequantizeLinear" for output in node.outputs
    }
    return [
        (node, makers[node.inputs[1]])
        for node in model.nodes
        if node.op_type == "Conv" and set(node.inputs[:2]) <= makers.keys()
    ]


def odd_groups(model: OnnxFile) -> list[tuple[Node, Node]]:
    """Those of ``quantized_convolutions`` whose groups INT8 does not take (NvInfer.h, setNbGroups)."""
    quantizers = {
        output: node for node in model.nodes if node.op_type == "QuantizeLinear" for output in node.outputs
    }
    found = []
    for node, dequantize in quantized_convolutions(model):
        groups = int(node.attributes.get("group", 1))
        stored = dequantize.inputs[0]
        weights = model.tensors.get(quantizers[stored].inputs[0] if stored in quantizers else stored)
        if (
            groups > 1
            and weights is not None
            and any(size % GROUP_STEP for size in (weights.dims[0] // groups, weights.dims[1]))
        ):
            found.append((node, dequantize))
    return found


def drop_branch_quantizers(model: OnnxFile) -> int:
    """Remove the Q/DQ pairs on the branch side of residual sums; returns how many.

        Conv -> Q -> DQ -> Add -> Relu    =>    Conv -> Add -> Relu

    Faster by TensorRT: convolution, sum and ReLU then fuse into one kernel. Not exact: the branch is not rounded any
    more.
    """
    return _drop_quantizers(model, BRANCH_QUANTIZER)


def strip_quantizers(model: OnnxFile) -> int:
    """Remove every Q/DQ pair; returns how many.

        x -> Q -> DQ -> Conv, w -> Q -> DQ -> Conv    =>    x -> Conv, w -> Conv

    For an engine in FP16 or FP32 of a quantized graph, and for what a quantized build is judged by. It computes what
    the float network does that was quantized, exactly; not what the quantized one does.
    """
    return _drop_quantizers(model, "")


def drop_odd_groups(model: OnnxFile) -> int:
    """Let the convolutions whose groups INT8 does not take read what was quantized for them; returns how many.

        x -> Q -> DQ -> Conv(groups of 6), Conv(group 1)    =>    x -> Conv(groups of 6), x -> Q -> DQ -> Conv(group 1)

    For TensorRT, whose INT8 convolutions take groups of a multiple of four channels only. Not exact: what these read is
    not rounded any more.
    """
    makers = {output: node for node in model.nodes for output in node.outputs}
    found = odd_groups(model)
    for node, _ in found:
        for index, name in enumerate(node.inputs[:2]):
            quantize = makers.get(makers[name].inputs[0])
            if quantize is not None and quantize.op_type == "QuantizeLinear":
                node.inputs[index] = quantize.inputs[0]
    _drop_unread(model)
    return len(found)


def _drop_quantizers(model: OnnxFile, part_of_name: str) -> int:
    """Remove the Q/DQ pairs whose names hold a text; returns how many."""
    producer = {output: node for node in model.nodes for output in node.outputs}
    outputs = {value.name for value in model.outputs}  # they keep their names, and their makers stay
    renamed: dict[str, str] = {}
    dropped: set[int] = set()
    for node in model.nodes:
        if node.op_type != "DequantizeLinear" or part_of_name not in node.name or outputs & set(node.outputs):
            continue
        quantize = producer.get(node.inputs[0])
        if quantize is None or quantize.op_type != "QuantizeLinear":
            continue  # weights stored as INT8: there is no float to return to
        renamed[node.outputs[0]] = quantize.inputs[0]
        dropped |= {id(node), id(quantize)}
    kept = [node for node in model.nodes if id(node) not in dropped]
    # A quantizer that also feeds something else stays.
    needed = {name for node in kept for name in node.inputs}
    model.nodes = [
        node for node in model.nodes if id(node) not in dropped or needed & set(node.outputs) - set(renamed)
    ]
    rename(model, renamed)
    _drop_unread(model, ("Constant",))
    return len(renamed)


def _drop_unread(
    model: OnnxFile, operations: Collection[str] = ("DequantizeLinear", "QuantizeLinear", "Constant")
) -> None:
    """Remove the nodes of these operations that nothing reads any more, readers first."""
    for operation in operations:
        used = {name for node in model.nodes for name in node.inputs} | {one.name for one in model.outputs}
        model.nodes = [node for node in model.nodes if node.op_type != operation or used & set(node.outputs)]


def rename(model: OnnxFile, renamed: dict[str, str]) -> None:
    """Make the readers of each key read its value, following chains, once around if they are circular."""
    for node in model.nodes:
        for index, name in enumerate(node.inputs):
            followed: set[str] = set()
            while name in renamed and name not in followed:
                followed.add(name)
                name = renamed[name]
            node.inputs[index] = name
