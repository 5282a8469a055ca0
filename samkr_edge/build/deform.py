"""Adaptive convolutions as ONNX ``DeformConv``: the same numbers as GridSample, less memory traffic on a CPU.

The exported graph samples nine taps per pixel with GridSample and multiplies them by a 1x1 convolution: it runs
everywhere, TensorRT included. ONNX Runtime's CPU kernel of DeformConv does both at once and keeps the taps in cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from samkr_edge.build.graph import Graph

# The first opset with DeformConv.
OPSET = 19
TAPS = 9
# a00 a01 a10 a11, acting on (y, x), then t_y t_x: training/models/adaptive_conv.py.
AFFINE = 6
# Bytes of float taps above which branches are sampled one by one.
LARGEST_TAPS = 1 << 23


def offsets_from_affine(branches: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of the grouped 1x1 convolution from affine parameters to DeformConv's offsets.

    Tap k of the adaptive convolution lies at ``p + A g_k + t`` (paper eq. (7)-(8)), of DeformConv at
    ``p + g_k + offset_k``: the offset is ``A g_k + t - g_k``, linear in the six parameters.

    Returns:
        float32 (B*18, 6, 1, 1) and (B*18,), rows dy_0 dx_0 dy_1 dx_1 ... of each branch, in map pixels.
    """
    steps = np.array([-1.0, 0.0, 1.0], np.float32)
    y, x = np.repeat(steps, 3), np.tile(steps, 3)
    weight = np.zeros((TAPS, 2, AFFINE), np.float32)
    weight[:, 0, 0], weight[:, 0, 1], weight[:, 0, 4] = y, x, 1
    weight[:, 1, 2], weight[:, 1, 3], weight[:, 1, 5] = y, x, 1
    bias = -np.stack([y, x], axis=1)
    return (
        np.tile(weight.reshape(2 * TAPS, AFFINE, 1, 1), (branches, 1, 1, 1)),
        np.tile(bias.reshape(-1), branches),
    )


def runs_here() -> bool:
    """Whether this ONNX Runtime has a CPU kernel of DeformConv; older ones do not."""
    import onnxruntime
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", "w", "o", "y")]
    node = helper.make_node("DeformConv", ["x", "w", "o"], ["y"])
    model = helper.make_model(
        helper.make_graph([node], "probe", ends[:3], ends[3:]),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=9,
    )
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception:  # its NotImplemented class is not public
        return False
    return True


def use_deform_conv(graph: Graph) -> int:
    """Replace every GridSample with its convolution by DeformConv; returns how many. Exact.

    On large maps each branch gets its own node: the taps of one branch fit the cache, those of all do not. A sampling
    whose surroundings are not what the exporter writes (a quantized adaptive kernel, say) stays as it is.
    """
    replaced = 0
    for node in [n for n in graph.nodes if n.op_type == "GridSample"]:
        source = _produced_by(graph, node.input[0], "Reshape")
        grid = _produced_by(graph, node.input[1], "Reshape")
        affine = _affine_convolution(graph, node.input[1])
        stacked = [n for n in graph.consumers[node.output[0]] if n.op_type == "Reshape"]
        convolutions = graph.consumers[stacked[0].output[0]] if len(stacked) == 1 else []
        if source is None or grid is None or affine is None or len(convolutions) != 1:
            continue
        convolution = convolutions[0]
        weight = graph.constants.get(convolution.input[1])
        if convolution.op_type != "Conv" or weight is None or weight.shape[2:] != (1, 1):
            continue
        if len(convolution.input) != 3 or convolution.input[2] not in graph.constants:
            continue
        channels = weight.shape[1] // TAPS
        branches = weight.shape[0] // channels
        rows, columns = graph.constants[grid.input[1]][1:3]
        taps_bytes = 4 * weight.shape[0] * int(rows) * int(columns)
        parts = branches if taps_bytes > LARGEST_TAPS else 1
        offsets = _offsets(graph, affine.output[0], branches)
        kernels = weight.reshape(parts, -1, channels, 3, 3)
        biases = graph.constants[convolution.input[2]].reshape(parts, -1)
        outputs = [graph.name("adaptive") for _ in range(parts)] if parts > 1 else [convolution.output[0]]
        for features, moves, kernel, bias, output in zip(
            _split(graph, source.input[0], parts, channels),
            _split(graph, offsets, parts, 2 * TAPS),
            kernels,
            biases,
            outputs,
            strict=True,
        ):
            inputs = [
                features,
                graph.constant(kernel, "adaptive_kernel"),
                moves,
                graph.constant(bias, "adaptive_bias"),
            ]
            _append(
                graph,
                "DeformConv",
                inputs,
                [output],
                group=branches // parts,
                offset_group=branches // parts,
                kernel_shape=[3, 3],
                pads=[1, 1, 1, 1],
            )
        if parts > 1:
            _append(graph, "Concat", outputs, [convolution.output[0]], axis=1)
        graph.nodes.remove(convolution)
        graph.index()
        replaced += 1
    return replaced


def _append(graph: Graph, op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
    node = graph.onnx.helper.make_node(op, inputs, outputs, name=graph.name(op), **attributes)
    graph.nodes.append(node)


def _offsets(graph: Graph, affine: str, branches: int) -> str:
    """Name of the DeformConv offsets, (N, B*18, H, W), computed from the affine parameters (N, B*6, H, W)."""
    weight, bias = offsets_from_affine(branches)
    inputs = [affine, graph.constant(weight, "to_offsets"), graph.constant(bias, "regular_grid")]
    offsets = graph.name("tap_offsets")
    _append(graph, "Conv", inputs, [offsets], group=branches, kernel_shape=[1, 1])
    return offsets


def _split(graph: Graph, tensor: str, parts: int, size: int) -> list[str]:
    """Names of ``parts`` slices of ``size`` channels; the tensor itself for one part."""
    if parts == 1:
        return [tensor]
    names = [graph.name(f"{tensor}_part") for _ in range(parts)]
    sizes = graph.constant(np.full(parts, size, np.int64), "sizes")
    _append(graph, "Split", [tensor, sizes], names, axis=1)
    return names


def _produced_by(graph: Graph, tensor: str, op: str) -> Any | None:
    node = graph.producer.get(tensor)
    return node if node is not None and node.op_type == op else None


def _affine_convolution(graph: Graph, grid: str) -> Any | None:
    """The one convolution that a sampling grid is computed from, None where there are several."""
    found: dict[str, Any] = {}
    stack = [grid]
    while stack:
        node = graph.producer.get(stack.pop())
        if node is None:
            continue
        if node.op_type == "Conv":
            found[node.output[0]] = node
        else:
            stack.extend(node.input)
    return next(iter(found.values())) if len(found) == 1 else None
