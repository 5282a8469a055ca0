"""Stage 6: a timing cache makes a second build fast; a foreign or damaged one does no harm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.selftest.machine import served_flavours
from benchmarks.selftest.network_engines import network_file, plans_for
from benchmarks.selftest.stage import Check, Rig, not_run, refused
from samkr_edge.builder.tensorrt.engine_bytes import build_bytes
from samkr_edge.builder.tensorrt.plan import BuildPlan
from samkr_edge.errors import SamkrError
from samkr_edge.files.cache import cache_folder
from samkr_edge.runtime.tensorrt_caches import load_cache, store_cache

# Share of the first build's seconds.
SECOND_BUILD = 0.5
# A build that takes less without a cache times too few kernels for a meaningful ratio.
LEAST_SECONDS = 2.0


def checks(rig: Rig, model: str = "samkr_w32") -> Iterator[Check]:
    """With a network that takes long enough to build."""
    if "tensorrt" not in served_flavours():
        yield not_run(
            "timing cache", "TensorRT for RTX times no kernels, and TensorRT itself is not installed here"
        )
        return
    source = network_file(rig, model)
    (plan,) = plans_for(source, "tensorrt", "fp16")
    assert plan.timing_cache is not None
    file = cache_folder() / plan.timing_cache
    # Other stages keep their cache.
    kept = file.read_bytes() if file.is_file() else None
    file.unlink(missing_ok=True)
    try:
        yield from _with_cache(source, plan, file)
    finally:
        if kept is not None:
            file.write_bytes(kept)


def _with_cache(source: Path, plan: BuildPlan, file: Path) -> Iterator[Check]:
    try:
        first, cache = _seconds(source, plan), load_cache(file)
        second = _seconds(source, plan)
    except SamkrError as error:
        yield refused("two builds", error)
        return
    yield Check("cache kept", f"{len(cache)} bytes", "more than none", bool(cache), {"bytes": len(cache)})
    yield second_build(first, second)
    spoilt: dict[str, Callable[[], object]] = {
        # Intact by our checksum, but not written by TensorRT.
        "foreign cache": lambda: store_cache(file, bytes(range(256)) * 16),
        # Intact by our checksum, cut off for TensorRT.
        "cache that was cut before it was kept": lambda: store_cache(file, cache[: len(cache) // 2]),
        # As a full disk leaves it: not passed on to TensorRT.
        "cut cache": lambda: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    }
    for name, spoil in spoilt.items():
        spoil()
        try:
            seconds = _seconds(source, plan)
        except SamkrError as error:
            yield refused(f"{name} ignored", error)
            continue
        made = load_cache(file)
        yield Check(
            f"{name} ignored",
            f"built in {seconds:.1f} s, a cache of {len(made)} bytes kept",
            "builds, and keeps a cache",
            bool(made),
            {"seconds": seconds, "bytes": len(made)},
        )


def second_build(first: float, second: float) -> Check:
    """How the seconds of a build with the cache of the first are judged."""
    return Check(
        "second build",
        f"{second:.1f} s after {first:.1f} s, {second / first:.0%}",
        f"less than {SECOND_BUILD:.0%}, where the first takes {LEAST_SECONDS:g} s",
        second < SECOND_BUILD * first if first >= LEAST_SECONDS else None,
        {"first_s": first, "second_s": second},
    )


def _seconds(source: Path, plan: BuildPlan) -> float:
    """Wall time of the builder alone: the rest is the same each time."""
    begun = time.perf_counter()
    build_bytes(source, plan)
    return time.perf_counter() - begun
