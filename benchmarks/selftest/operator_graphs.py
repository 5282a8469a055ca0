"""The networks' operators as graphs of one or a few nodes, with the shapes and attributes that `export` writes.

Inputs are multiples of 1/128 and at most 1, which FP16 and TF32 represent exactly, so that only the operator's error is
measured.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.selftest.carried import TRAINED, graph_file
from samkr_edge.machine.onnx_runtime_module import import_onnxruntime

OPSET, IR_VERSION = 17, 8
# (channels, groups, output channels) of the 1x1 convolutions that only grouped heads have: 17 keypoints with 8 groups
# of attention each, and 9 taps of 16 channels.
CONVOLUTIONS = ((272, 136, 136), (272, 272, 272), (17 * 144, 17, 17 * 16))
# Rows and columns of the maps of an image of 512x512, and a quarter of them for what reads thousands of channels.
MAP, SMALL_MAP = 128, 64
# Input pixels per map pixel.
STRIDE = 4


@dataclass(frozen=True)
class Operator:
    """``graph``: a serialized ONNX model; ``inputs``: for it, by name."""

    name: str
    graph: bytes
    inputs: dict[str, np.ndarray]


def computed(operator: Operator) -> dict[str, np.ndarray]:
    """Outputs by name, by ONNX Runtime on the CPU."""
    onnxruntime = import_onnxruntime()

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(operator.graph, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, operator.inputs), strict=True))


def every_type(*, with_bytes: bool) -> tuple[Operator, dict[str, np.ndarray]]:
    """Inputs of every type that an engine can have, and the expected outputs, without ONNX Runtime."""
    from onnx import TensorProto, helper

    shape = (1, 2, 8, 16)
    inputs: dict[str, np.ndarray] = {
        "wide": _values(shape),
        "half": _values(shape, seed=1).astype(np.float16),
    }
    expected = {"wide_out": -inputs["wide"], "half_out": -inputs["half"]}
    nodes = [
        helper.make_node("Neg", [name], [f"{name}_out"], name=f"/{name}/Neg") for name in ("wide", "half")
    ]
    if with_bytes:
        inputs["bytes"] = np.arange(256, dtype=np.uint8).reshape(shape)
        expected["bytes_out"] = inputs["bytes"].astype(np.float32)
        nodes.append(
            helper.make_node("Cast", ["bytes"], ["bytes_out"], name="/bytes/Cast", to=TensorProto.FLOAT)
        )
    kinds = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}

    def described(values: dict[str, np.ndarray]) -> list[tuple[str, int, tuple[int, ...]]]:
        return [(name, kinds[str(value.dtype)], shape) for name, value in values.items()]

    return Operator("types", _model(nodes, described(inputs), described(expected)), inputs), expected


def image_bytes() -> Operator:
    """image (1, 64, 96, 3) uint8 -> planes (1, 3, 64, 96) float32."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Transpose", ["image"], ["bytes"], name="/Transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["bytes"], ["planes"], name="/Cast", to=TensorProto.FLOAT),
    ]
    shape = (1, 64, 96, 3)
    image = np.resize(np.arange(256, dtype=np.uint8), shape)
    graph = _model(
        nodes, [("image", TensorProto.UINT8, shape)], [("planes", TensorProto.FLOAT, (1, 3, 64, 96))]
    )
    return Operator("image_bytes", graph, {"image": image})


def resize(factor: int) -> Operator:
    """x (1, 32, 24, 16) -> y, enlarged to the nearest pixel as the sums of resolutions are."""
    from onnx import TensorProto, helper

    node = helper.make_node(
        "Resize",
        ["x", "", "scales"],
        ["y"],
        name="/Resize",
        coordinate_transformation_mode="asymmetric",
        mode="nearest",
        nearest_mode="floor",
    )
    shape = (1, 32, 24, 16)
    large = (1, 32, 24 * factor, 16 * factor)
    graph = _model(
        [node],
        [("x", TensorProto.FLOAT, shape)],
        [("y", TensorProto.FLOAT, large)],
        {"scales": np.array([1, 1, factor, factor], np.float32)},
    )
    return Operator(f"resize_x{factor}", graph, {"x": _values(shape)})


