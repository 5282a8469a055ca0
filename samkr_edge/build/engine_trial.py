"""A built engine on the GPU of this machine: does it compute what its graph does, and how fast?"""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np

from samkr_edge.build.agreement import Agreement, compare, noise_input
from samkr_edge.build.onnx_file import OnnxFile
from samkr_edge.build.plan import BuildPlan
from samkr_edge.build.tensorrt_graph import prepare
from samkr_edge.model_card import ModelCard
from samkr_edge.runtime.onnx_runtime import OnnxRunner
from samkr_edge.runtime.tensorrt import TensorRTRunner

# Inferences of each candidate of `best`: warm-up, then rounds of a few, in turn, so that a clock hits both alike.
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
    """Compare the engine's maps with those of its graph in ONNX Runtime.

    The graph is the one that TensorRT got, with or without its quantizers, so that only TensorRT's part is judged; its
    input stays the image bytes that ONNX Runtime is given, and its float part FP32.
    """
    steps = set(plan.steps) - {"cast_first", "float_input", "bake_fp16"}
    image = noise_input(card)
    # In a folder of its own: beside the engine it could be taken for a changed source.
    folder = built.parent / "graph"
    folder.mkdir()
    expected = _outputs(graph, steps, folder, image)
    unquantized = _outputs(graph, {*steps, "strip_quantizers"}, folder, image)
    runner = TensorRTRunner(built)
    try:
        found = list(runner.run(image))
    finally:
        runner.close()
    if card.decode_in == "graph":
        # Rounding changes the order of candidates; their scores, which fall, can be compared.
        expected, unquantized, found = ([outputs[1]] * 2 for outputs in (expected, unquantized, found))
    return compare(expected, found, unquantized)


def _outputs(graph: OnnxFile, steps: set[str], folder: Path, image: np.ndarray) -> list[np.ndarray]:
    """What ONNX Runtime computes for the graph after these steps of a plan."""
    prepared = folder / "graph.onnx"
    prepared.write_bytes(prepare(graph, steps))
    runner = OnnxRunner(prepared)
    try:
        return list(runner.run(image))
    finally:
        runner.close()
