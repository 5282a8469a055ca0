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
    affine: str
    convolution: Any
    kernel: np.ndarray
    bias: np.ndarray
    branches: int
    rows: int
    columns: int


def use_deform_conv(graph: Graph) -> int:
    """Replace every GridSample with its convolution by DeformConv; returns how many. Exact.

    On large maps the work is cut so that the taps of one piece fit the cache: every branch gets nodes of its own, and
    each of them every fourth row, say. A sampling whose surroundings are not what the exporter writes (a quantized
    adaptive kernel, say) stays as it is.
    """
    found = [_match(graph, node) for node in graph.nodes if node.op_type == "GridSample"]
    samplings = [sampling for sampling in found if sampling is not None]
    for sampling in samplings:
        output = sampling.convolution.output[0]
        graph.nodes.remove(sampling.convolution)
        if _taps_bytes(sampling) <= LARGEST_TAPS:
            _deform(graph, sampling, sampling.features, _offsets(graph, sampling, sampling.affine), output)
        else:
            _in_pieces(graph, sampling, output)
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
        affine=affine.output[0],
        convolution=convolution,
        kernel=weight.reshape(-1, channels, 3, 3),
        bias=bias,
        branches=weight.shape[0] // channels,
        rows=stacked_rows // TAPS,
        columns=columns,
    )


def _taps_bytes(sampling: _Sampling) -> int:
    return 4 * TAPS * sampling.kernel.shape[0] * sampling.rows * sampling.columns


def _in_pieces(graph: Graph, sampling: _Sampling, output: str) -> None:
    """One DeformConv for every branch and phase; phase p of s computes the rows p, p + s, p + 2 s, ...

    In row-major order those rows lie side by side once a map (H, W) is read as (H / s, s * W): cutting and joining the
    phases is a Split and a Concat of columns.
    """
    phases = 1
    while (
        _taps_bytes(sampling) / (sampling.branches * phases) > LARGEST_TAPS
        and sampling.rows % (2 * phases) == 0
    ):
        phases *= 2
    features = _split(graph, sampling.features, sampling.branches, axis=1)
    rows, columns = sampling.rows // phases, sampling.columns
    affine = _reshape(graph, sampling.affine, rows, phases * columns)
    done = []
    for phase, part in enumerate(_split(graph, affine, phases, axis=3)):
        offsets = _split(graph, _offsets(graph, sampling, part, phase), sampling.branches, axis=1)
        outputs = [graph.name("adaptive") for _ in features]
        for branch, (feature, offset) in enumerate(zip(features, offsets, strict=True)):
            _deform(graph, sampling, feature, offset, outputs[branch], branch, phases)
        done.append(_concat(graph, outputs, axis=1))
    _reshape(graph, _concat(graph, done, axis=3), sampling.rows, columns, output)


def _deform(
    graph: Graph,
    sampling: _Sampling,
    features: str,
    offsets: str,
    output: str,
    branch: int | None = None,
    stride: int = 1,
) -> None:
    """A DeformConv of all branches, or of one of them, for every ``stride``-th row."""
    channels = sampling.kernel.shape[1]
    part = slice(None) if branch is None else slice(branch * channels, (branch + 1) * channels)
    groups = sampling.branches if branch is None else 1
    kernel = graph.constant(sampling.kernel[part], "adaptive_kernel")
    bias = graph.constant(sampling.bias[part], "adaptive_bias")
    _append(
        graph,
        "DeformConv",
        [features, kernel, offsets, bias],
        [output],
        group=groups,
        offset_group=groups,
        kernel_shape=[3, 3],
        pads=[1, 1, 1, 1],
        strides=[stride, 1],
    )


def _append(graph: Graph, op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
    node = graph.onnx.helper.make_node(op, inputs, outputs, name=graph.name(op), **attributes)
    graph.nodes.append(node)


def _offsets(graph: Graph, sampling: _Sampling, affine: str, phase: int = 0) -> str:
    """Name of the DeformConv offsets, (N, B*18, H, W), computed from the affine parameters (N, B*6, H, W)."""
    weight, bias = offsets_from_affine(sampling.branches)
    # A strided DeformConv believes to be at row i * stride, and is to compute row i * stride + phase.
    bias[0::2] += phase
    inputs = [affine, graph.constant(weight, "to_offsets"), graph.constant(bias, "regular_grid")]
    offsets = graph.name("tap_offsets")
    _append(graph, "Conv", inputs, [offsets], group=sampling.branches, kernel_shape=[1, 1])
    return offsets


def _reshape(graph: Graph, tensor: str, rows: int, columns: int, name: str = "") -> str:
    """A map (N, C, H, W) read as (N, C, rows, columns)."""
    name = name or graph.name(f"{tensor}_rows")
    shape = graph.constant(np.array([0, 0, rows, columns], np.int64), "map_shape")
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
