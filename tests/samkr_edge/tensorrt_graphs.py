"""Small graphs shaped like our exports: image bytes, a quantized residual block, a sampling, the model card."""

from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from samkr_edge.model_card import METADATA_KEY, ModelCard
from samkr_edge.pose.skeleton import Skeleton

ENDS = Skeleton("ends", ("head", "feet"), (), ((0, 1),), (0.1, 0.1))


def card(precision: str = "int8") -> ModelCard:
    return ModelCard(
        model="tiny",
        skeleton=ENDS,
        input_size=(8, 8),
        stride=1,
        precision=precision,
        stage="ptq",
        provenance={"untrained": True},
    )


def residual_graph(
    *,
    quantized: bool = True,
    opset: int = 17,
    mode: str = "bilinear",
    scale: float = 0.02,
    zero_point: int = 0,
    weight: float | None = None,
    samples: bool = True,
    batch: int | str = 1,
    per_channel: bool = False,
) -> ModelProto:
    """image (N, 8, 8, 3) uint8 -> heatmap (N, 3, 8, 8), offset (N, 4, 8, 8): Conv, quantized residual sum, sampling."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(3, 3, 1, 1)).astype(np.float32)
    if weight is not None:
        weights[0, 0] = weight
    samples = samples and isinstance(batch, int)  # the grid's batch is fixed
    grid = random.uniform(-1, 1, (1, 8, 8, 2)).astype(np.float32).repeat(batch if samples else 1, axis=0)
    constants = {
        "weights": weights,
        "grid": grid,
        "scale": np.float32(scale),
        "zero": np.int8(zero_point),
        "scales": np.full(3, scale, np.float32),
        "zeros": np.full(3, zero_point, np.int8),
        "byte": np.float32(1 / 255),
        "channels": np.array([0, 1, 2, 0]),
    }
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], name="/Transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["floats"], name="/Cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "byte"], ["x"], name="/Mul"),
    ]

    def pair(tensor: str, name: str) -> str:
        if not quantized:
            return tensor
        q, dq = f"{tensor}_{name}_q", f"{tensor}_{name}_dq"
        many = per_channel and tensor == "weights"
        params, axis = (("scales", "zeros"), {"axis": 0}) if many else (("scale", "zero"), {})
        nodes.append(
            helper.make_node(
                "QuantizeLinear", [tensor, *params], [q], name=f"/add/{name}/QuantizeLinear", **axis
            )
        )
        nodes.append(
            helper.make_node(
                "DequantizeLinear", [q, *params], [dq], name=f"/add/{name}/DequantizeLinear", **axis
            )
        )
        return dq

    nodes.append(
        helper.make_node(
            "Conv", [pair("x", "input_quantizer"), pair("weights", "weight_quantizer")], ["y"], name="/Conv"
        )
    )
    branch, skip = pair("y", "branch_input_quantizer"), pair("x", "skip_input_quantizer")
    last = "sum" if samples else "heatmap"
    nodes.append(helper.make_node("Add", [branch, skip], [last], name="/add/Add"))
    if samples:
        nodes.append(
            helper.make_node("GridSample", ["sum", "grid"], ["heatmap"], name="/GridSample", mode=mode)
        )
    nodes.append(helper.make_node("Gather", ["y", "channels"], ["offset"], name="/Gather", axis=1))
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, 8, 8, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, channels, 8, 8])
            for name, channels in (("heatmap", 3), ("offset", 4))
        ],
        [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in constants.items()
            if name in used
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    for key, value in (("note", "café"), (METADATA_KEY, card("int8" if quantized else "fp32").to_json())):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return model


def write_residual(path: Path, **options: Any) -> Path:
    path.write_bytes(residual_graph(**options).SerializeToString())
    return path
