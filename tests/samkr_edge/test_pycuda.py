"""The pycuda backend over a pycuda.driver that is as strict as the real one about contexts.

pycuda keeps a stack of contexts for every thread, refuses to allocate with an empty one, frees only where the context
is current, and ends the process when a thread ends with a context on its stack.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fake_tensorrt import Driver, FakeTensorRT
from tensorrt_graphs import write_residual

from samkr_edge.build import tensorrt as builder
from samkr_edge.build.features import features_of
from samkr_edge.build.onnx_file import read_onnx
from samkr_edge.build.plan import plan_build
from samkr_edge.build.tensorrt_graph import facts_of
from samkr_edge.build.wishes import Wishes
from samkr_edge.errors import SamkrError
from samkr_edge.runtime.cuda import open_cuda
from samkr_edge.runtime.cuda_pycuda import PyCuda
from samkr_edge.runtime.tensorrt import TensorRTRunner
from targets.profile import load_target


class Error(Exception):
    pass


class OutOfMemory(Error):
    pass


class FakePyCuda(ModuleType):
    """``pycuda.driver`` over the fake driver's memory.

    Attributes:
        stacks: thread -> its contexts.
        live: what was made and not freed.
    """

    Error, MemoryError = Error, OutOfMemory

    def __init__(self, driver: Driver) -> None:
        super().__init__("pycuda.driver")
        self.driver = driver
        self.stacks: dict[int, list[Any]] = {}
        self.live: set[Any] = set()
        self.initialised = 0

    def stack(self) -> list[Any]:
        return self.stacks.setdefault(threading.get_ident(), [])

    def need_context(self) -> None:
        if not self.stack():
            raise Error(
                "explicit_context_dependent failed: invalid device context - no currently active context?"
            )

    def init(self, flags: int = 0) -> None:
        self.initialised += 1

    def Device(self, number: int) -> Any:
        assert (self.initialised, number) == (1, 0)
        return _Device(self)

    def mem_alloc(self, size: int) -> Any:
        self.need_context()
        if size > self.driver.free_bytes:
            raise OutOfMemory("cuMemAlloc failed: out of memory")
        return _Block(self, np.zeros(size, np.uint8))

    def pagelocked_zeros(self, shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
        self.need_context()
        return _Pinned.of(_Block(self, np.zeros(shape, dtype)))

    def Stream(self, flags: int = 0) -> Any:
        self.need_context()
        return _Stream(self, flags)

    def Event(self, flags: int = 0) -> Any:
        self.need_context()
        return _Event(self)

    def memcpy_htod_async(self, dest: int, src: np.ndarray, stream: Any = None) -> None:
        self.need_context()
        self.driver._copy(dest, src.ctypes.data, src.nbytes)

    def memcpy_dtoh_async(self, dest: np.ndarray, src: int, stream: Any = None) -> None:
        self.need_context()
        self.driver._copy(dest.ctypes.data, src, dest.nbytes)

    def mem_get_info(self) -> tuple[int, int]:
        self.need_context()
        return 5, 8


class _Device:
    def __init__(self, module: FakePyCuda) -> None:
        self.module = module

    def retain_primary_context(self) -> Any:
        return _Context(self.module)


class _Context:
    def __init__(self, module: FakePyCuda) -> None:
        self.module = module

    def push(self) -> None:
        self.module.stack().append(self)
        self.module.driver.current.context = 77  # the driver's own notion of it, which TensorRT goes by

    def pop(self) -> None:
        self.module.stack().pop()
        self.module.driver.current.context = 77 if self.module.stack() else 0


class _Block:
    def __init__(self, module: FakePyCuda, array: np.ndarray) -> None:
        self.module, self.array = module, array
        module.live.add(self)

    def __int__(self) -> int:
        return int(self.array.ctypes.data)

    def free(self) -> None:
        self.module.need_context()
        self.module.live.remove(self)


class _Pinned(np.ndarray):
    """pycuda's arrays have the allocation as their ``base``."""

    owner: Any

    @staticmethod
    def of(block: _Block) -> np.ndarray:
        array = block.array.view(_Pinned)
        array.owner = block
        return array

    @property
    def base(self) -> Any:
        return self.owner


