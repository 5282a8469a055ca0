"""Small ONNX graphs in many INT8 forms, for ``rtx_forms``; hand-written, so that only the form differs."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

# A kind is a key below; a grain is the granularity of a weight's scales, per ``tensor`` or per ``channel``.
Kind = str
Grain = str
NUMPY = {
    "fp32": np.float32, "fp16": np.float16, "bf16": ml_dtypes.bfloat16, "int8": np.int8,
    "fp8": ml_dtypes.float8_e4m3fn, "int4": ml_dtypes.int4, "int32": np.int32,
}  # fmt: skip
ONNX = {
    "fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16, "int8": TensorProto.INT8,
    "fp8": TensorProto.FLOAT8E4M3FN, "int4": TensorProto.INT4, "int32": TensorProto.INT32,
}  # fmt: skip
STEP = 0.05  # of activations, unless a form sets another


class Chain:
    """An ONNX graph being written; every method adds nodes and returns the name of their result.

    Inputs and outputs are FP32; all floats and scales in between have one type.
    """

    def __init__(self, floats: Kind = "fp16", quantized: Kind = "int8", opset: int = 19) -> None:
        self.floats, self.quantized, self.opset = floats, quantized, opset
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: dict[str, tuple[int, ...]] = {}
        self.random = np.random.default_rng(0)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: Any, kind: Kind | None = None) -> str:
        name = f"constant_{len(self.constants)}"
        array = np.asarray(value)
        self.constants.append(numpy_helper.from_array(array.astype(NUMPY[kind]) if kind else array, name))
        return name

    def number(self, value: float) -> str:
        return self.constant(value, self.floats)

    def cast(self, x: str, kind: Kind) -> str:
        return self.op("Cast", x, to=ONNX[kind])

    def input(self, *shape: int) -> str:
        name = f"input_{len(self.inputs)}"
        self.inputs[name] = shape
        return self.cast(name, self.floats) if self.floats != "fp32" else name

    def model(self, *outputs: str) -> ModelProto:
        ends = [self.cast(x, "fp32") if self.floats != "fp32" else self.op("Identity", x) for x in outputs]
        graph = helper.make_graph(
            self.nodes,
            "chain",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, s) for name, s in self.inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ends],
            self.constants,
        )
        version = 9 if self.opset < 21 else 10
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=version
        )

    # Quantizers.

    def scale(self, value: Any) -> tuple[str, str]:
        """(scale, zero point) of a quantizer."""
        value = np.asarray(value)
        return self.constant(value, self.floats), self.constant(np.zeros(value.shape), self.quantized)

    def dq(self, x: str, step: float = STEP) -> str:
        return self.op("DequantizeLinear", x, *self.scale(step))

    def q(self, x: str, step: float = STEP) -> str:
        return self.op("QuantizeLinear", x, *self.scale(step))

    def qdq(self, x: str, step: float = STEP) -> str:
        return self.dq(self.q(x, step), step)

    def written_out(self, x: str, step: float = STEP) -> str:
        """Quantized by multiply, round, clip and cast."""
        y = self.op("Round", self.op("Mul", x, self.number(1 / step)))
        return self.dq(self.cast(self.op("Clip", y, self.number(-128), self.number(127)), "int8"), step)

    def truncated(self, x: str, step: float = STEP, floor: bool = False) -> str:
        """Quantized by adding one half, clip and a truncating cast; negative values become 0."""
        y = self.op("Add", self.op("Mul", x, self.number(1 / step)), self.number(0.5))
        y = self.op("Floor", y) if floor else y
        return self.dq(self.cast(self.op("Clip", y, self.number(0), self.number(127)), "int8"), step)

    # Layers.

    def relu(self, x: str) -> str:
        return self.op("Relu", x)

    def weights(
        self, shape: tuple[int, ...], grain: Grain | None, stored: bool = False, axis: int = 0
    ) -> str:
        """Weights: float (no grain), float through Q and DQ, or stored integers through DQ."""
        value = self.random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        if grain is None:
            return self.constant(value, self.floats)
        others = tuple(a for a in range(len(shape)) if a != axis)
        largest = np.abs(value).max() if grain == "tensor" else np.abs(value).max(axis=others)
        steps, zero = self.scale(largest / (7 if self.quantized == "int4" else 127))
        across = {} if grain == "tensor" else {"axis": axis}
        if stored:
            spread = largest / 127 if grain == "tensor" else np.expand_dims(largest / 127, others)
            integers = self.constant(np.clip(np.round(value / spread), -127, 127), self.quantized)
        else:
            integers = self.op("QuantizeLinear", self.constant(value, self.floats), steps, zero, **across)
        return self.op("DequantizeLinear", integers, steps, zero, **across)

    def conv(
        self,
        x: str,
        c_in: int,
        c_out: int,
        kernel: int = 3,
        grain: Grain | None = "tensor",
        bias: str = "inside",
        stored: bool = False,
        group: int = 1,
        stride: int = 1,
        dims: int = 2,
    ) -> str:
        weights = self.weights((c_out, c_in // group, *[kernel] * dims), grain, stored)
        offsets = self.random.normal(0, 0.1, c_out)
        inside = [self.constant(offsets, self.floats)] if bias == "inside" else []
        attributes = {"pads": [kernel // 2] * 2 * dims, "strides": [stride] * dims, "group": group}
        y = self.op("Conv", x, weights, *inside, kernel_shape=[kernel] * dims, **attributes)
        if bias == "behind":
            y = self.op("Add", y, self.constant(offsets.reshape(1, -1, *[1] * dims), self.floats))
        return y

    def enlarge(self, x: str, factor: int, mode: str = "nearest") -> str:
        factors = self.constant([1, 1, factor, factor], "fp32")
        if mode == "linear":
            return self.op(
                "Resize", x, "", factors, mode="linear", coordinate_transformation_mode="half_pixel"
            )
        return self.op(
            "Resize", x, "", factors, mode="nearest", coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )  # fmt: skip


def chain(
    floats: Kind = "fp16",
    quantized: Kind = "int8",
    grain: Grain | None = "tensor",
    before: str = "qdq",
    after: str = "",
    relu: str = "Relu",
    depth: int = 3,
    channels: int = 64,
    size: int = 64,
    batch: int = 1,
    step: float = 0.05,
    opset: int = 19,
    **layer: Any,
) -> ModelProto:
    """A chain of convolutions; ``before`` and ``after`` name the quantizers of their inputs and outputs."""
    chain = Chain(floats, quantized, opset)
    x = chain.input(batch, channels, *[size] * layer.get("dims", 2))
    for _ in range(depth):
        x = getattr(chain, before)(x, step) if before else x
        x = chain.conv(x, channels, channels, grain=grain, **layer)
        x = getattr(chain, after)(x, step) if after else x
        if relu == "Clip":
            x = chain.op("Clip", x, chain.number(0), chain.number(6))
        elif relu == "Max":
            x = chain.op("Max", x, chain.number(0))
        elif relu == "Mul":
            x = chain.op("Mul", x, chain.constant(chain.random.uniform(0.5, 2, (1, channels, 1, 1)), floats))
        elif relu:
            x = chain.op(relu, x)
    return chain.model(x)


def integer_operator(kind: str) -> ModelProto:
    """One convolution written with one of ONNX's integer operators."""
    chain = Chain()
    x, kernel = chain.q(chain.input(1, 64, 64, 64)), chain.constant(np.ones((64, 64, 3, 3)), "int8")
    if kind == "QLinearConv":
        steps = [chain.constant(0.05, "fp32"), chain.constant(0, "int8")]
        y = chain.dq(chain.op(kind, x, *steps, kernel, *steps, *steps, pads=[1] * 4))
    elif kind == "ConvInteger":
        y = chain.cast(chain.op(kind, x, kernel, pads=[1] * 4), "fp16")
    else:
        bias = chain.op("DequantizeLinear", chain.constant(np.arange(64), "int32"), chain.number(0.0005))
        y = chain.op("Conv", chain.dq(x), chain.weights((64, 64, 3, 3), "tensor"), bias, pads=[1] * 4)
    return chain.model(y)


