"""A network without weights for tests of the device side: a person wherever the image is red."""

from pathlib import Path

import cv2
import numpy as np

from samkr_edge.model_card import METADATA_KEY, ModelCard
from samkr_edge.pose.decode_settings import DecodeSettings
from samkr_edge.pose.skeleton import COCO17

SIZE, MAP = 64, 16
# Joints of everybody, map pixels from their centre: a plus sign of arms and legs.
JOINTS = (
    np.stack([np.cos(np.arange(17) * 2 * np.pi / 17), np.sin(np.arange(17) * 2 * np.pi / 17)], axis=1) * 2
)


def write_red_dot_model(path: Path) -> Path:
    """An ONNX of the usual inputs and outputs: centre = how red, heatmaps 1, offsets those of JOINTS."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    offset = np.tile((-JOINTS).reshape(1, 34, 1, 1), (1, 1, MAP, MAP)).astype(np.float32)
    constants = {
        "sure": np.ones((1, 17, MAP, MAP), np.float32),
        "red": np.array([1.0, -0.5, -0.5], np.float32).reshape(1, 3, 1, 1) / 255,
        "offsets": offset,
        "nothing": np.zeros((1, 34, MAP, MAP), np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], name="/Cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], name="/Transpose", perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool", ["planes"], ["small"], name="/AveragePool", kernel_shape=[4, 4], strides=[4, 4]
        ),
        helper.make_node("Conv", ["small", "red"], ["center"], name="/Conv"),
        helper.make_node("Concat", ["sure", "center"], ["heatmap"], name="/Concat", axis=1),
        helper.make_node("Add", ["offsets", "nothing"], ["offset"], name="/Add"),
    ]
    graph = helper.make_graph(
        nodes,
        "red dot",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, [1, 18, MAP, MAP]),
            helper.make_tensor_value_info("offset", TensorProto.FLOAT, [1, 34, MAP, MAP]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    entry = model.metadata_props.add()
    card = ModelCard("red_dot", COCO17, (SIZE, SIZE), decode=DecodeSettings(center_threshold=0.1))
    entry.key, entry.value = METADATA_KEY, card.to_json()
    checker.check_model(model)
    save(model, path)
    return path


def dots(*places: tuple[float, float], size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """A dark BGR image (H, W, 3) with a soft red dot at each x, y."""
    image = np.zeros((*size, 3), np.uint8)
    for x, y in places:
        cv2.circle(image, (round(x), round(y)), 7, (0, 0, 255), -1)
    return cv2.GaussianBlur(image, (0, 0), 2.5)


def write_video(path: Path, images: list[np.ndarray], codec: str = "mp4v") -> Path:
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25, (width, height))
    for image in images:
        writer.write(image)
    writer.release()
    return path
