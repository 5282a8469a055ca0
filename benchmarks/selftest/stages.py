"""The stages in their order: each builds on those before it, so the first that fails ends the self-test."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.selftest.stage import Stage
from samkr_edge.errors import SamkrError

STAGES = (
    Stage(0, "driver and TensorRT", "benchmarks.selftest.environment:checks", ("gpu", "tensorrt"), 0.5),
    Stage(1, "CUDA backends", "benchmarks.selftest.cuda_backends:checks", ("gpu",), 0.5),
    Stage(2, "sampling", "benchmarks.selftest.sampling:checks", ("gpu", "tensorrt", "onnx"), 2),
    Stage(3, "other operators", "benchmarks.selftest.operators:checks", ("gpu", "tensorrt", "onnx"), 3),
    Stage(4, "networks", "benchmarks.selftest.networks:checks", ("gpu", "tensorrt"), 15),
    Stage(5, "layers of the engines", "benchmarks.selftest.layers:checks", ("gpu", "tensorrt"), 4),
    Stage(6, "timing cache", "benchmarks.selftest.timing_cache:checks", ("gpu", "tensorrt"), 3),
    Stage(7, "errors", "benchmarks.selftest.errors:checks", ("gpu", "tensorrt"), 3),
    Stage(8, "runtime", "benchmarks.selftest.endurance:checks", ("gpu", "tensorrt"), 3),
    Stage(9, "choices of a build", "benchmarks.selftest.choices:checks", ("gpu", "tensorrt"), 6),
    Stage(10, "against trtexec", "benchmarks.selftest.against_trtexec:checks", ("gpu", "tensorrt"), 2),
    Stage(11, "Jetson", "benchmarks.selftest.jetson:checks", ("gpu", "tensorrt", "jetson"), 4),
    Stage(12, "torch on the GPU", "benchmarks.selftest.torch_on_gpu:checks", ("gpu", "torch"), 3),
)


def chosen_stages(wanted: Sequence[str]) -> tuple[Stage, ...]:
    """``["0-3", "5,7", "9 12"]`` -> those stages, in order; all of them for an empty list.

    Raises:
        SamkrError: SE-U53 there is no such stage.
    """
    if not wanted:
        return STAGES
    known = {stage.number for stage in STAGES}
    numbers: set[int] = set()
    for text in ",".join(wanted).replace(" ", ",").split(","):
        first, dash, last = text.partition("-")
        ends = (first, last if dash else first)
        # Check both ends before listing the range, which may have billions of numbers.
        there = all(end.isdecimal() and int(end) in known for end in ends)
        asked = set(range(int(ends[0]), int(ends[1]) + 1)) if there else set()
        if not asked or not asked <= known:
            raise SamkrError(
                "SE-U53",
                f"there is no stage {text!r}, so nothing was run",
                {"known": ", ".join(f"{stage.number} {stage.title}" for stage in STAGES)},
                fix="samkr-edge selftest --stage 0-3",
            )
        numbers |= asked
    return tuple(stage for stage in STAGES if stage.number in numbers)
