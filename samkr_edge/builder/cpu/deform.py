"""Adaptive convolutions as ONNX ``DeformConv``: the same numbers as GridSample, less memory traffic on a CPU.

The exported graph samples nine taps per pixel with GridSample and multiplies them by a 1x1 convolution, which runs
everywhere, TensorRT included. ONNX Runtime's CPU kernel of DeformConv does both in one step and keeps the taps in
cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from samkr_edge.builder.cpu.branches import take_apart
from samkr_edge.machine.onnx_runtime_module import import_onnxruntime
from samkr_edge.onnx_graph.graph import Graph, integers, opset_of
from samkr_edge.runtime.onnx_runtime import session_options

# The first opset with DeformConv.
OPSET = 19
TAPS = 9
# a00 a01 a10 a11, acting on (y, x), then t_y t_x: training/models/adaptive_conv.py.
AFFINE = 6
# Bytes of float taps of one DeformConv. With more, they leave the cache; with much less, the calls themselves cost
# time. Twice and half of this were slower for samkr_w32's head (AMD Zen 4).
LARGEST_TAPS = 5 << 18


def offsets_from_affine(branches: int, top: int = 1, dilation: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of the grouped 1x1 convolution that turns affine parameters into DeformConv's offsets.

    Tap k of the adaptive convolution lies at ``p + A g_k + t`` (paper eq. (7)-(8)); DeformConv adds its offset to
    ``p - pad + dilation * (0, 1, 2)``, rows and columns: for a pad and a dilation of 1 the offset is
    ``A g_k + t - g_k``. It is linear in the six parameters.

    Args:
        top: added to every row: the top pad, plus the row of the map where DeformConv's first row must be.
        dilation: of the rows; columns have 1, and a pad of 1.

    Returns:
        float32 (B*18, 6, 1) and (B*18,), rows dy_0 dx_0 dy_1 dx_1 ... of each branch, in map pixels.
    """
    steps = np.array([-1.0, 0.0, 1.0], np.float32)
    y, x = np.repeat(steps, 3), np.tile(steps, 3)
    weight = np.zeros((TAPS, 2, AFFINE), np.float32)
    weight[:, 0, 0], weight[:, 0, 1], weight[:, 0, 4] = y, x, 1
    weight[:, 1, 2], weight[:, 1, 3], weight[:, 1, 5] = y, x, 1
    bias = np.stack([top - dilation * (y + 1), -x], axis=1)
    return (
        np.tile(weight.reshape(2 * TAPS, AFFINE, 1), (branches, 1, 1)),
        np.tile(bias.reshape(-1), branches),
    )


def raise_opset(model: Any) -> Any:
    """The model, raised to the first opset with DeformConv if it is older and this ONNX Runtime has the operation."""
    from onnx import version_converter

    if opset_of(model) >= OPSET or not runs_here():
        return model
    try:
        return version_converter.convert_version(model, OPSET)
    except Exception:  # from C++: no conversion rule for another tool's operation
        return model  # its samplings stay as they are


def runs_here() -> bool:
    """Whether this ONNX Runtime has a CPU kernel of DeformConv; older ones do not."""
    onnxruntime = import_onnxruntime()
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", "w", "o", "y")]
    node = helper.make_node("DeformConv", ["x", "w", "o"], ["y"])
    model = helper.make_model(
        helper.make_graph([node], "probe", ends[:3], ends[3:]),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=9,
    )
    try:
        onnxruntime.InferenceSession(
            model.SerializeToString(), session_options(1), providers=["CPUExecutionProvider"]
        )
    except Exception:  # its NotImplemented class is not public
        return False
    return True


# A placeholder while the graph is being changed: see adaptive_of.
_ADAPTIVE = "AdaptiveConv"


def use_deform_conv(graph: Graph) -> int:
    """Replace every GridSample with its convolution by DeformConv; returns how many.

        GridSample(x, grid of A, t) -> Reshape -> Conv 1x1    =>    DeformConv(x, Conv 1x1 of A, t)

    Faster: ONNX Runtime's kernel gathers the nine taps of a pixel and multiplies them while they are in the cache;
    GridSample writes nine maps for every map, to be read back. On large maps the work is split so that the output
    of one step is still in the cache for the next: into the keypoints' branches
    (``samkr_edge.builder.cpu.branches``), and each branch's sampling into blocks of rows.

    Exact but for the order of sums. A sampling with other neighbours than the exporter writes (a quantized adaptive
    kernel, say) stays unchanged, as do all if ONNX Runtime or the model's opset has no DeformConv.
    """
    if opset_of(graph.model) < OPSET or not runs_here():
        return 0
    found = 0
    for node in list(graph.nodes):
        if node.op_type == "GridSample" and (replaced := adaptive_of(graph, node)) is not None:
            convolution, adaptive = replaced
            graph.nodes[graph.nodes.index(convolution)] = adaptive
            found += 1
    graph.drop_dead()
    tried: set[str] = set()  # what cannot be split stays unchanged
    while large := [n for n in _adaptives(graph) if _is_large(graph, n) and n.output[0] not in tried]:
        tried.add(large[0].output[0])
        take_apart(graph, large[0].input[0], integers(large[0])["group"], (_ADAPTIVE,))
    for node in _adaptives(graph):
        _lower(graph, node)
    graph.index()
    return found


