"""The work of an ONNX file, exported or built, in its own precision and as if it were not quantized."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from samkr_edge.onnx_graph.graph import Graph
from samkr_edge.roofline.bound import scaled
from samkr_edge.roofline.graph_work import GraphWork, work_of


def work_of_model(
    model: Any, precision: str, size: tuple[int, int] | None = None, batch: int | None = None
) -> tuple[dict[str, GraphWork], tuple[int, int, int]]:
    """(work by precision, (images, height, width)) of a ``ModelProto`` of ours for another size and batch, or its own.

    Args:
        precision: of its card; an ``int8`` or ``fp8`` graph has floats of 16 bits beside it.
    """
    graph = Graph(model)
    images, height, width = (
        one.dim_value or 1 for one in graph.graph.input[0].type.tensor_type.shape.dim[:3]
    )
    wanted = (batch or images, *(size or (height, width)))
    pixels = wanted[0] * wanted[1] * wanted[2] / (images * height * width)
    work = {floats: work_of(graph, floats, quantized=False) for floats in ("fp32", "fp16")}
    if precision in ("int8", "fp8"):
        work[precision] = work_of(graph, "fp16")
    return {
        form: replace(one, layers=scaled(one.layers, pixels), live=round(one.live * pixels))
        for form, one in work.items()
    }, wanted
