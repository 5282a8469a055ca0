"""The pycuda backend over a pycuda.driver that is as strict as the real one about contexts.

pycuda keeps a stack of contexts for every thread, refuses to allocate with an empty one, frees only where the context
is current, and ends the process when a thread ends with a context on its stack.
"""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_cuda_packages import FakePyCuda
from fake_driver import Driver
from fake_tensorrt import FakeTensorRT
from tensorrt_graphs import write_residual

from samkr_edge.builder.tensorrt import build as builder
from samkr_edge.builder.tensorrt.features import features_of
from samkr_edge.builder.tensorrt.plan import plan_build
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.errors import SamkrError
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from samkr_edge.runtime.cuda import open_cuda
from samkr_edge.runtime.cuda_pycuda import PyCuda
from samkr_edge.runtime.tensorrt import TensorRTRunner
from targets.profile import load_target


def engine(trt: FakeTensorRT, folder: Path) -> Path:
    source = write_residual(folder / "model.onnx", batch=2)
    plan = plan_build(load_target("rtx-4090"), features_of(trt), facts_of(read_onnx(source)), Wishes())
    return builder.build_tensorrt(source, folder / "model.engine", (plan,)).path


def images(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (3, 8, 8, 3), dtype=np.uint8)


def test_it_is_used_where_it_is_named_only(pycuda: FakePyCuda) -> None:
    assert open_cuda().name == "driver"
    assert isinstance(open_cuda("pycuda"), PyCuda)


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
    assert "pycuda has no CUDA graphs, the backend 'driver' has them" in (runner.graph_note or "")
    assert runner.run(images())[0].shape == (3, 3, 8, 8)
    runner.close()


def test_its_errors_are_ours(driver: Driver, pycuda: FakePyCuda) -> None:
    cuda = open_cuda("pycuda")
    driver.free_bytes = 10
    with cuda.bound(), pytest.raises(SamkrError, match="out of memory") as raised:
        cuda.alloc(100)
    assert raised.value.code == "SE-V90"
    with pytest.raises(SamkrError, match="CUDA call failed"):
        cuda.alloc(1)  # no context
    with cuda.bound():
        assert cuda.memory() == (5, 8)
    cuda.close()
