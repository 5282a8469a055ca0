"""Stage 5: what the engines consist of, by TensorRT's list of layers and its profiler."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from benchmarks.selftest.carried import TRAINED
from benchmarks.selftest.machine import served_flavours
from benchmarks.selftest.network_engines import Wanted, built_engine, plans_for, source_of
from benchmarks.selftest.stage import Check, Rig, not_run, refused
from samkr_edge.builder.inspect import myelin
from samkr_edge.builder.inspect.engine import EngineReport, inspect_layers
from samkr_edge.builder.inspect.engine_layers import Layer, profile_records, sum_op
from samkr_edge.builder.inspect.module_names import module_of
from samkr_edge.builder.tensorrt.edits import prepare
from samkr_edge.builder.tensorrt.engine_promises import BrokenPromise, Promises, broken_promises, promises_of
from samkr_edge.errors import SamkrError
from samkr_edge.machine.tensorrt_module import Flavour
from samkr_edge.onnx_graph.onnx_file import OnnxFile
from samkr_edge.onnx_graph.onnx_reading import decode_onnx, read_onnx
from samkr_edge.passport import read_passport
from samkr_edge.runtime.tensorrt import TensorRTRunner

# Share of the quantized convolutions whose layers are INT8.
LEAST_INT8 = 0.95
# Share of the time in unlisted layers.
MOST_UNLISTED = 0.05
PROFILED_RUNS = 20


def inspected(flavour: Flavour) -> tuple[Wanted, ...]:
    """The engines to inspect."""
    tiny = Wanted(flavour, TRAINED, "int8")
    return (tiny, replace(tiny, precision="fp16"), Wanted(flavour, "samkr_w32", "fp16"))


def checks(rig: Rig, only: Sequence[str] | None = None) -> Iterator[Check]:
    """Checks of every engine, or of those named in ``only``."""
    for flavour in served_flavours():
        for wanted in inspected(flavour):
            if only is None or str(wanted) in only:
                yield from _engine(rig, wanted)


def _engine(rig: Rig, wanted: Wanted) -> Iterator[Check]:
    try:
        plans_for(source_of(rig, wanted), wanted.flavour, wanted.precision)
    except SamkrError as error:
        yield not_run(f"{wanted}", f"not available here: {error.message} ({error.code})")
        return
    try:
        engine = built_engine(rig, wanted)
        with closing(TensorRTRunner(engine)) as runner:
            listed, runs = runner.layers(), runner.layer_milliseconds(PROFILED_RUNS)
        report = inspect_layers(listed, json.dumps(profile_records(runs, runner.passport.sha256)))
    except SamkrError as error:
        yield refused(f"{wanted}", error)
        return
    steps = read_passport(engine).settings["steps"]
    graph = decode_onnx(prepare(read_onnx(source_of(rig, wanted)), steps))
    promises = promises_of(graph)
    broken = broken_promises(report.layers, promises)
    yield _full_precision(wanted, promises, [one for one in broken if one.promised == "FP32"])
    if promises.int8:
        yield _int8(wanted, promises, [one for one in broken if one.promised == "INT8"])
        # The graph compiler, which builds everything in TensorRT for RTX, puts sums into separate kernels.
        if wanted.flavour == "tensorrt":
            yield _fused_sums(wanted, graph, promises, report.layers)
    yield _profile(wanted, report)


def _full_precision(wanted: Wanted, promises: Promises, broken: Sequence[BrokenPromise]) -> Check:
    """Unlisted nodes are unknown, which alone is no failure."""
    what, limit = f"{wanted}, softmax, grid, sampling and last convolutions FP32", "all that are named"
    kinds = (promises.softmaxes, promises.grids, promises.samplings, promises.fp32)
    promised = sum(len(nodes) for nodes in kinds)
    wrong = [one for one in broken if one.found]
    unnamed = [one.node for one in broken if not one.found]
    figures = {"promised": promised, "wrong": [str(one) for one in wrong], "unnamed": unnamed}
    if wrong:
        return Check(what, f"{len(wrong)} of {promised} not: {wrong[0]}", limit, False, figures)
    if len(unnamed) == promised:
        return Check(what, f"the list of layers names none of {promised}", limit, None, figures)
    told = f"; {len(unnamed)} not named" if unnamed else ""
    return Check(what, f"{promised - len(unnamed)} of {promised}{told}", limit, True, figures)


def _int8(wanted: Wanted, promises: Promises, broken: Sequence[BrokenPromise]) -> Check:
    """Only of listed nodes: a block of the graph compiler hides its contents."""
    what, limit = f"{wanted}, quantized convolutions INT8", f"at least {LEAST_INT8:.0%}"
    wrong = [one for one in broken if one.found]
    total, unnamed = len(promises.int8), len(broken) - len(wrong)
    figures = {"promised": total, "unnamed": unnamed, "broken": [str(one) for one in broken]}
    if unnamed == total:
        return Check(what, f"the list of layers names none of {total}", limit, None, figures)
    share = 1 - len(wrong) / (total - unnamed)
    first = f"; the first that is not: {wrong[0]}" if wrong else ""
    told = f"; {unnamed} not named" if unnamed else ""
    return Check(
        what,
        f"{share:.0%} of {total - unnamed}{told}{first}",
        limit,
        share >= LEAST_INT8,
        {"share": share, **figures},
    )


def _fused_sums(wanted: Wanted, graph: OnnxFile, promises: Promises, layers: Sequence[Layer]) -> Check:
    """The sums of residual blocks are fused into the INT8 convolution that gives one addend."""
    convolutions = {node.outputs[0] for node in graph.nodes if node.name in set(promises.int8)}
    sums = [
        node.name
        for node in graph.nodes
        if node.op_type == "Add"
        and sum_op(module_of(node.name)) == "residual_add"
        and convolutions & set(node.inputs)
    ]
    fused = {node for layer in layers if layer.role == "conv" for node in layer.nodes}
    compiled = {node for layer in layers if _is_compiled(layer) for node in layer.nodes}
    hidden = [name for name in sums if name in compiled - fused]
    alone = [name for name in sums if name not in fused | compiled]
    what, figures = (
        f"{wanted}, residual sums fused into convolutions",
        {"sums": len(sums), "alone": alone, "compiled": len(hidden)},
    )
    if sums and len(hidden) == len(sums):
        return Check(what, f"the graph compiler has all {len(sums)}", "all others", None, figures)
    told = f"; {len(hidden)} in kernels of the graph compiler" if hidden else ""
    return Check(
        what,
        f"{len(sums) - len(alone) - len(hidden)} of {len(sums)}{told}{f'; not {alone[0]}' if alone else ''}",
        "all others" if hidden else "all",
        bool(sums) and not alone,
        figures,
    )


def _is_compiled(layer: Layer) -> bool:
    """Whether TensorRT's graph compiler made it, as it makes all of a network for some GPUs."""
    return layer.name.startswith("__myl_") or myelin.is_block(layer.name, layer.kind)


def _profile(wanted: Wanted, report: EngineReport) -> Check:
    listed = sum(layer.ms or 0.0 for layer in report.layers)
    total = listed + report.unlisted_ms
    share = report.unlisted_ms / total if total else 1.0
    return Check(
        f"{wanted}, names of the profile in the list of layers",
        f"{share:.1%} of {total:.2f} ms is in layers that it does not list",
        f"less than {MOST_UNLISTED:.0%}",
        share < MOST_UNLISTED,
        {"unlisted_share": share, "ms": total},
    )
