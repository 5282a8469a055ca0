"""Stage 8: an engine gives the same results in every thread and with a CUDA graph, and leaks no memory."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks.measure.peak_memory import resident_mb
from benchmarks.selftest.carried import TRAINED
from benchmarks.selftest.machine import served_flavours
from benchmarks.selftest.network_engines import Wanted, built_engine
from benchmarks.selftest.stage import Check, Rig, not_run, refused
from samkr_edge.errors import SamkrError, reason_of
from samkr_edge.machine.tensorrt_module import TITLES
from samkr_edge.runtime.cuda import open_cuda
from samkr_edge.runtime.tensorrt import TensorRTRunner

THREADS, RUNS = 4, 1000
OPENINGS = 200
MOST_GROWTH_MB, ROUNDS = 1.0, 3
# A Jetson shares its memory with all other processes: short peaks are not counted.
READINGS, BETWEEN_S = 20, 0.1
Images = list[np.ndarray]


def checks(rig: Rig, runs: int = RUNS, openings: int = OPENINGS) -> Iterator[Check]:
    """With the FP16 engine of the small network: the answer does not depend on its size."""
    for flavour in served_flavours():
        title = TITLES[flavour]
        try:
            engine = built_engine(rig, Wanted(flavour, TRAINED, "fp16"))
            with closing(TensorRTRunner(engine)) as runner:
                images = _noise(runner)
                expected = [runner.run(image) for image in images]
                yield _threads(title, runner, images, expected, runs)
            yield _closed_in_either_order(title, engine, images[0], expected[0])
            yield _graph(title, engine, images, expected)
            yield from _opened_and_closed(title, engine, images[0], openings)
        except SamkrError as error:
            yield refused(f"{title}: runtime", error)


def _noise(runner: TensorRTRunner) -> Images:
    """One image for each thread, uint8 (1, H, W, 3)."""
    return [
        np.random.default_rng(seed).integers(0, 256, (1, *runner.card.input_size, 3), np.uint8)
        for seed in range(THREADS)
    ]


def _equal(expected: tuple[np.ndarray, ...], found: tuple[np.ndarray, ...]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


def _threads(
    title: str, runner: TensorRTRunner, images: Images, expected: list[tuple[np.ndarray, ...]], runs: int
) -> Check:
    different = [0] * THREADS
    raised: list[str] = []

    def work(index: int) -> None:
        try:
            for _ in range(runs):
                different[index] += not _equal(expected[index], runner.run(images[index]))
        except Exception as error:  # told in the check
            raised.append(reason_of(error))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = f"{sum(different)} of {THREADS * runs} results differ"
    return Check(
        f"{title}: {THREADS} threads x {runs} runs",
        "; ".join([found, *raised[:1]]),
        "identical",
        not any(different) and not raised,
        {"runs": THREADS * runs, "different": sum(different), "raised": raised},
    )


def _closed_in_either_order(
    title: str, engine: Path, image: np.ndarray, expected: tuple[np.ndarray, ...]
) -> Check:
    """Checks that the process survives: TensorRT ends it if its objects are freed in the wrong order."""
    different = 0
    for first_goes in (True, False):
        runners = [TensorRTRunner(engine), TensorRTRunner(engine)]
        if not first_goes:
            runners.reverse()
        gone, left = runners
        gone.close()
        different += not _equal(expected, left.run(image))
        left.close()
    # An engine that is dropped without being closed, next to one in use.
    forgotten, left = TensorRTRunner(engine), TensorRTRunner(engine)
    del forgotten
    gc.collect()
    different += not _equal(expected, left.run(image))
    left.close()
    del left, gone, runners
    gc.collect()
    return Check(
        f"{title}: two engines closed in either order, and one forgotten",
        f"{different} of 3 results differ" if different else "equal, no crash",
        "equal, no crash",
        not different,
        {"different": different},
    )


def _graph(title: str, engine: Path, images: Images, expected: list[tuple[np.ndarray, ...]]) -> Check:
    what = f"{title}: with a CUDA graph"
    with closing(TensorRTRunner(engine, cuda_graph=True)) as runner:
        if runner.graph_note:
            return not_run(what, f"it cannot be captured: {runner.graph_note}")
        # More than once: a graph must read and write the buffers that the next image is copied to.
        found = [runner.run(image) for _ in range(2) for image in images]
    different = sum(not _equal(a, b) for a, b in zip(expected * 2, found, strict=True))
    return Check(
        what,
        f"{different} of {len(found)} results differ" if different else "equal",
        "equal",
        not different,
        {"different": different, "runs": len(found)},
    )


def _opened_and_closed(title: str, engine: Path, image: np.ndarray, times: int) -> Iterator[Check]:
    """Growth over the second half: in the first, allocators and the driver take memory that they keep.

    GPU memory is shared with other processes, on a Jetson with the whole machine: what they take meanwhile looks like a
    leak. A real leak repeats, so growth is measured up to ``ROUNDS`` times.
    """

    def open_and_close() -> None:
        with closing(TensorRTRunner(engine)) as runner:
            runner.run(image)

    with closing(open_cuda()) as cuda:

        def used_mb() -> float:
            with cuda.bound():
                free, total = cuda.memory()
            return (total - free) / 1e6

        measures: dict[str, Callable[[], float]] = {"GPU": used_mb, "process": resident_mb}
        for _ in range(times - times // 2):
            open_and_close()
        gc.collect()
        growth = dict.fromkeys(measures, float("inf"))
        for _ in range(ROUNDS):
            before = {name: measure() for name, measure in measures.items()}
            for _ in range(times // 2):
                open_and_close()
            gc.collect()
            found = {name: _growth(measure, before[name]) for name, measure in measures.items()}
            growth = {name: min(growth[name], found[name]) for name in measures}
            if all(megabytes < MOST_GROWTH_MB for megabytes in growth.values()):
                break
    for name, megabytes in growth.items():
        yield Check(
            f"{title}: {times} x open and close, memory of the {name}",
            f"{megabytes:+.2f} MB in the last {times // 2}",
            f"less than {MOST_GROWTH_MB:g} MB more",
            megabytes < MOST_GROWTH_MB,
            {"growth_mb": megabytes, "openings": times},
        )


def _growth(measure: Callable[[], float], before: float) -> float:
    """Megabytes more than ``before``: the least of some readings."""
    least = measure() - before
    for _ in range(READINGS):
        if least < MOST_GROWTH_MB:
            break
        time.sleep(BETWEEN_S)
        least = min(least, measure() - before)
    return least
