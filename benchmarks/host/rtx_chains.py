"""Small ONNX graphs in many INT8 forms, for :mod:`rtx_forms`: written by hand, so that nothing but the form differs."""

from __future__ import annotations

from typing import Any, Literal

import ml_dtypes
import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

Kind = Literal["fp32", "fp16", "bf16", "int8", "fp8", "int4", "int32"]
Grain = Literal["tensor", "channel"]
NUMPY = {
    "fp32": np.float32, "fp16": np.float16, "bf16": ml_dtypes.bfloat16, "int8": np.int8,
    "fp8": ml_dtypes.float8_e4m3fn, "int4": ml_dtypes.int4, "int32": np.int32,
}  # fmt: skip
ONNX = {
    "fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16, "int8": TensorProto.INT8,
    "fp8": TensorProto.FLOAT8E4M3FN, "int4": TensorProto.INT4, "int32": TensorProto.INT32,
}  # fmt: skip
STEP = 0.05  # of activations, where a form does not say


class Chain:
    """An ONNX graph being written; every method adds nodes and returns the name of their result.

    Inputs and outputs are FP32; between, floats and scales are of one type.
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
        """Quantized by multiplication, rounding, limits and a cast."""
        y = self.op("Round", self.op("Mul", x, self.number(1 / step)))
        return self.dq(self.cast(self.op("Clip", y, self.number(-128), self.number(127)), "int8"), step)

    def truncated(self, x: str, step: float = STEP, floor: bool = False) -> str:
        """Quantized by adding one half, limits and a cast, which truncates; of a tensor whose negative values are cut."""
        y = self.op("Add", self.op("Mul", x, self.number(1 / step)), self.number(0.5))
        y = self.op("Floor", y) if floor else y
        return self.dq(self.cast(self.op("Clip", y, self.number(0), self.number(127)), "int8"), step)

    # Layers.

    def relu(self, x: str) -> str:
        return self.op("Relu", x)

    def weights(self, shape: tuple[int, ...], grain: Grain | None, stored: bool = False, axis: int = 0) -> str:
        """Weights: float (no grain), or behind Q and DQ, or stored as integers behind DQ."""
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
        bias: Literal["inside", "behind", "none"] = "inside",
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
            return self.op("Resize", x, "", factors, mode="linear", coordinate_transformation_mode="half_pixel")
        return self.op(
            "Resize", x, "", factors, mode="nearest", coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )  # fmt: skip
