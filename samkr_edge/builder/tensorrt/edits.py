"""An exported graph, for TensorRT: the facts a build plan asks for, and the few edits a plan may order.

The edits keep the function of the graph (dropping quantizers gives the float function back). They need no onnx package,
but for `bake_fp16`, which strong typing makes necessary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from samkr_edge.errors import SamkrError
from samkr_edge.onnx_graph.float_biases import float_biases
from samkr_edge.onnx_graph.onnx_file import FLOAT, FLOAT16, UINT8, Node, OnnxFile
from samkr_edge.onnx_graph.onnx_precision import float_type, precision_of
from samkr_edge.passport import PREPARED_KEY, TARGET_KEY

if TYPE_CHECKING:
    from samkr_edge.builder.tensorrt.fused_int8 import FusedInt8

BRANCH_QUANTIZER = "branch_input_quantizer"
# Channels of a group, in and out, of an INT8 convolution are a multiple of this.
GROUP_STEP = 4


@dataclass(frozen=True)
class OnnxFacts:
    """What of an ONNX file matters to TensorRT.

    Attributes:
        opset: of the default domain.
        input_shape: (N, H, W, 3); None where a dimension is not fixed.
        uint8_input: image bytes go in.
        precision: ``int8`` or ``fp8`` with Q/DQ, else the type of its weights.
        weights: ``fp32`` or ``fp16``: the type of the float part.
        ops: operation -> how often.
        grid_modes: interpolation modes of its GridSample nodes.
        branch_quantizers: Q/DQ pairs on the branch side of residual sums.
        odd_groups: quantized convolutions in groups whose channels, in or out, are no multiple of 4.
        tensor_scales, channel_scales: quantized convolutions whose weights have one scale, or one for every channel.
        fp16_scales, bare_quantizers, zero_points, bad_scales: Q/DQ that some or all versions refuse: FP16 scales,
            no zero point, zero points that are not 0, scales that are not positive; names for the last two.
        broken_weights: names of weights and scales with NaN or infinity.
        built_for: the target it was already built or prepared for, if any.
    """

    opset: int
    input_shape: tuple[int | None, ...]
    uint8_input: bool
    precision: str
    weights: str
    ops: dict[str, int]
    grid_modes: tuple[str, ...] = ()
    branch_quantizers: int = 0
    odd_groups: int = 0
    tensor_scales: int = 0
    channel_scales: int = 0
    fp16_scales: int = 0
    bare_quantizers: int = 0
    zero_points: tuple[str, ...] = ()
    bad_scales: tuple[str, ...] = ()
    broken_weights: tuple[str, ...] = ()
    built_for: str | None = None

    @property
    def quantized(self) -> bool:
        """It has Q/DQ."""
        return self.precision in ("int8", "fp8")

    @property
    def samples(self) -> bool:
        """It needs GridSample."""
        return "GridSample" in self.ops


def facts_of(model: OnnxFile) -> OnnxFacts:
    """Look a model over once."""
    ops = Counter(node.op_type for node in model.nodes)
    zero_points, bad_scales, fp16_scales, bare, branches = [], [], 0, 0, 0
    for node in model.nodes:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale = model.tensors.get(node.inputs[1])
        values = scale.array() if scale else None
        fp16_scales += bool(scale and scale.data_type == FLOAT16)
        if values is not None and not bool(np.all(values > 0)):
            bad_scales.append(node.name)
        if len(node.inputs) < 3:
            bare += 1
        elif (zero := model.tensors.get(node.inputs[2])) is not None:
            points = zero.array()
            if zero.data_type == UINT8 or (points is not None and bool(np.any(points))):
                zero_points.append(node.name)
        branches += node.op_type == "DequantizeLinear" and BRANCH_QUANTIZER in node.name
    # By the name that nodes read: the tensor of a Constant has none of its own.
    broken = [
        name
        for name, tensor in model.tensors.items()
        if tensor.data_type in (FLOAT, FLOAT16)
        and (values := tensor.array()) is not None
        and not bool(np.isfinite(values).all())
    ]
    modes = [
        str(node.attributes.get("mode") or ("bilinear" if model.opset < 20 else "linear"))
        for node in model.nodes
        if node.op_type == "GridSample"
    ]
    image = model.inputs[0] if model.inputs else None
    scales = _weight_scales(model)
    return OnnxFacts(
        opset=model.opset,
        input_shape=image.shape if image else (),
        uint8_input=image is not None and image.elem_type == UINT8,
        precision=precision_of(model),
        weights=float_type(model),
        ops=dict(ops),
        grid_modes=tuple(sorted(set(modes))),
        branch_quantizers=branches,
        odd_groups=len(_odd_groups(model)),
        tensor_scales=sum(count == 1 for count in scales),
        channel_scales=sum(count > 1 for count in scales),
        fp16_scales=fp16_scales,
        bare_quantizers=bare,
        zero_points=tuple(zero_points),
        bad_scales=tuple(bad_scales),
        broken_weights=tuple(broken),
        built_for=model.metadata.get(TARGET_KEY) or model.metadata.get(PREPARED_KEY),
    )


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


def _odd_groups(model: OnnxFile) -> list[tuple[Node, Node]]:
    """Those of :func:`quantized_convolutions` whose groups INT8 does not take (NvInfer.h, setNbGroups)."""
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


def _weight_scales(model: OnnxFile) -> list[int]:
    """How many scales the weights of each quantized convolution have."""
    found = []
    for _, dequantize in quantized_convolutions(model):
        scale = model.tensors.get(dequantize.inputs[1])
        if scale is not None:
            found.append(prod(scale.dims))
    return found


def precision_mix(model: OnnxFile) -> dict[str, int]:
    """How many convolutions there are, and how many read quantized images and quantized weights."""
    facts = facts_of(model)
    quantized = len(quantized_convolutions(model))
    return {"convolutions": facts.ops.get("Conv", 0), f"{facts.precision}_convolutions": quantized}


def drop_branch_quantizers(model: OnnxFile) -> None:
    """Remove the Q/DQ pairs on the branch side of residual sums: convolution + sum + ReLU then fuse into one kernel."""
    _drop_quantizers(model, BRANCH_QUANTIZER)


def strip_quantizers(model: OnnxFile) -> None:
    """Remove every Q/DQ pair: the float network behind the quantized one."""
    _drop_quantizers(model, "")


def drop_odd_groups(model: OnnxFile) -> None:
    """Let the convolutions whose groups INT8 does not take read what was quantized for them; others still read INT8."""
    makers = {output: node for node in model.nodes for output in node.outputs}
    for node, _ in _odd_groups(model):
        for index, name in enumerate(node.inputs[:2]):
            quantize = makers.get(makers[name].inputs[0])
            if quantize is not None and quantize.op_type == "QuantizeLinear":
                node.inputs[index] = quantize.inputs[0]
    _drop_unread(model)


def cast_first(model: OnnxFile) -> None:
    """Move the cast in front of the transpose: TensorRT allows nothing but a cast on a uint8 input."""
    by_input = {name: node for node in model.nodes for name in node.inputs}
    transpose = by_input.get(model.inputs[0].name)
    cast = by_input.get(transpose.outputs[0]) if transpose and transpose.op_type == "Transpose" else None
    if transpose is None or cast is None or cast.op_type != "Cast":
        return
    image, between, after = transpose.inputs[0], transpose.outputs[0], cast.outputs[0]
    cast.inputs, cast.outputs = [image], [between]
    transpose.inputs, transpose.outputs = [between], [after]
    first, second = model.nodes.index(transpose), model.nodes.index(cast)
    model.nodes[first], model.nodes[second] = cast, transpose


def float_input(model: OnnxFile) -> None:
    """Make the input float32 and remove its cast, for TensorRT without uint8 inputs; the runtime converts."""
    image = model.inputs[0]
    cast = next(
        (node for node in model.nodes if node.op_type == "Cast" and node.inputs == [image.name]), None
    )
    if cast is None or cast.attributes.get("to") != FLOAT:
        return
    image.elem_type = FLOAT
    model.nodes.remove(cast)
    _rename(model, {cast.outputs[0]: image.name})


# Step of a plan -> what does it, in the order in which they are done. Those that take the onnx package follow, see
# :func:`prepare`.
STEPS: dict[str, Callable[[OnnxFile], None]] = {
    "drop_branch_quantizers": drop_branch_quantizers,
    "strip_quantizers": strip_quantizers,
    "drop_odd_groups": drop_odd_groups,
    "cast_first": cast_first,
    "float_input": float_input,
}


def edit(model: OnnxFile, steps: Collection[str]) -> None:
    """Do those steps of a plan that keep the types of the float part; biases are made floats in any case."""
    float_biases(model)
    for name, step in STEPS.items():
        if name in steps:
            step(model)


def prepare(model: OnnxFile, steps: Collection[str]) -> bytes:
    """Do a plan's steps and give the bytes TensorRT parses.

    Behind :data:`STEPS` come ``enlarge_sums``, ``fuse_int8`` and at last ``bake_fp16``, with ``wide_sampling`` as
    ``full_precision`` says; without ``bake_fp16`` that is the builder's to heed. The model stays
    as it is.

    Raises:
        SamkrError: SE-B82 `fuse_int8` would leave no INT8; what :func:`samkr_edge.builder.tensorrt.half.bake` refuses.
    """
    model = model.copy()
    edit(model, steps)
    if not {"enlarge_sums", "fuse_int8", "bake_fp16"} & set(steps):
        return model.encode()
    return _rewrite(model.encode(), steps)


def _rewrite(data: bytes, steps: Collection[str]) -> bytes:
    """The steps that take the onnx package."""
    from samkr_edge.builder.enlarge import enlarge_sums
    from samkr_edge.builder.tensorrt.fused_int8 import fuse_int8
    from samkr_edge.builder.tensorrt.half import bake_loaded
    from samkr_edge.onnx_graph.graph import Graph
    from samkr_edge.onnx_graph.onnx_package import load_checked

    loaded = load_checked(data)
    if {"enlarge_sums", "fuse_int8"} & set(steps):
        graph = Graph(loaded)
        if "enlarge_sums" in steps:
            enlarge_sums(graph)
        if "fuse_int8" in steps:
            _require_some(fuse_int8(graph))
        loaded = graph.write()
    if "bake_fp16" in steps:
        loaded = bake_loaded(loaded, wide_sampling="wide_sampling" in steps)
    return bytes(loaded.SerializeToString())


def _require_some(fused: FusedInt8) -> None:
    if fused.quantized and not fused.kept:
        raise SamkrError(
            "SE-B82",
            "no convolution of this graph can be INT8 without a kernel more, so no INT8 engine was built",
            {"quantized": f"{fused.quantized} of {fused.convolutions} convolutions", "kept": "0"},
            fix="--precision fp16   # or quantize more of the network: samkr-edge quantize --policy rtx",
        )


def _drop_quantizers(model: OnnxFile, part_of_name: str) -> None:
    producer = {output: node for node in model.nodes for output in node.outputs}
    outputs = {value.name for value in model.outputs}  # they keep their names, and what gives them stays
    renamed: dict[str, str] = {}
    dropped: set[int] = set()
    for node in model.nodes:
        if node.op_type != "DequantizeLinear" or part_of_name not in node.name or outputs & set(node.outputs):
            continue
        quantize = producer.get(node.inputs[0])
        if quantize is None or quantize.op_type != "QuantizeLinear":
            continue  # weights stored as INT8: there is no float to go back to
        renamed[node.outputs[0]] = quantize.inputs[0]
        dropped |= {id(node), id(quantize)}
    kept = [node for node in model.nodes if id(node) not in dropped]
    # A quantizer that also feeds something else stays.
    needed = {name for node in kept for name in node.inputs}
    model.nodes = [
        node for node in model.nodes if id(node) not in dropped or needed & set(node.outputs) - set(renamed)
    ]
    _rename(model, renamed)
    _drop_unread(model, ("Constant",))


def _drop_unread(
    model: OnnxFile, operations: Collection[str] = ("DequantizeLinear", "QuantizeLinear", "Constant")
) -> None:
    """Remove the nodes of these operations that nothing reads any more; readers before what they read."""
    for operation in operations:
        used = {name for node in model.nodes for name in node.inputs} | {one.name for one in model.outputs}
        model.nodes = [node for node in model.nodes if node.op_type != operation or used & set(node.outputs)]


def _rename(model: OnnxFile, renamed: dict[str, str]) -> None:
    """Let the readers of each key read its value; chains are followed, once around where they are circles."""
    for node in model.nodes:
        for index, name in enumerate(node.inputs):
            followed: set[str] = set()
            while name in renamed and name not in followed:
                followed.add(name)
                name = renamed[name]
            node.inputs[index] = name
