"""Biases as the floats that convolutions add; some quantizers store them as int32 before a DequantizeLinear.

TensorRT dequantizes INT8 only, and the passes for the CPU expect constant biases, as `export` writes them.
"""

from __future__ import annotations

import numpy as np

from samkr_edge.onnx_graph.onnx_file import OnnxFile


def float_biases(model: OnnxFile) -> int:
    """Store the int32 biases of convolutions as the floats that they represent; returns how many. Exact."""
    read = {name for node in model.nodes if node.op_type == "Conv" for name in node.inputs[2:]}
    read -= {output.name for output in model.outputs}
    floats: dict[str, np.ndarray] = {}
    for node in model.nodes:
        if node.op_type != "DequantizeLinear" or node.outputs[0] not in read:
            continue
        steps, scale = (
            tensor.array() if (tensor := model.tensors.get(name)) else None for name in node.inputs[:2]
        )
        if steps is not None and scale is not None and (steps.dtype, scale.dtype) == (np.int32, np.float32):
            floats[node.outputs[0]] = (steps.astype(np.float64) * scale).astype(np.float32)
    model.nodes = [node for node in model.nodes if node.outputs[0] not in floats]
    for name, values in floats.items():
        model.add_tensor(name, values)
    return len(floats)
