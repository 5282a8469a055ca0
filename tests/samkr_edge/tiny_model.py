"""A network of two convolutions with a model card: an ONNX of ours in milliseconds."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from samkr_edge.model_card import METADATA_KEY, ModelCard
from samkr_edge.pose.skeleton import COCO17

SIZE = 64


def tiny_onnx(path: Path, seed: int = 0) -> Path:
    """A network of one strided convolution per output, exported in milliseconds."""
    card = ModelCard("samkr_tiny", COCO17, (SIZE, SIZE))
    generator = np.random.default_rng(seed)
    outputs = {"heatmap": 18, "offset": 34}
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
            *(
                helper.make_node("Conv", ["planes", f"{name}_weight"], [name], strides=[4, 4])
                for name in outputs
            ),
        ],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, SIZE, SIZE, 3])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 16, 16]) for n, c in outputs.items()],
        [
            numpy_helper.from_array(generator.normal(0, 1e-3, (c, 3, 4, 4)).astype(np.float32), f"{n}_weight")
            for n, c in outputs.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: card.to_json()})
    onnx.save(model, path)
    return path
