"""A plan's edits of an exported graph, in order, and the resulting bytes that TensorRT parses.

The docstring of each gives the rewrite, why TensorRT needs it or is faster with it, and whether it is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from itertools import groupby
from typing import NamedTuple

from samkr_edge.builder.enlarge import enlarge_sums
from samkr_edge.builder.tensorrt import half
from samkr_edge.builder.tensorrt.fused_int8 import fuse_int8
from samkr_edge.builder.tensorrt.image_input import cast_first, float_input
from samkr_edge.errors import SamkrError
from samkr_edge.onnx_graph.float_biases import float_biases
from samkr_edge.onnx_graph.graph import Graph
from samkr_edge.onnx_graph.onnx_file import OnnxFile
from samkr_edge.onnx_graph.onnx_package import load_checked
from samkr_edge.onnx_graph.quantizers import (
    drop_branch_quantizers,
    drop_odd_groups,
    quantized_convolutions,
    strip_quantizers,
)


class Step(NamedTuple):
    """One step, by its name in plans; a pass, which returns how many rewrites it made.

    ``on_file`` edits the serialized ONNX, so that a device needs no onnx package for it; ``on_graph`` needs the
    package, and ``opset`` is the oldest that it works on.
    """

    name: str
    on_file: Callable[[OnnxFile], int] | None = None
    on_graph: Callable[[Graph], int] | None = None
    opset: int = 0


STEPS = (
    Step("drop_branch_quantizers", on_file=drop_branch_quantizers),
    Step("strip_quantizers", on_file=strip_quantizers),
    Step("drop_odd_groups", on_file=drop_odd_groups),
    Step("cast_first", on_file=cast_first),
    Step("float_input", on_file=float_input),
    Step("enlarge_sums", on_graph=enlarge_sums),
    Step("fuse_int8", on_graph=fuse_int8),
    # Last, because all others recognise floats by FP32.
    Step("bake_fp16", on_graph=half.bake_fp16, opset=half.OPSET),
)


def edit(model: OnnxFile, steps: Collection[str]) -> None:
    """Do the steps of a plan that need no onnx package; biases become floats in any case."""
    float_biases(model)
    for step in STEPS:
        if step.on_file is not None and step.name in steps:
            step.on_file(model)


def prepare(model: OnnxFile, steps: Collection[str]) -> bytes:
    """Do a plan's steps and return the bytes that TensorRT parses. The model is not changed.

    ``wide_sampling`` is not an edit: it makes ``bake_fp16``, or without it the builder, keep more in FP32.

    Raises:
        SamkrError: SE-B82 ``fuse_int8`` would leave no INT8, SE-B04 the onnx package is missing, SE-B84 the ONNX is not
            valid; and those of ``samkr_edge.builder.tensorrt.half.bake_fp16``.
    """
    model = model.copy()
    edit(model, steps)
    wanted = [step for step in STEPS if step.on_graph is not None and step.name in steps]
    if not wanted:
        return model.encode()
    loaded = load_checked(model.encode())
    for opset, same in groupby(wanted, key=lambda step: step.opset):
        graph = Graph(half.raise_opset(loaded, opset))
        for step in same:
            run = step.on_graph
            if run is half.bake_fp16 and "wide_sampling" in steps:
                run = partial(half.bake_fp16, wide_sampling=True)
            made = run(graph) if run is not None else 0
            if run is fuse_int8:
                _require_int8(model, kept=made)
        loaded = graph.write()
    graph.onnx.checker.check_model(loaded, full_check=True)
    return bytes(loaded.SerializeToString())


def _require_int8(model: OnnxFile, kept: int) -> None:
    convolutions = sum(node.op_type == "Conv" for node in model.nodes)
    quantized = len(quantized_convolutions(model))
    if quantized and not kept:
        raise SamkrError(
            "SE-B82",
            "no convolution of this graph can be INT8 without an extra kernel, so no INT8 engine was built",
            {"quantized": f"{quantized} of {convolutions} convolutions", "kept": "0"},
            fix="--precision fp16   # or quantize more of the network: samkr-edge quantize --policy rtx",
        )
