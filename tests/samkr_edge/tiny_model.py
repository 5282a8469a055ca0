"""A network of two convolutions with a model card: an ONNX of ours in milliseconds; and any with another card."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from samkr_edge.model_card import METADATA_KEY, ModelCard
from samkr_edge.pose.grouping_settings import GroupingSettings
from samkr_edge.pose.skeleton import COCO17

SIZE = 64


def tiny_onnx(path: Path, seed: int = 0, *, grouping: bool = False) -> Path:
    """A network of one strided convolution per output, exported in milliseconds."""
    card = ModelCard("samkr_tiny", COCO17, (SIZE, SIZE))
    if grouping:
        card = ModelCard("swahr_tiny", COCO17, (SIZE, SIZE), stride=2, grouping=GroupingSettings())
    generator = np.random.default_rng(seed)
    outputs = card.map_shapes
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
            *(
                helper.make_node("Conv", ["planes", f"{name}_weight"], [name], strides=[SIZE // h, SIZE // w])
                for name, (_, h, w) in outputs.items()
            ),
        ],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, SIZE, SIZE, 3])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, *shape]) for n, shape in outputs.items()],
        [
            numpy_helper.from_array(
                generator.normal(0, 1e-3, (c, 3, SIZE // h, SIZE // w)).astype(np.float32), f"{n}_weight"
            )
            for n, (c, h, w) in outputs.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    onnx.save(model, path)
    return path


def card_in(path: Path) -> dict[str, Any]:
    """The card of an ONNX of ours, as plain JSON."""
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return dict(json.loads(metadata[METADATA_KEY]))


def with_card(path: Path, card: dict[str, Any], out: Path) -> Path:
    """The same network with this card."""
    model = onnx.load(path)
    helper.set_model_props(model, {METADATA_KEY: json.dumps(card)})
    onnx.save(model, out)
    return out


def seeing_everybody(path: Path, out: Path) -> Path:
    """The same network, decoded without a threshold: an untrained one is sure of nobody."""
    card = card_in(path)
    card["decode"]["center_threshold"] = -1e9
    return with_card(path, card, out)