class _Stream:
    handles = iter(range(1000, 10_000))

    def __init__(self, module: FakePyCuda, flags: int) -> None:
        assert flags == 1, "a blocking stream waits for whatever uses the legacy one"
        self.handle = next(self.handles)

    def synchronize(self) -> None:
        pass


class _Event:
    def __init__(self, module: FakePyCuda) -> None:
        self.module, self.ms = module, 0.0

    def record(self, stream: Any = None) -> Any:
        self.ms = self.module.driver.clock_ms
        return self

    def synchronize(self) -> Any:
        return self

    def time_till(self, event: Any) -> float:
        return float(event.ms - self.ms)


@pytest.fixture
def pycuda(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePyCuda]:
    fake, package = FakePyCuda(driver), ModuleType("pycuda")
    package.driver = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", fake)
    yield fake
    # pycuda would have ended the process.
    assert not any(fake.stacks.values())
    assert fake.live == set()


def engine(trt: FakeTensorRT, folder: Path) -> Path:
    source = write_residual(folder / "model.onnx", batch=2)
    plan = plan_build(load_target("rtx-4090"), features_of(trt), facts_of(read_onnx(source)), Wishes())
    return builder.build_tensorrt(source, folder / "model.engine", (plan,)).path


def images(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (3, 8, 8, 3), dtype=np.uint8)


def test_it_is_chosen_where_it_is_installed_and_cuda_python_is_not(pycuda: FakePyCuda) -> None:
    assert open_cuda().name == "pycuda"
    assert PyCuda.name == "pycuda"


def test_an_engine_runs_and_everything_is_given_back(
    install: Callable[[str], FakeTensorRT], driver: Driver, tmp_path: Path, pycuda: FakePyCuda
) -> None:
    path = engine(install("10.3.0"), tmp_path)
    expected = TensorRTRunner(path, backend="driver")
    for _ in range(2):  # opened again, the one context of the process is used again
        runner = TensorRTRunner(path, backend="pycuda")
        driver.copy_ms = 0.5
        for left, right in zip(runner.run(images()), expected.run(images()), strict=True):
            np.testing.assert_array_equal(left, right)
        assert runner.last_run_ms == pytest.approx((1.0, 2.0, 2.0))
        runner.close()
    assert pycuda.initialised == 1
    expected.close()


def test_threads_leave_no_context_behind(
    install: Callable[[str], FakeTensorRT], tmp_path: Path, pycuda: FakePyCuda
) -> None:
    runner = TensorRTRunner(engine(install("10.3.0"), tmp_path), backend="pycuda")
    expected = runner.run(images())[0]
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(runner.run(images())[0])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(expected, one) for one in found)
    assert len(found) == 3
    # Closed in another thread than it was opened in.
    closer = threading.Thread(target=runner.close)
    closer.start()
    closer.join()
    assert len(pycuda.stacks) > 1


def test_it_has_no_graphs_and_says_what_has(
    install: Callable[[str], FakeTensorRT], tmp_path: Path, pycuda: FakePyCuda
) -> None:
    runner = TensorRTRunner(engine(install("10.3.0"), tmp_path), backend="pycuda", cuda_graph=True)
    assert "cuda-python" in (runner.graph_note or "")
    assert runner.run(images())[0].shape == (3, 3, 8, 8)
    runner.close()


def test_its_errors_are_ours(driver: Driver, pycuda: FakePyCuda) -> None:
    cuda = open_cuda("pycuda")
    driver.free_bytes = 10
    with cuda.bound(), pytest.raises(SamkrError, match="memory is full") as raised:
        cuda.alloc(100)
    assert raised.value.code == "SE-V90"
    with pytest.raises(SamkrError, match="CUDA call failed"):
        cuda.alloc(1)  # no context
    with cuda.bound():
        assert cuda.memory() == (5, 8)
    cuda.close()