def softmax(*, half: bool = False) -> Operator:
    """x (1, 136, 16384) -> y: attention over the 128x128 places of a map, whose mean weight is 2^-14.

    ``half``: the input is FP16, as in a network with FP16 baked in.
    """
    from onnx import TensorProto, helper

    shape = (1, 136, MAP * MAP)
    nodes = [helper.make_node("Softmax", ["wide" if half else "x"], ["y"], name="/Softmax", axis=2)]
    if half:
        before = helper.make_node("Cast", ["x"], ["x_half"], name="/before/Cast", to=TensorProto.FLOAT16)
        wide = helper.make_node("Cast", ["x_half"], ["wide"], name="/wide/Cast", to=TensorProto.FLOAT)
        nodes = [before, wide, *nodes]
    graph = _model(nodes, [("x", TensorProto.FLOAT, shape)], [("y", TensorProto.FLOAT, shape)])
    return Operator("softmax", graph, {"x": _values(shape) * 4})


def convolution(channels: int, groups: int, outputs: int, *, half: bool = False) -> Operator:
    """x (1, channels, h, w) -> y (1, outputs, h, w), 1x1; ``half``: in FP16, between casts."""
    from onnx import TensorProto, helper

    side = SMALL_MAP if channels > 1000 else MAP
    shape, result = (1, channels, side, side), (1, outputs, side, side)
    weight = _values((outputs, channels // groups, 1, 1), seed=1)
    names = ("x_half", "y_half") if half else ("x", "y")
    nodes = [
        helper.make_node(
            "Conv", [names[0], "weight"], [names[1]], name="/Conv", group=groups, kernel_shape=[1, 1]
        )
    ]
    if half:
        weight = weight.astype(np.float16)
        before = helper.make_node("Cast", ["x"], ["x_half"], name="/before/Cast", to=TensorProto.FLOAT16)
        after = helper.make_node("Cast", ["y_half"], ["y"], name="/after/Cast", to=TensorProto.FLOAT)
        nodes = [before, *nodes, after]
    graph = _model(
        nodes, [("x", TensorProto.FLOAT, shape)], [("y", TensorProto.FLOAT, result)], {"weight": weight}
    )
    return Operator(f"convolution_{channels}_{groups}_{outputs}", graph, {"x": _values(shape)})


def decode_tail() -> Operator:
    """heatmap, offset -> poses, scores, and proposals if it refines: the part of a decoding export after the maps."""
    import onnx
    from onnx import TensorProto

    whole = onnx.load_from_string(gzip.decompress(graph_file(TRAINED, "graph").read_bytes())).graph
    makers = {name: node for node in whole.node for name in node.output}
    maps = _maps(whole)
    kept: set[str] = set()
    wanted = [value.name for value in whole.output]
    while wanted:
        node = makers.get(wanted.pop())
        if node is not None and node.output[0] not in kept | maps.keys():
            kept.add(node.output[0])
            wanted += node.input
    nodes = [node for node in whole.node if node.output[0] in kept]
    read = {name for node in nodes for name in node.input}
    constants = {
        tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in whole.initializer if tensor.name in read
    }
    inputs = [(name, TensorProto.FLOAT, values.shape) for name, values in maps.items()]
    outputs = [(value.name, TensorProto.FLOAT, _shape(value)) for value in whole.output]
    return Operator("decode", _model(nodes, inputs, outputs, constants), maps)


def _maps(graph: Any) -> dict[str, np.ndarray]:
    """Noise with more peaks than the decoder takes, and joints on both sides of the border.

    All values differ, since TopK may choose any of equal ones.
    """
    sizes = {value.name: _shape(value) for value in (*graph.input, *graph.output)}
    batch, height, width, _ = sizes["image"]
    keypoints = sizes["poses"][2]
    random = np.random.default_rng(0)
    heatmap = random.uniform(0, 1, (batch, keypoints + 1, height // STRIDE, width // STRIDE))
    offset = random.normal(0, 6, (batch, 2 * keypoints, height // STRIDE, width // STRIDE))
    return {"heatmap": heatmap.astype(np.float32), "offset": offset.astype(np.float32)}


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(size.dim_value for size in value.type.tensor_type.shape.dim)


def _values(shape: Sequence[int], seed: int = 0) -> np.ndarray:
    integers = np.random.default_rng(seed).integers(-127, 128, tuple(shape))
    return (integers / 128).astype(np.float32)


def _model(
    nodes: Sequence[Any],
    inputs: Sequence[tuple[str, int, tuple[int, ...]]],
    outputs: Sequence[tuple[str, int, tuple[int, ...]]],
    constants: dict[str, np.ndarray] | None = None,
) -> bytes:
    import onnx
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        list(nodes),
        "operator",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