def _adaptives(graph: Graph) -> list[Any]:
    return [node for node in graph.nodes if node.op_type == _ADAPTIVE]


def _taps_bytes(graph: Graph, node: Any) -> int:
    return (
        TAPS
        * graph.constants[node.input[2]].shape[0]
        * integers(node)["rows"]
        * integers(node)["columns"]
        * 4
    )


def _is_large(graph: Graph, node: Any) -> bool:
    return integers(node)["group"] > 1 and _taps_bytes(graph, node) > LARGEST_TAPS


def adaptive_of(graph: Graph, node: Any) -> tuple[Any, Any] | None:
    """The convolution after a GridSample, and both as one adaptive convolution; None with other neighbours.

    The latter is a node that is not in the graph, with inputs features (N, B*c, H, W), affine parameters
    (N, B*6, H, W), kernel (B*c, c, 3, 3) and bias, and with attributes group (B), rows (H) and columns (W).
    """
    source = graph.made_by(node.input[0], "Reshape")
    grid = graph.made_by(node.input[1], "Reshape")
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
    _, stacked_rows, columns, _ = (int(size) for size in graph.constants[grid[0].input[1]])
    kernel = graph.constant(weight.reshape(-1, channels, 3, 3), "adaptive_kernel")
    return convolution, graph.onnx.helper.make_node(
        _ADAPTIVE,
        [source[0].input[0], affine.output[0], kernel, convolution.input[2]],
        list(convolution.output),
        name=convolution.name,
        group=weight.shape[0] // channels,
        rows=stacked_rows // TAPS,
        columns=columns,
    )


def _lower(graph: Graph, node: Any) -> None:
    """An adaptive convolution as DeformConv, in enough blocks of rows that the taps of each fit."""
    graph.nodes.remove(node)
    features, affine, kernel, bias = node.input
    sizes = integers(node)
    blocks = 1
    while _taps_bytes(graph, node) > LARGEST_TAPS * blocks and sizes["rows"] % (2 * blocks) == 0:
        blocks *= 2
    # One-dimensional: ONNX Runtime computes that as a plain matrix product, without a change of layout.
    shape = np.array([0, AFFINE * sizes["group"], -1], np.int64)
    flat = graph.append("Reshape", [affine, graph.constant(shape, "columns")])
    names = [graph.name(f"{affine}_rows") for _ in range(blocks)]
    if blocks > 1:
        graph.append("Split", [flat], names, axis=2, num_outputs=blocks)
    rows = sizes["rows"] // blocks
    shape = np.array([0, 2 * TAPS * sizes["group"], rows, sizes["columns"]], np.int64)
    map_shape = graph.constant(shape, "map_shape")
    done = []
    for index, block in enumerate(names if blocks > 1 else [flat]):
        pads, dilation = _block(sizes["rows"], blocks)
        weight, regular = offsets_from_affine(sizes["group"], pads[0] + index * rows, dilation)
        constants = [graph.constant(weight, "to_offsets"), graph.constant(regular, "regular_grid")]
        offsets = graph.append("Conv", [block, *constants], group=sizes["group"], kernel_shape=[1])
        offsets = graph.append("Reshape", [offsets, map_shape])
        done.append(
            graph.append(
                "DeformConv",
                [features, kernel, offsets, bias],
                [node.output[0]] if blocks == 1 else [],
                group=sizes["group"],
                offset_group=sizes["group"],
                kernel_shape=[3, 3],
                dilations=[dilation, 1],
                pads=pads,
            )
        )
    if blocks > 1:
        graph.append("Concat", done, [node.output[0]], axis=2)


def _block(rows: int, blocks: int) -> tuple[list[int], int]:
    """Pads (top, left, bottom, right) and row dilation of a DeformConv that gives ``rows / blocks`` rows.

    DeformConv outputs as many rows as its input has, less the kernel's span: enough dilation leaves one block of rows.
    The offsets undo the dilation and move to the block's first row.
    """
    if blocks == 1:
        return [1, 1, 1, 1], 1
    spare = rows - rows // blocks
    return [0, 1, spare % 2, 1], (spare + 1) // 2


def _affine_convolution(graph: Graph, grid: str) -> Any | None:
    """The only convolution that a sampling grid is computed from; None if there are several."""
    makers = graph.makers(grid, lambda node: node.op_type != "Conv")
    found = {node.output[0]: node for node in makers if node.op_type == "Conv"}
    return next(iter(found.values())) if len(found) == 1 else None
