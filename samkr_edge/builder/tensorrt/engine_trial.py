"""Run a built engine on this machine's GPU: does it compute what its graph does, and how fast?"""

from __future__ import annotations

import statistics
from pathlib import Path

from samkr_edge.builder.check.agreement import Agreement, judge
from samkr_edge.builder.check.candidates import judge_candidates
from samkr_edge.builder.check.maps import Maps
from samkr_edge.builder.check.reference import reference_of
from samkr_edge.builder.tensorrt.edits import prepare
from samkr_edge.builder.tensorrt.plan import BuildPlan
from samkr_edge.model_card import ModelCard
from samkr_edge.onnx_graph.onnx_file import OnnxFile
from samkr_edge.onnx_graph.onnx_reading import decode_onnx
from samkr_edge.runtime.tensorrt import TensorRTRunner

# Inferences of each candidate of `best`: warm-up, then short alternating rounds, so that clock changes affect both.
WARM_UP, ROUNDS, PER_ROUND = 50, 20, 10


def compare_speed(engines: list[Path]) -> list[float]:
    """Median GPU milliseconds of each engine, measured in turn."""
    runners = [TensorRTRunner(path) for path in engines]
    try:
        times: list[list[float]] = [[] for _ in runners]
        for runner in runners:
            runner.gpu_milliseconds(WARM_UP)
        for _ in range(ROUNDS):
            for runner, found in zip(runners, times, strict=True):
                found += runner.gpu_milliseconds(PER_ROUND)
    finally:
        for runner in runners:
            runner.close()
    return [statistics.median(found) for found in times]


def agree(graph: OnnxFile, plan: BuildPlan, built: Path, card: ModelCard) -> Agreement:
    """Compare the engine with its graph in ONNX Runtime, on the probe images that the graph carries.

    The graph is the one that TensorRT got, with or without its quantizers, so that only TensorRT's part is judged; for
    ONNX Runtime its input stays the image bytes, and its float part FP32.
    """
    prepared = prepare(graph, set(plan.steps) - {"cast_first", "float_input", "bake_fp16"})
    reference, images = reference_of(decode_onnx(prepared), card)
    runner = TensorRTRunner(built)
    try:
        found = runner.run(images)
    finally:
        runner.close()
    if card.decode_in == "graph":
        return judge_candidates(reference, found, card, plan.precision)
    return judge(reference, Maps(*found), card, plan.precision)
