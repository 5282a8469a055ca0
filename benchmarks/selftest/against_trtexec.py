"""Stage 10: our GPU time of an engine agrees with that of NVIDIA's trtexec."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from benchmarks.selftest.carried import TRAINED
from benchmarks.selftest.machine import served_flavours
from benchmarks.selftest.network_engines import Wanted, built_engine
from benchmarks.selftest.stage import Check, Rig, not_run
from benchmarks.selftest.trtexec import INSTALLED, find_trtexec, measure, release
from samkr_edge.machine.tensorrt_module import import_tensorrt
from targets.profile import version_tuple

WHAT = "GPU time against trtexec"
LIMIT = 0.05
# A clock change of this size between our two measurements could hide or cause a difference from trtexec's.
STEADY = 0.02
ATTEMPTS = 3
WARM_UP_S, SECONDS = 2.0, 5.0
_AT_A_TIME = 20


def checks(rig: Rig) -> Iterator[Check]:
    """Use the largest FP16 engine left by an earlier stage, else samkr_tiny's."""
    program = find_trtexec()
    if program is None:
        yield not_run(WHAT, f"there is no trtexec in PATH or at {INSTALLED}")
    elif "tensorrt" not in served_flavours():
        yield not_run(WHAT, "trtexec runs TensorRT engines, and only TensorRT for RTX is installed here")
    elif other := _of_another_version(program):
        yield not_run(WHAT, other)
    else:
        yield compare(_engine(rig), program)


def _of_another_version(program: Path) -> str:
    """Why trtexec cannot load the engine, which only the version that built it can; empty if versions match or are
    unknown.
    """
    theirs, ours = release(program), version_tuple(import_tensorrt().__version__)[:3]
    if not theirs or theirs == ours:
        return ""
    said, built_by = (".".join(map(str, numbers)) for numbers in (theirs, ours))
    return f"{program} is of TensorRT {said}, but engines here are built by {built_by}"


def compare(engine: Path, program: Path, *, warm_up_s: float = WARM_UP_S, seconds: float = SECONDS) -> Check:
    """Measure ours before and after trtexec's, both with a CUDA graph, or both without if one cannot."""
    graph = True
    for _ in range(ATTEMPTS):
        before, captured = _ours(engine, graph, warm_up_s, seconds)
        if not captured:
            graph = False
            before, _ = _ours(engine, graph, warm_up_s, seconds)
        theirs = measure(program, engine, graph=graph, warm_up_s=warm_up_s, seconds=seconds)
        if graph and not theirs.graph:
            graph = False
            continue
        after, _ = _ours(engine, graph, warm_up_s, seconds)
        if abs(after / before - 1) <= STEADY:
            break
    else:
        return not_run(
            WHAT,
            f"our own median moved from {before:.3f} to {after:.3f} ms: lock the clocks and repeat "
            "(sudo jetson_clocks, or sudo nvidia-smi -lgc 1500)",
        )
    ours = (before + after) / 2
    apart = ours / theirs.median_ms - 1
    return Check(
        WHAT,
        f"{ours:.3f} ms against {theirs.median_ms:.3f} ms of trtexec {theirs.major}: {apart:+.1%} "
        f"({engine.stem}, {'as a CUDA graph' if graph else 'without a CUDA graph'})",
        f"within {LIMIT:.0%}",
        abs(apart) <= LIMIT,
        {
            "gpu_ms_before": before,
            "gpu_ms_after": after,
            "trtexec_gpu_ms": theirs.median_ms,
            "trtexec_major": theirs.major,
            "cuda_graph": graph,
        },
    )


def _ours(engine: Path, graph: bool, warm_up_s: float, seconds: float) -> tuple[float, bool]:
    """(median GPU milliseconds, whether the requested graph could be captured)."""
    from samkr_edge.runtime.tensorrt import TensorRTRunner

    runner = TensorRTRunner(engine, cuda_graph=graph)
    try:
        if graph and runner.graph_note is not None:
            return 0.0, False
        _times(runner.gpu_milliseconds, warm_up_s)
        return median(_times(runner.gpu_milliseconds, seconds)), True
    finally:
        runner.close()


def _times(gpu_milliseconds: Callable[[int], list[float]], seconds: float) -> list[float]:
    found: list[float] = []
    end = time.monotonic() + seconds
    while not found or time.monotonic() < end:
        found += gpu_milliseconds(_AT_A_TIME)
    return found


def _engine(rig: Rig) -> Path:
    large, small = (Wanted("tensorrt", model, "fp16") for model in ("samkr_w32", TRAINED))
    return built_engine(rig, large if (rig.shared / "engines" / large.file).is_file() else small)
