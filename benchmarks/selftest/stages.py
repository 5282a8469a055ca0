"""The stages in their order: each stands on those before it, so the first that fails ends the self-test."""

from __future__ import annotations

from benchmarks.selftest.stage import Stage

STAGES = (
    Stage(0, "driver and TensorRT", "benchmarks.selftest.environment:checks", ("gpu", "tensorrt"), 0.5),
    Stage(1, "CUDA backends", "benchmarks.selftest.cuda_backends:checks", ("gpu",), 0.5),
    Stage(2, "sampling", "benchmarks.selftest.sampling:checks", ("gpu", "tensorrt"), 2),
    Stage(3, "other operators", "benchmarks.selftest.operators:checks", ("gpu", "tensorrt"), 3),
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