def products(
    quantized: Kind = "int8", bias: bool = False, relu: bool = True, grain: Grain = "tensor", batch: int = 1
) -> ModelProto:
    """1x1 convolutions written as matrix products, channels last."""
    chain = Chain("fp16", quantized)
    x = chain.qdq(chain.input(batch, 64, 64, 64))
    for _ in range(3):
        x = chain.op("MatMul", x, chain.weights((64, 64), grain, axis=1))
        x = chain.op("Add", x, chain.constant(chain.random.normal(0, 0.1, 64), "fp16")) if bias else x
        x = chain.qdq(chain.relu(x) if relu else x)
    return chain.model(x)


def pairs(quantizer: str, first: Grain | None = None, quantized: Kind = "int8") -> ModelProto:
    """Two pairs of convolutions: the second of each is INT8, the first only if ``first`` gives a grain."""
    chain = Chain("fp16", quantized)
    x = chain.input(1, 64, 64, 64)
    for _ in range(2):
        y = chain.conv(chain.qdq(x) if first else x, 64, 64, grain=first)
        # These quantizers clip negative values themselves: no ReLU.
        if quantizer == "limited":
            y = chain.op("Clip", y, chain.number(0), chain.number(127))
            y = chain.dq(chain.cast(y, quantized))
        elif quantizer == "truncated":
            y = chain.truncated(y)
        else:
            y = _quantized(chain, chain.relu(y), quantizer)
        x = chain.relu(chain.conv(y, 64, 64))
    return chain.model(x)


def _quantized(chain: Chain, x: str, how: str) -> str:
    if how == "floored":
        return chain.truncated(x, floor=True)
    return str(getattr(chain, how)(x)) if how else x


