"""Stage 1: every way to the driver allocates, copies, times, captures, serves two threads and reports full memory.

The driver itself must work. cuda-python and pycuda are for processes that already use them: one that does not fit this
driver is reported and is no failure, as long as it gives a samkr-edge error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from benchmarks.selftest.stage import Check, Rig, not_run
from samkr_edge.errors import SamkrError
from samkr_edge.runtime.cuda import BACKENDS, DRIVER, Cuda, open_cuda

MIB = 1 << 20
# Bytes that are copied, and bytes allocated repeatedly: enough to show in the free memory.
COPIED, TAKEN = 4 * MIB, 64 * MIB
# More than any GPU has.
TOO_MUCH = 1 << 42
# A Jetson shares its memory with all other processes.
RETURNED_WITHIN, TRIES = 1 * MIB, 20
ROUNDS = 50


def checks(rig: Rig) -> Iterator[Check]:
    for name in BACKENDS:
        try:
            cuda = open_cuda(name)
        except SamkrError as error:
            if name == DRIVER:
                raise
            yield not_run(name, error.sentence())
            continue
        try:
            yield from _checks_of(name, cuda)
        except SamkrError as error:
            if name == DRIVER:
                raise
            yield not_run(f"{name}: the rest", error.sentence())
        finally:
            with suppress(SamkrError):
                cuda.close()


def _checks_of(name: str, cuda: Cuda) -> Iterator[Check]:
    with cuda.bound():
        equal = _copies(cuda, seed=0)
        yield Check(f"{name}: copy", "bytes equal" if equal else "bytes differ", "bytes equal", equal)
        ms = _timed_copy(cuda)
        yield Check(
            f"{name}: events", f"{ms:.3f} ms for {TAKEN // MIB} MiB", "more than 0 ms", ms > 0, {"ms": ms}
        )
        yield _graph(name, cuda)
    wrong = _threads(cuda)
    yield Check(f"{name}: two threads", wrong or "bytes equal", "bytes equal", not wrong)
    with cuda.bound():
        yield _out_of_memory(name, cuda)
        lost = _lost(cuda)
        yield Check(
            f"{name}: memory back",
            f"{lost / MIB:.2f} MiB kept after {ROUNDS} times {TAKEN // MIB} MiB",
            "at most 1 MiB",
            lost <= RETURNED_WITHIN,
            {"kept_bytes": lost},
        )


def _copies(cuda: Cuda, seed: int) -> bool:
    """Whether bytes come back from the device unchanged."""
    stream, address = cuda.stream(), cuda.alloc(COPIED)
    there, back = cuda.pinned((COPIED,), np.uint8), cuda.pinned((COPIED,), np.uint8)
    try:
        there[...] = np.random.default_rng(seed).integers(0, 256, COPIED, np.uint8)
        cuda.to_device(address, there, stream)
        cuda.to_host(back, address, stream)
        cuda.synchronize(stream)
        return bool(np.array_equal(there, back))
    finally:
        cuda.free_pinned(there)
        cuda.free_pinned(back)
        cuda.free(address)
        cuda.free_stream(stream)


def _timed_copy(cuda: Cuda) -> float:
    """Milliseconds of a copy to the device, by events."""
    stream, address = cuda.stream(), cuda.alloc(TAKEN)
    host = cuda.pinned((TAKEN,), np.uint8)
    start, end = cuda.event(), cuda.event()
    try:
        cuda.record(start, stream)
        cuda.to_device(address, host, stream)
        cuda.record(end, stream)
        cuda.synchronize(stream)
        return cuda.elapsed_ms(start, end)
    finally:
        cuda.free_event(start)
        cuda.free_event(end)
        cuda.free_pinned(host)
        cuda.free(address)
        cuda.free_stream(stream)


def _graph(name: str, cuda: Cuda) -> Check:
    """Capture a copy to the device and back once, and launch it on other bytes."""
    what = f"{name}: graph"
    stream, address = cuda.stream(), cuda.alloc(COPIED)
    there, back = cuda.pinned((COPIED,), np.uint8), cuda.pinned((COPIED,), np.uint8)
    try:
        try:
            cuda.begin_capture(stream)
        except SamkrError as error:  # pycuda has none
            if name == DRIVER:
                raise
            return not_run(what, error.message)
        cuda.to_device(address, there, stream)
        cuda.to_host(back, address, stream)
        graph = cuda.end_capture(stream)
        untouched = not back.any()
        there[...] = 7
        cuda.launch(graph, stream)
        cuda.synchronize(stream)
        cuda.free_graph(graph)
        done = bool((back == 7).all())
        found = (
            "done at its launch" if done and untouched else "not done" if untouched else "done while captured"
        )
        return Check(what, found, "done at its launch", done and untouched)
    finally:
        cuda.free_pinned(there)
        cuda.free_pinned(back)
        cuda.free(address)
        cuda.free_stream(stream)


def _threads(cuda: Cuda) -> str:
    """What went wrong in two threads that copy at the same time; empty if nothing did."""
    wrong: list[str] = []

    def work(seed: int) -> None:
        try:
            for number in range(ROUNDS // 10):
                with cuda.bound():
                    if not _copies(cuda, seed + number):
                        wrong.append("bytes differ")
        except SamkrError as error:
            wrong.append(error.sentence())

    threads = [threading.Thread(target=work, args=(1000 * seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong[0] if wrong else ""


def _out_of_memory(name: str, cuda: Cuda) -> Check:
    what, limit = f"{name}: out of memory", "SE-V90, the GPU is out of memory"
    try:
        address = cuda.alloc(TOO_MUCH)
    except SamkrError as error:
        found = f"{error.code}, {error.message}"
        return Check(what, found, limit, found == limit)
    cuda.free(address)
    return Check(what, f"{TOO_MUCH >> 40} TiB were allocated", limit, False)


def _lost(cuda: Cuda) -> int:
    """Bytes of free memory that are missing after everything was freed."""
    cuda.free(cuda.alloc(TAKEN))  # the driver's one-time allocations
    before, _ = cuda.memory()
    for _ in range(ROUNDS):
        cuda.free(cuda.alloc(TAKEN))
    lost = before - cuda.memory()[0]
    for _ in range(TRIES):
        if lost <= RETURNED_WITHIN:
            break
        time.sleep(0.1)  # another process may have taken it
        lost = min(lost, before - cuda.memory()[0])
    return max(lost, 0)
