"""The image input in the form that TensorRT accepts."""

from __future__ import annotations

from samkr_edge.onnx_graph.onnx_file import FLOAT, OnnxFile
from samkr_edge.onnx_graph.quantizers import rename


def cast_first(model: OnnxFile) -> int:
    """Cast the image bytes to float before they are transposed; returns 1, or 0 if the graph does not start like this.

        uint8 image -> Transpose -> Cast    =>    uint8 image -> Cast -> Transpose

    Not faster, but required: TensorRT allows only a cast on a uint8 input. Exact.
    """
    by_input = {name: node for node in model.nodes for name in node.inputs}
    transpose = by_input.get(model.inputs[0].name)
    cast = by_input.get(transpose.outputs[0]) if transpose and transpose.op_type == "Transpose" else None
    if transpose is None or cast is None or cast.op_type != "Cast":
        return 0
    image, between, after = transpose.inputs[0], transpose.outputs[0], cast.outputs[0]
    cast.inputs, cast.outputs = [image], [between]
    transpose.inputs, transpose.outputs = [between], [after]
    first, second = model.nodes.index(transpose), model.nodes.index(cast)
    model.nodes[first], model.nodes[second] = cast, transpose
    return 1


def float_input(model: OnnxFile) -> int:
    """Take the image as float32; returns 1, or 0 if no cast reads it. After ``cast_first``.

        uint8 image -> Cast -> Transpose    =>    float32 image -> Transpose

    For a TensorRT without uint8 inputs, and for its calibrator, which feeds floats; the runtime converts. Exact.
    """
    image = model.inputs[0]
    cast = next(
        (node for node in model.nodes if node.op_type == "Cast" and node.inputs == [image.name]), None
    )
    if cast is None or cast.attributes.get("to") != FLOAT:
        return 0
    image.elem_type = FLOAT
    model.nodes.remove(cast)
    rename(model, {cast.outputs[0]: image.name})
    return 1


def planar_input(model: OnnxFile) -> int:
    """Take the image as planes; returns 1, or 0 if no transposition reads it. After ``float_input``.

        float32 image (N, H, W, 3) -> Transpose    =>    float32 image (N, 3, H, W)

    For DeepStream's nvinfer, which writes float planes into the network's input, and nothing else. Exact.
    """
    image = model.inputs[0]
    readers = [node for node in model.nodes if image.name in node.inputs]
    if len(readers) != 1 or readers[0].op_type != "Transpose" or len(image.shape) != 4:
        return 0
    transpose = readers[0]
    if transpose.attributes.get("perm") != [0, 3, 1, 2]:
        return 0
    batch, height, width, colours = image.shape
    image.shape = (batch, colours, height, width)
    model.nodes.remove(transpose)
    rename(model, {transpose.outputs[0]: image.name})
    return 1