def blocks(form: str, grain: Grain = "tensor", quantized: Kind = "int8", channels: int = 32) -> ModelProto:
    """Four basic blocks: two convolutions, the block's input added, ReLU."""
    chain = Chain("fp16", quantized)
    x = chain.relu(chain.input(1, channels, 128, 128))
    skip = x = chain.truncated(x) if form == "bytes between blocks" else x
    for _ in range(4):
        if form == "fp16":
            y = chain.conv(
                chain.relu(chain.conv(x, channels, channels, grain=None)), channels, channels, grain=None
            )
            skip = x
        elif form == "bytes inside":
            y = chain.truncated(chain.conv(x, channels, channels, grain=None))
            y, skip = chain.conv(y, channels, channels, grain=grain), x
        elif form == "bytes inside, rounded":
            y = chain.qdq(chain.relu(chain.conv(x, channels, channels, grain=None)))
            y, skip = chain.conv(y, channels, channels, grain=grain), x
        elif form == "bytes between blocks":
            y = chain.conv(
                chain.relu(chain.conv(x, channels, channels, grain=grain)), channels, channels, grain=None
            )
            x = chain.truncated(chain.op("Add", y, x))
            continue
        else:
            q = chain.qdq(x)
            y = chain.conv(chain.qdq(chain.relu(chain.conv(q, channels, channels, grain=grain))), channels, channels,
                           grain=grain)  # fmt: skip
            y = chain.qdq(y) if form == "both addends" else y
            skip = {"one Q for all": q, "Q per reader": chain.qdq(x, 0.06)}.get(
                form, x if form == "no addend" else q
            )
        x = chain.relu(chain.op("Add", y, skip))
    return chain.model(x)


def bottlenecks(int8: bool) -> ModelProto:
    """Four bottlenecks of 256 channels; the 3x3 convolution is INT8 or FP16."""
    chain = Chain()
    x = chain.relu(chain.input(1, 256, 128, 128))
    for _ in range(4):
        y = chain.conv(x, 256, 64, 1, grain=None)
        y = chain.conv(chain.truncated(y), 64, 64) if int8 else chain.conv(chain.relu(y), 64, 64, grain=None)
        x = chain.relu(chain.op("Add", chain.conv(chain.relu(y), 64, 256, 1, grain=None), x))
    return chain.model(x)


def resolution_sum(form: str) -> ModelProto:
    """The sum of a map and two smaller ones, upsampled after 1x1 convolutions; then ReLU and a convolution."""
    chain = Chain()
    total = chain.input(1, 32, 128, 128)
    for factor in (2, 4):
        x = chain.input(1, 32 * factor, 128 // factor, 128 // factor)
        y = chain.conv(chain.qdq(x) if form != "fp16" else x, 32 * factor, 32, 1,
                       grain=None if form == "fp16" else "tensor")  # fmt: skip
        y = chain.qdq(y) if form == "Q before enlarging" else y
        y = chain.enlarge(y, factor)
        y = chain.qdq(y) if form == "Q behind enlarging" else y
        total = chain.op("Add", total, y)
    x = chain.relu(total)
    return chain.model(chain.conv(x if form == "fp16" else chain.qdq(x), 32, 32,
                                  grain=None if form == "fp16" else "tensor"))  # fmt: skip


def concatenation(form: str) -> ModelProto:
    """Four resolutions upsampled and concatenated, read by the first convolutions of two heads."""
    chain = Chain()
    parts = []
    for level in range(4):
        x = chain.relu(chain.input(1, 32 << level, 128 >> level, 128 >> level))
        x = chain.qdq(x) if form == "Q before enlarging" else x
        parts.append(chain.enlarge(x, 1 << level, "linear") if level else x)
    x = chain.op("Concat", *parts, axis=1)
    grain: Grain | None = None if form == "fp16" else "tensor"
    x = x if form == "fp16" else chain.qdq(x)
    return chain.model(*(chain.relu(chain.conv(x, 480, out, 1, grain=grain)) for out in (32, 272)))


def taps(form: str) -> ModelProto:
    """The adaptive convolution: nine taps per pixel sampled in FP32, a grouped 1x1 convolution, the input added."""
    chain, branches, channels = Chain(), 17, 16
    x = chain.relu(chain.input(1, branches * channels, 64, 64))
    grid = chain.cast(chain.input(branches, 9 * 64, 64, 2), "fp32")
    maps = chain.op("Reshape", chain.cast(x, "fp32"), chain.constant([branches, channels, 64, 64]))
    y = chain.op("GridSample", maps, grid, mode="bilinear", padding_mode="zeros", align_corners=0)
    y = chain.cast(chain.op("Reshape", y, chain.constant([1, branches * channels * 9, 64, 64])), "fp16")
    y = chain.qdq(y) if form == "int8" else y
    y = chain.conv(y, branches * channels * 9, branches * channels, 1, grain="tensor" if form == "int8" else None,
                   group=branches)  # fmt: skip
    return chain.model(chain.relu(chain.op("Add", y, x)))
