"""Adaptive convolutions as ONNX ``DeformConv``: the same numbers as GridSample, less memory traffic on a CPU.

The exported graph samples nine taps per pixel with GridSample and multiplies them by a 1x1 convolution: it runs
everywhere, TensorRT included. ONNX Runtime's CPU kernel of DeformConv does both at once and keeps the taps in cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from samkr_edge.build.graph import Graph

# The first opset with DeformConv.
OPSET = 19
TAPS = 9
# a00 a01 a10 a11, acting on (y, x), then t_y t_x: training/models/adaptive_conv.py.
AFFINE = 6
# Bytes of float taps that fit a core's second-level cache: more at a time, and every one is written to memory and read
# back. On 128x128 maps this makes the difference between 5.8 and 4.9 ms a branch (AMD Zen 4).
LARGEST_TAPS = 5 << 19


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


@dataclass(frozen=True)
class _Sampling:
    """One adaptive convolution as exported: ``kernel`` (B*c, c, 3, 3) for B branches of c channels, maps H x W."""

    features: str
    affine: Any
    convolution: Any
    kernel: np.ndarray
    bias: np.ndarray
    branches: int
    rows: int
    columns: int


def use_deform_conv(graph: Graph) -> int:
    """Replace every GridSample with its convolution by DeformConv; returns how many. Exact.

    On large maps the work is cut so that what one step leaves is still in the cache for the next: branch by branch
    through all that follows (:func:`_branch_by_branch`), and every sampling by blocks of rows. A sampling whose
    surroundings are not what the exporter writes (a quantized adaptive kernel, say) stays as it is.
    """
    found = [_match(graph, node) for node in graph.nodes if node.op_type == "GridSample"]
    samplings = [sampling for sampling in found if sampling is not None]
    apart: dict[str, list[str]] = {}
    for sampling in samplings:
        graph.nodes.remove(sampling.convolution)
        if _taps_bytes(sampling) <= LARGEST_TAPS:
            affine = _columns(graph, sampling.affine.output[0], AFFINE * sampling.branches)
            _deform(graph, sampling, sampling.features, affine, sampling.convolution.output[0])
        else:
            _branch_by_branch(graph, sampling, apart)
        graph.index()
    return len(samplings)


def _match(graph: Graph, node: Any) -> _Sampling | None:
    source = _produced_by(graph, node.input[0], "Reshape")
    grid = _produced_by(graph, node.input[1], "Reshape")
    affine = _affine_convolution(graph, node.input[1])
    stacked = [n for n in graph.consumers[node.output[0]] if n.op_type == "Reshape"]
    convolutions = graph.consumers[stacked[0].output[0]] if len(stacked) == 1 else []
    if source is None or grid is None or affine is None or len(convolutions) != 1:
        return None
    convolution = convolutions[0]
    if convolution.op_type != "Conv" or len(convolution.input) != 3:
        return None
    weight, bias = (graph.constants.get(name) for name in convolution.input[1:])
    if weight is None or bias is None or weight.shape[2:] != (1, 1):
        return None
    channels = weight.shape[1] // TAPS
    _, stacked_rows, columns, _ = (int(size) for size in graph.constants[grid.input[1]])
    return _Sampling(
        features=source.input[0],
        affine=affine,
        convolution=convolution,
        kernel=weight.reshape(-1, channels, 3, 3),
        bias=bias,
        branches=weight.shape[0] // channels,
        rows=stacked_rows // TAPS,
        columns=columns,
    )


def _taps_bytes(sampling: _Sampling) -> int:
    return 4 * TAPS * sampling.kernel.shape[0] * sampling.rows * sampling.columns


def _branch_by_branch(graph: Graph, sampling: _Sampling, apart: dict[str, list[str]]) -> None:
    """Every branch by nodes of its own: affine parameters, sampling, and the residual sum and ReLU that follow.

    ``apart`` remembers the branches of the maps made here, for a second adaptive convolution to start from: the map
    itself is joined only if something else reads it.
    """
    inputs = apart.get(sampling.features) or _split(graph, sampling.features, sampling.branches, axis=1)
    outputs = [_one_branch(graph, sampling, feature, branch) for branch, feature in enumerate(inputs)]
    joined = sampling.convolution.output[0]
    while joined not in graph.outputs and len(graph.consumers[joined]) == 1:
        (reader,) = graph.consumers[joined]
        residual = reader.op_type == "Add" and sampling.features in reader.input
        if not residual and reader.op_type != "Relu":
            break
        graph.nodes.remove(reader)
        joined = reader.output[0]
        for branch, (output, feature) in enumerate(zip(outputs, inputs, strict=True)):
            outputs[branch] = graph.name("branch")
            _append(graph, reader.op_type, [output, feature] if residual else [output], [outputs[branch]])
    _append(graph, "Concat", outputs, [joined], axis=1)
    apart[joined] = outputs


def _one_branch(graph: Graph, sampling: _Sampling, features: str, branch: int) -> str:
    """Name of one branch's adaptive convolution (N, c, H, W), joined from blocks of rows."""
    weight, bias = (graph.constants[name] for name in sampling.affine.input[1:])
    own = slice(branch * AFFINE, (branch + 1) * AFFINE)
    names = [graph.constant(weight[own], "affine_weight"), graph.constant(bias[own], "affine_bias")]
    affine = graph.name("affine")
    _append(graph, "Conv", [features, *names], [affine], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    columns = _columns(graph, affine, AFFINE)
    blocks = 1
    while _taps_bytes(sampling) / (sampling.branches * blocks) > LARGEST_TAPS and not sampling.rows % (
        2 * blocks
    ):
        blocks *= 2
    parts = _split(graph, columns, blocks, axis=2)
    outputs = [graph.name("adaptive") for _ in parts]
    for block, part in enumerate(parts):
        _deform(graph, sampling, features, part, outputs[block], branch, (block, blocks))
    return _concat(graph, outputs, axis=2)


def _deform(
    graph: Graph,
    sampling: _Sampling,
    features: str,
    affine: str,
    output: str,
    branch: int | None = None,
    block: tuple[int, int] = (0, 1),
) -> None:
    """A DeformConv of all branches, or of one of them, for all rows, or for block i of n.

    Args:
        affine: name of the parameters (N, 6 B, H / n * W).

    A DeformConv gives as many rows as its input has, less what the kernel spans: one dilated until H / n rows are left
    computes a block. Its offsets undo the dilation and move to the block's first row.
    """
    channels = sampling.kernel.shape[1]
    part = slice(None) if branch is None else slice(branch * channels, (branch + 1) * channels)
    groups = sampling.branches if branch is None else 1
    index, blocks = block
    rows = sampling.rows // blocks
    bottom = (sampling.rows - rows) % 2
    dilation, top = ((sampling.rows + bottom - rows) // 2, 0) if blocks > 1 else (1, 1)
    bottom = bottom if blocks > 1 else 1

    weight, bias = offsets_from_affine(groups)
    moved = bias.reshape(groups, 3, 3, 2)  # a view: branch, tap row, tap column, (y, x)
    moved[..., 0] = (index * rows + top - dilation * np.arange(3))[:, None]
    offsets, shaped = graph.name("tap_offsets"), graph.name("tap_offsets")
    # Without its width: a convolution of one dimension is a plain matrix product, without a change of layout.
    constants = [graph.constant(weight[..., 0], "to_offsets"), graph.constant(bias, "regular_grid")]
    _append(graph, "Conv", [affine, *constants], [offsets], group=groups, kernel_shape=[1])
    shape = np.array([0, 2 * TAPS * groups, rows, sampling.columns], np.int64)
    _append(graph, "Reshape", [offsets, graph.constant(shape, "map_shape")], [shaped])

    kernel = graph.constant(sampling.kernel[part], "adaptive_kernel")
    kernel_bias = graph.constant(sampling.bias[part], "adaptive_bias")
    _append(
        graph,
        "DeformConv",
        [features, kernel, shaped, kernel_bias],
        [output],
        group=groups,
        offset_group=groups,
        kernel_shape=[3, 3],
        dilations=[dilation, 1],
        pads=[top, 1, bottom, 1],
    )


def _append(graph: Graph, op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
    node = graph.onnx.helper.make_node(op, inputs, outputs, name=graph.name(op), **attributes)
    graph.nodes.append(node)


def _columns(graph: Graph, tensor: str, channels: int) -> str:
    """A map (N, channels, H, W) read as (N, channels, H * W)."""
    name = graph.name(f"{tensor}_columns")
    shape = graph.constant(np.array([0, channels, -1], np.int64), "columns")
    _append(graph, "Reshape", [tensor, shape], [name])
    return name


def _concat(graph: Graph, tensors: list[str], axis: int) -> str:
    if len(tensors) == 1:
        return tensors[0]
    name = graph.name("joined")
    _append(graph, "Concat", tensors, [name], axis=axis)
    return name


def _split(graph: Graph, tensor: str, parts: int, axis: int) -> list[str]:
    """Names of ``parts`` equal slices along an axis; the tensor itself for one part."""
    if parts == 1:
        return [tensor]
    names = [graph.name(f"{tensor}_part") for _ in range(parts)]
    _append(graph, "Split", [tensor], names, axis=axis, num_outputs=parts)
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
