"""Peak memory of a model that runs on a GPU: a card's own, and a Jetson's, which is the host's too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measure.gpu_memory import open_gpu_memory
from benchmarks.measure.peak_memory import measure_memory, peak_memory
from benchmarks.report.table import conditions, extras
from benchmarks.schema import MemoryMb, ModelResult
from targets.device import Device

IMAGE = np.zeros((8, 8, 3), np.uint8)
CARD, ORIN = Device(gpu="NVIDIA GeForce RTX 4090"), Device(gpu="Orin", kernel="5.15.148-tegra")
MB = 1 << 20


class FakeCuda:
    """A context on a card with 24 GB."""

    def __init__(self) -> None:
        self.free, self.is_bound, self.is_open = 20 << 30, False, True

    @contextmanager
    def bound(self) -> Iterator[None]:
        self.is_bound = True
        yield
        self.is_bound = False

    def memory(self) -> tuple[int, int]:
        assert self.is_bound
        assert self.is_open
        return self.free, 24 << 30

    def close(self) -> None:
        self.is_open = False


def model(taking: Callable[[int], None]) -> Callable[[], Callable[[np.ndarray], None]]:
    """Opens with 300 MB of GPU memory; its second frame takes 100 MB more and gives it back with the third."""

    def opened() -> Callable[[np.ndarray], None]:
        taking(300)
        changes = iter((0, 100, -100))
        return lambda image: taking(next(changes))

    return opened


def test_a_cards_memory_is_what_was_free_before_opening_less_the_least_that_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = FakeCuda()
    monkeypatch.setattr("samkr_edge.runtime.cuda.open_cuda", lambda: cuda)

    def take(megabytes: int) -> None:
        cuda.free -= megabytes * MB

    found = peak_memory(model(take), IMAGE, lambda: open_gpu_memory(CARD))
    assert (found.gpu, found.gpu_source, found.shared) == (400.0, "cuMemGetInfo", False)
    assert found.peak >= found.before_opening > 0
    assert not cuda.is_open


def kernels_lists(root: Path, status: dict[str, int], **meminfo: int) -> None:
    for name, lines in (("meminfo", meminfo), ("self/status", status)):
        path = root / "proc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{key}:  {value * 1024} kB\n" for key, value in lines.items()))


def test_a_jetsons_gpu_memory_is_what_nvidias_allocator_has_handed_out(tmp_path: Path) -> None:
    used = 700

    def take(megabytes: int) -> None:
        nonlocal used
        used += megabytes
        # The host's own pages and the cache of files take as much: they are not the GPU's.
        kernels_lists(tmp_path, {}, MemAvailable=8000 - 2 * used, MemFree=5000 - 3 * used, NvMapMemUsed=used)

    take(0)
    found = peak_memory(model(take), IMAGE, lambda: open_gpu_memory(ORIN, tmp_path))
    assert (found.gpu, found.gpu_source, found.shared) == (400.0, "NvMapMemUsed", True)


def test_without_that_figure_it_is_what_is_not_available_and_not_the_processs_own(tmp_path: Path) -> None:
    taken, own = 0, 0

    def take(megabytes: int) -> None:
        nonlocal taken, own
        taken, own = taken + megabytes, own + 50  # the host's part grows too, and is not counted twice
        kernels_lists(
            tmp_path, {"RssAnon": own - 10, "RssFile": 4000, "RssShmem": 10}, MemAvailable=60000 - taken - own
        )

    take(0)
    found = peak_memory(model(take), IMAGE, lambda: open_gpu_memory(ORIN, tmp_path))
    assert (found.gpu, found.gpu_source, found.shared) == (400.0, "MemAvailable", True)


def test_a_gpu_that_frees_memory_meanwhile_takes_none(tmp_path: Path) -> None:
    free = iter((500, 400, 300, 200, 100))

    def take(_: int) -> None:
        kernels_lists(tmp_path, {}, NvMapMemUsed=next(free))

    take(0)
    assert peak_memory(model(take), IMAGE, lambda: open_gpu_memory(ORIN, tmp_path)).gpu == 0.0


def test_a_model_on_the_cpu_opens_no_gpu(pair: tuple[Path, Path]) -> None:
    found = measure_memory(pair[0], 1)
    assert (found.gpu, found.gpu_source, found.shared) == (None, None, False)
    assert found.peak > found.before_opening


@pytest.mark.parametrize(
    ("gpu", "shared", "heading", "cells"),
    [
        (None, False, "peak MB", ["412", "412"]),
        (180.4, True, "peak MB", ["412", "592"]),
        (180.4, False, "peak host+GPU MB", ["412", "412+180"]),
    ],
)
def test_the_table_adds_up_one_memory_and_shows_two(
    gpu: float | None,
    shared: bool,
    heading: str,
    cells: list[str],
    three_models: list[ModelResult],
    run_of: Callable[..., object],
) -> None:
    on_host = MemoryMb(peak=412, before_opening=61)
    source = None if gpu is None else "the GPU's books"
    on_gpu = MemoryMb(peak=412, before_opening=61, gpu=gpu, gpu_source=source, shared=shared)
    rows = [
        row.model_copy(update={"memory_mb": memory})
        for row, memory in zip(three_models, (on_host, on_gpu), strict=False)
    ]
    results = run_of(rows)
    (column,) = (column for column in extras(results) if column.heading.startswith("peak"))
    assert (column.heading, [column.cell(row) for row in rows]) == (heading, cells)
    assert ("other programs count too" in conditions(results)) == (gpu is not None)
