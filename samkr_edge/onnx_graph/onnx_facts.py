"""The facts of an exported graph that a build plan needs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod

import numpy as np

from samkr_edge.model_card import PREPARED_KEY, TARGET_KEY
from samkr_edge.onnx_graph.onnx_file import FLOAT, FLOAT16, Q_DQ, UINT8, OnnxFile
from samkr_edge.onnx_graph.onnx_precision import float_type, precision_of
from samkr_edge.onnx_graph.quantizers import BRANCH_QUANTIZER, odd_groups, quantized_convolutions


@dataclass(frozen=True)
class OnnxFacts:
    """The facts of an ONNX file that matter to TensorRT.

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
        """Whether it has Q/DQ."""
        return self.precision in ("int8", "fp8")

    @property
    def samples(self) -> bool:
        """Whether it needs GridSample."""
        return "GridSample" in self.ops


def facts_of(model: OnnxFile) -> OnnxFacts:
    """Look a model over once."""
    ops = Counter(node.op_type for node in model.nodes)
    zero_points, bad_scales, fp16_scales, bare, branches = [], [], 0, 0, 0
    for node in model.nodes:
        if node.op_type not in Q_DQ:
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
    # By the name that nodes read, since a Constant's tensor has no name.
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
        odd_groups=len(odd_groups(model)),
        tensor_scales=sum(count == 1 for count in scales),
        channel_scales=sum(count > 1 for count in scales),
        fp16_scales=fp16_scales,
        bare_quantizers=bare,
        zero_points=tuple(zero_points),
        bad_scales=tuple(bad_scales),
        broken_weights=tuple(broken),
        built_for=model.metadata.get(TARGET_KEY) or model.metadata.get(PREPARED_KEY),
    )


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
