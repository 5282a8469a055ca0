"""Turn a Q/DQ ONNX, as ModelOpt exports it, into the form that ONNX Runtime runs fast on x86-64: the passes, in order.

As exported, INT8 is slower there than FP32: activations are signed (x86 kernels want unsigned), a tensor with several
readers is quantized several times, ReLUs lie between a sum and its quantizer, and sums are float. Every pass changes a
``samkr_edge.onnx_graph.graph.Graph`` and returns how many rewrites it made; its docstring gives the rewrite, why it is
faster here, and whether it is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from samkr_edge.builder.cpu import deform
from samkr_edge.builder.cpu.absorbed_relus import absorb_relus
from samkr_edge.builder.cpu.byte_enlargements import enlarge_bytes
from samkr_edge.builder.cpu.centers_alone import AT_CENTERS, compute_offsets_at_centers
from samkr_edge.builder.cpu.folded_weights import fold_weights
from samkr_edge.builder.cpu.hoisted_quantizers import hoist_quantizers
from samkr_edge.builder.cpu.idle_quantizers import drop_idle_quantizers
from samkr_edge.builder.cpu.image_bytes import take_image_bytes
from samkr_edge.builder.cpu.interleaved_bytes import interleave_bytes
from samkr_edge.builder.cpu.matrix_products import multiply_to_float
from samkr_edge.builder.cpu.merged_quantizers import merge_quantizers
from samkr_edge.builder.cpu.quantized_sums import quantize_intermediate_sums
from samkr_edge.builder.cpu.thin_convolutions import transpose_thin_convolutions
from samkr_edge.builder.cpu.unsigned_activations import make_unsigned
from samkr_edge.builder.enlarge import enlarge_sums
from samkr_edge.onnx_graph.bias_range import fit_biases
from samkr_edge.onnx_graph.graph import Graph


class Pass(NamedTuple):
    """One pass of the build: its field in the passport, the words for its count, and its function."""

    field: str
    words: str
    run: Callable[[Graph], int]


# In a float model only the samplings and the thin convolutions change: the other passes find no quantizers.
PASSES = (
    Pass("dropped_quantizers", "idle quantizers dropped", drop_idle_quantizers),
    Pass("merged_quantizers", "quantizers merged", merge_quantizers),
    # Before the samplings that are left become DeformConv.
    Pass(AT_CENTERS, "adaptive blocks at centres alone", compute_offsets_at_centers),
    Pass("deform_convolutions", "samplings as DeformConv", deform.use_deform_conv),
    # After the offset heads' branches, whose thin convolutions are grouped until they are split.
    Pass("thin_convolutions", "thin convolutions transposed", transpose_thin_convolutions),
    Pass("enlarged_sums", "sums over resolutions enlarged late", enlarge_sums),
    # These two add scales, so they come before `make_unsigned`, which changes all scales in the same way.
    Pass("quantized_sums", "partial sums in INT8", quantize_intermediate_sums),
    Pass("hoisted_quantizers", "resizes and concats in INT8", hoist_quantizers),
    Pass("unsigned_activations", "activations unsigned", make_unsigned),
    # It puts quantizers at their ReLUs, which the next pass looks for.
    Pass("interleaved_bytes", "8-bit channels made pixels", interleave_bytes),
    # Only a zero point of 0 replaces a ReLU.
    Pass("absorbed_relus", "ReLUs absorbed", absorb_relus),
    Pass("image_bytes", "normalisations in the first convolution", take_image_bytes),
    # The scales on both sides of a resize are only comparable when they are final.
    Pass("byte_enlargements", "8-bit maps enlarged by look-up", enlarge_bytes),
    # Bias steps follow from the final activation scales, and weights are rounded with the widened scales.
    Pass("widened_channels", "weight scales widened for their biases", fit_biases),
    Pass("folded_weights", "weights stored as INT8", fold_weights),
    Pass("float_products", "INT8 convolutions with float results", multiply_to_float),
)


def retarget(model: Any, leave_out: str = "") -> tuple[Any, dict[str, int]]:
    """Run all ``PASSES`` in order, but for the one of that field; returns the changed model and the rewrites by field.

    The model passes ``onnx.checker``.
    """
    graph = Graph(deform.raise_opset(model))
    done = {one.field: one.run(graph) for one in PASSES if one.field != leave_out}
    changed = graph.write()
    graph.onnx.checker.check_model(changed)
    return changed, done
