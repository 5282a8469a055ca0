"""The engine runner over a fake driver in host memory: buffers, batches, threads, graphs, and nothing left behind."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from fake_driver import Driver
from fake_tensorrt import VERSIONS, FakeTensorRT
from many_threads import wrong_results
from red_dot import dots
from tensorrt_graphs import write_residual

from samkr_edge.builder.tensorrt import build as builder
from samkr_edge.builder.tensorrt.features import features_of
from samkr_edge.builder.tensorrt.plan import plan_build
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.errors import SamkrError
from samkr_edge.machine.driver import FUNCTIONS
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from samkr_edge.pose_model import load_model
from samkr_edge.runtime.cuda import open_cuda
from samkr_edge.runtime.onnx_runtime import OnnxRunner, rounds_by_half_scales
from samkr_edge.runtime.tensorrt import TensorRTRunner
from samkr_edge.runtime.tensorrt_log import listen
from targets.profile import load_target
from targets.recognise import Device

Install = Callable[[str], FakeTensorRT]
Seeing = Callable[[FakeTensorRT, Path], Path]
RED = cv2.cvtColor(dots((30, 40)), cv2.COLOR_BGR2RGB)


def engine(trt: FakeTensorRT, folder: Path, batch: int | str = 2) -> Path:
    source = write_residual(folder / "model.onnx", batch=batch)
    wishes = Wishes(batch=2 if isinstance(batch, str) else None)
    plan = plan_build(load_target("rtx-4090"), features_of(trt), facts_of(read_onnx(source)), wishes)
    return builder.build_tensorrt(source, folder / "model.engine", (plan,)).path


@pytest.fixture(scope="module")
def seeing(red_dot_model: Path) -> Seeing:
    """Builds an engine that finds people."""

    def build(trt: FakeTensorRT, folder: Path) -> Path:
        plan = plan_build(
            load_target("rtx-4090"), features_of(trt), facts_of(read_onnx(red_dot_model)), Wishes()
        )
        return builder.build_tensorrt(red_dot_model, folder / "seeing.engine", (plan,)).path

    return build


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (count, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("batch", [2, "n"])
def test_batches_of_any_size_give_what_the_onnx_gives(
    install: Install, tmp_path: Path, version: str, batch: int | str
) -> None:
    path = engine(install(version), tmp_path, batch)
    write_residual(tmp_path / "one.onnx", batch=1, samples=isinstance(batch, int))
    reference = OnnxRunner(tmp_path / "one.onnx")
    runner = TensorRTRunner(path)
    assert (runner.kind, runner.batch) == ("engine", 2)
    for count in (1, 2, 5):
        found, expected = runner.run(images(count)), reference.run(images(count))
        for left, right in zip(found, expected, strict=True):
            assert left.shape == (count, *right.shape[1:])
            assert left.dtype == np.float32
            # The engine has lost the branch quantizer: one INT8 step of difference. From 11 on FP16 is baked in, which
            # the stand-in runs on ONNX Runtime, and that may lose half a step in each of four quantizers.
            cut_off = version.startswith("11.") and not rounds_by_half_scales(onnxruntime.__version__)
            steps = 3 if cut_off else 1
            np.testing.assert_allclose(left, right, atol=0.01 + 0.02 * steps)
    runner.close()


def test_results_are_not_overwritten_by_the_next_call(install: Install, tmp_path: Path) -> None:
    runner = TensorRTRunner(engine(install("10.3.0"), tmp_path))
    first = runner.run(images(2, 0))[0]
    kept = first.copy()
    runner.run(images(2, 1))
    np.testing.assert_array_equal(first, kept)
    runner.close()


def test_everything_is_given_back_and_closing_twice_is_fine(
    install: Install, driver: Driver, tmp_path: Path
) -> None:
    path = engine(install("10.3.0"), tmp_path)
    assert driver.live == 0
    runner = TensorRTRunner(path, cuda_graph=True)
    held = driver.live
    for _ in range(50):
        runner.run(images(3))
        runner.gpu_milliseconds(2)
    assert driver.live == held
    runner.close()
    runner.close()
    assert driver.live == 0
    with pytest.raises(ValueError, match="closed"):
        runner.run(images(1))


def test_threads_get_a_lane_each_and_their_own_results(
    install: Install, driver: Driver, tmp_path: Path
) -> None:
    runner = TensorRTRunner(engine(install("10.3.0"), tmp_path))
    assert wrong_results(runner, images) == []
    runner.close()
    assert driver.live == 0


def test_a_captured_graph_gives_the_same_and_is_launched(
    install: Install, driver: Driver, tmp_path: Path
) -> None:
    path = engine(install("10.3.0"), tmp_path)
    plain, graph = TensorRTRunner(path), TensorRTRunner(path, cuda_graph=True)
    assert graph.graph_note is None
    for left, right in zip(plain.run(images(3)), graph.run(images(3)), strict=True):
        np.testing.assert_array_equal(left, right)
    assert driver.launches == 2
    plain.close()
    graph.close()


def test_a_graph_that_cannot_be_captured_is_done_without_and_said(
    install: Install, driver: Driver, tmp_path: Path
) -> None:
    path = engine(install("10.3.0"), tmp_path)
    driver.refuse_capture = True
    runner = TensorRTRunner(path, cuda_graph=True)
    assert "CUDA call failed" in (runner.graph_note or "")
    assert not driver.capturing
    assert runner.run(images(1))[0].shape == (1, 3, 8, 8)
    assert driver.launches == 0
    runner.close()


def test_a_full_gpu_is_named_and_nothing_is_kept(install: Install, driver: Driver, tmp_path: Path) -> None:
    path = engine(install("10.3.0"), tmp_path)
    driver.free_bytes = 10
    with pytest.raises(SamkrError, match="out of memory") as raised:
        TensorRTRunner(path)
    assert raised.value.code == "SE-V90"
    assert driver.live == 0


def test_images_of_another_size_are_an_error(install: Install, tmp_path: Path) -> None:
    runner = TensorRTRunner(engine(install("10.3.0"), tmp_path))
    with pytest.raises(ValueError, match="expected images"):
        runner.run(np.zeros((1, 16, 16, 3), np.uint8))
    runner.close()


def test_an_engine_opens_like_any_other_model(install: Install, tmp_path: Path) -> None:
    model = load_model(engine(install("10.3.0"), tmp_path))
    assert (model.kind, model.card.precision) == ("engine", "int8")
    model.close()


def test_the_graph_is_an_option_of_opening_and_what_has_none_says_so(
    install: Install, driver: Driver, tmp_path: Path, seeing: Seeing, red_dot_model: Path
) -> None:
    path = seeing(install("10.3.0"), tmp_path)
    with_graph = load_model(path, cuda_graph=True)
    assert with_graph.graph_note is None
    assert len(with_graph(RED)) == 1
    assert driver.launches == 1
    with_graph.close()
    driver.refuse_capture = True
    without = load_model(path, cuda_graph=True)
    assert (without.graph_note or "").startswith("seeing.engine runs without a CUDA graph: ")
    assert len(without(RED)) == 1
    without.close()
    assert "only a TensorRT engine" in (load_model(red_dot_model, cuda_graph=True).graph_note or "")
    assert load_model(red_dot_model).graph_note is None


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_copies_and_network_are_timed_apart(
    install: Install, driver: Driver, tmp_path: Path, seeing: Seeing, cuda_graph: bool
) -> None:
    trt = install("10.3.0")
    path = seeing(trt, tmp_path)
    trt.speed, driver.copy_ms = {"float": 4.5}, 0.25
    model = load_model(path, cuda_graph=cuda_graph)
    times = model.timed(RED)[1]
    # One input and two outputs.
    assert (times.copy_in, times.network, times.copy_out) == pytest.approx((0.25, 4.5, 0.5))
    model.runner.run(model.new_input(2))  # two batches
    assert isinstance(model.runner, TensorRTRunner)
    assert model.runner.last_run_ms == pytest.approx((0.5, 9.0, 1.0))
    model.close()


def test_every_thread_sees_the_times_of_its_own_run(install: Install, driver: Driver, tmp_path: Path) -> None:
    trt = install("10.3.0")
    runner = TensorRTRunner(engine(trt, tmp_path))
    trt.speed = {"int8": 1.0}
    seen: list[object] = []

    def look_before_and_after() -> None:
        seen.append(runner.last_run_ms)
        runner.run(images(2))
        seen.append(runner.last_run_ms)

    runner.run(images(4))
    other = threading.Thread(target=look_before_and_after)
    other.start()
    other.join()
    assert seen == [None, pytest.approx((0, 1, 0))]
    assert runner.last_run_ms == pytest.approx((0, 2, 0))
    runner.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_layers_are_timed_in_a_context_of_their_own(
    install: Install, driver: Driver, tmp_path: Path, version: str
) -> None:
    trt = install(version)
    runner = TensorRTRunner(engine(trt, tmp_path), cuda_graph=True)
    held, trt.layer_times = driver.live, {"conv": 0.5, "Reformatting CopyNode": 0.25}
    assert runner.layer_milliseconds(3) == [trt.layer_times] * 3
    assert driver.live == held
    trt.layer_times = {}
    runner.run(images(1))  # its own context has no profiler
    runner.close()


def test_gpu_time_is_that_of_the_network(install: Install, driver: Driver, tmp_path: Path) -> None:
    trt = install("10.3.0")
    path = engine(trt, tmp_path)
    trt.speed = {"int8": 4.5}
    runner = TensorRTRunner(path)
    assert runner.gpu_milliseconds(3) == [4.5, 4.5, 4.5]
    runner.close()


def test_without_a_gpu_tensorrt_is_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import samkr_edge.machine.driver

    monkeypatch.setattr(samkr_edge.machine.driver, "_load_driver", lambda: (None, "no driver"))
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(SamkrError) as raised:
        TensorRTRunner(tmp_path / "any.engine")
    assert raised.value.code == "SE-V87"


def test_a_call_from_a_thread_without_a_context_fails_and_being_bound_mends_it(driver: Driver) -> None:
    cuda = open_cuda("driver")
    with pytest.raises(SamkrError, match="CUDA call failed") as raised:
        cuda.alloc(16)
    assert "CUDA_ERROR_INVALID_CONTEXT" in raised.value.sentence()
    with cuda.bound():
        cuda.free(cuda.alloc(16))
    cuda.close()
    assert driver.live == 0


def test_copies_go_through_pinned_memory_and_back(driver: Driver) -> None:
    cuda = open_cuda("driver")
    with cuda.bound():
        stream, address = cuda.stream(), cuda.alloc(24)
        source, back = cuda.pinned((2, 3), np.float32), cuda.pinned((2, 3), np.float32)
        source[...] = np.arange(6).reshape(2, 3)
        cuda.to_device(address, source, stream)
        cuda.to_host(back, address, stream)
        cuda.synchronize(stream)
        np.testing.assert_array_equal(back, source)
        assert cuda.memory() == (8 << 30, 24 << 30)
        cuda.free(address)
        cuda.free_pinned(source)
        cuda.free_pinned(back)
        cuda.free_stream(stream)
    cuda.close()
    assert driver.live == 0


def test_what_happened_first_is_told_where_closing_fails_as_well(
    install: Install, driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kernel that failed every call of the driver fails, those that free as well."""
    path = engine(install("10.3.0"), tmp_path)
    for name in ("cuEventCreate", "cuStreamDestroy_v2"):
        monkeypatch.setattr(driver, name, lambda *arguments: 700)
    with pytest.raises(SamkrError) as raised:
        TensorRTRunner(path)
    assert "cuEventCreate" in raised.value.facts["call"]
    assert driver.retained == 0


def test_a_driver_without_graphs_is_named_in_the_note(
    install: Install, driver: Driver, tmp_path: Path
) -> None:
    path = engine(install("10.3.0"), tmp_path)
    driver.missing = frozenset({"cuGraphInstantiateWithFlags"})
    runner = TensorRTRunner(path, cuda_graph=True)
    assert "cuGraphInstantiateWithFlags" in (runner.graph_note or "")
    assert runner.run(images(1))[0].shape == (1, 3, 8, 8)
    runner.close()
    assert driver.live == 0


# Every function of the driver that is called by ctypes.
SYMBOLS = sorted(
    name for name in vars(Driver) if name.startswith("cu") and name not in (*FUNCTIONS, "cuGetErrorName")
)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_a_driver_that_lacks_a_function_is_one_clear_error_or_does_without(
    install: Install, driver: Driver, tmp_path: Path, symbol: str
) -> None:
    """It shows when the driver is opened, not when memory is given back; graphs are done without."""
    path = engine(install("10.3.0"), tmp_path)
    driver.missing = frozenset({symbol})
    if "Graph" in symbol or "Capture" in symbol:
        runner = TensorRTRunner(path, cuda_graph=True)
        assert symbol in (runner.graph_note or "")
        assert runner.run(images(1))[0].shape == (1, 3, 8, 8)
        runner.close()
    else:
        with pytest.raises(SamkrError) as raised:
            TensorRTRunner(path)
        assert raised.value.code == "SE-V83"
        assert symbol in raised.value.sentence()
        assert "update the NVIDIA driver" in (raised.value.fix or "")
    driver.missing = frozenset()
    assert driver.live == 0


def test_the_symbols_are_those_that_every_driver_has(driver: Driver) -> None:
    """Newest of them: cuGraphInstantiateWithFlags, of CUDA 11.4, which JetPack 5 has."""
    newer = {
        "cuEventElapsedTime_v2",
        "cuMemGetInfo_v3",
        "cuStreamGetCaptureInfo_v3",
        "cuGraphInstantiateWithParams",
    }
    assert not newer & set(SYMBOLS)


@pytest.mark.parametrize("kind", ["INT32", "BOOL", "INT64"])
def test_a_type_that_no_network_has_is_an_error_with_the_tensors_name(
    install: Install, driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    trt = install("10.3.0")
    path = engine(trt, tmp_path)
    monkeypatch.setattr(trt.ICudaEngine, "get_tensor_dtype", lambda self, name: SimpleNamespace(name=kind))
    with pytest.raises(SamkrError) as raised:
        TensorRTRunner(path)
    assert raised.value.code == "SE-V85"
    assert (raised.value.facts["tensor"], raised.value.facts["type"]) == ("image", kind)
    assert driver.live == 0


@pytest.fixture
def orin(monkeypatch: pytest.MonkeyPatch) -> Device:
    """This machine is an Orin NX 16 GB."""
    device = Device(
        machine="aarch64", system="Linux", compatible=("nvidia,p3767-0000",), l4t="36.4.3", gpu="Orin",
        compute_capability="8.7", sms=8,
    )  # fmt: skip
    for module in ("preflight", "builder.tensorrt.build", "runtime.tensorrt"):
        monkeypatch.setattr(f"samkr_edge.{module}.running_device", lambda: device)
    return device


def dla_engine(trt: FakeTensorRT, folder: Path, core: int | None) -> Path:
    source = write_residual(folder / "model.onnx", batch=2)
    wishes = Wishes(precision="fp16", dla_core=core)
    plan = plan_build(
        load_target("jetson-orin-nx-16gb"), features_of(trt), facts_of(read_onnx(source)), wishes
    )
    return builder.build_tensorrt(source, folder / "model.engine", (plan,)).path


@pytest.mark.parametrize("core", [None, 0, 1])
def test_an_engine_runs_on_the_dla_core_that_it_was_built_for(
    install: Install, orin: Device, tmp_path: Path, core: int | None
) -> None:
    """The engine does not hold it: microsoft/onnxruntime#26680."""
    trt = install("10.3.0")
    trt.dla_count = 2
    path = dla_engine(trt, tmp_path, core)
    trt.dla_cores.clear()
    TensorRTRunner(path).close()
    assert trt.dla_cores == [core]


def test_a_dla_core_that_tensorrt_does_not_see_is_refused(
    install: Install, orin: Device, driver: Driver, tmp_path: Path
) -> None:
    """As in a container that was not given it: the profile of the module has two."""
    trt = install("10.3.0")
    trt.dla_count = 2
    path = dla_engine(trt, tmp_path, 1)
    trt.dla_count = 1
    with pytest.raises(SamkrError, match="DLA core 1") as raised:
        TensorRTRunner(path)
    assert raised.value.code == "SE-A86"
    assert driver.live == 0


def test_a_context_that_is_not_made_and_a_run_that_is_refused_tell_what_tensorrt_said(
    install: Install, driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install("10.3.0")
    path = engine(trt, tmp_path)
    said = listen(trt).logger
    runner = TensorRTRunner(path)

    def refuse(self: Any, stream_handle: int) -> bool:
        said.log(trt.ILogger.Severity.ERROR, "IExecutionContext::enqueueV3: Error Code 1: Cask (failed)")
        return False

    monkeypatch.setattr(trt.IExecutionContext, "execute_async_v3", refuse)
    with pytest.raises(SamkrError, match="refused to run") as raised:
        runner.run(images(1))
    assert "Error Code 1: Cask" in raised.value.facts["reason"][0]
    runner.close()

    def short(self: Any, runtime_config: Any = None) -> None:
        said.log(trt.ILogger.Severity.ERROR, "Error Code 2: OutOfMemory (no further information)")

    monkeypatch.setattr(trt.ICudaEngine, "create_execution_context", short)
    with pytest.raises(SamkrError, match="not enough memory") as raised:
        TensorRTRunner(path)
    assert raised.value.code == "SE-V90"
    assert "OutOfMemory" in raised.value.facts["reason"][-1]
    assert driver.live == 0


@pytest.mark.parametrize("where", ["Runtime.deserialize_cuda_engine", "ICudaEngine.create_execution_context"])
def test_ctrl_c_while_loading_gives_all_back(
    install: Install, driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    trt = install("10.3.0")
    path = engine(trt, tmp_path)
    before = sorted(file.name for file in tmp_path.rglob("*"))

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(getattr(trt, where.partition(".")[0]), where.partition(".")[2], interrupt)
    with pytest.raises(KeyboardInterrupt):
        TensorRTRunner(path)
    assert driver.live == 0
    assert sorted(file.name for file in tmp_path.rglob("*")) == before


def test_closing_waits_for_what_other_threads_run(
    install: Install, driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = TensorRTRunner(engine(install("10.3.0"), tmp_path))
    expected = runner.run(images(2))
    running, go_on, wait = threading.Event(), threading.Event(), driver.cuStreamSynchronize

    def slow(stream: Any) -> int:
        running.set()
        assert go_on.wait(30)
        return wait(stream)

    monkeypatch.setattr(driver, "cuStreamSynchronize", slow)
    with ThreadPoolExecutor(2) as threads:
        found = threads.submit(runner.run, images(2))
        assert running.wait(30)
        closed = threads.submit(runner.close)
        while runner._open:  # from here on close has begun
            time.sleep(0.001)
        assert driver.live
        go_on.set()
        closed.result()
    np.testing.assert_array_equal(found.result()[0], expected[0])
    assert driver.live == 0
    with pytest.raises(ValueError, match="closed"):
        runner.run(images(2))


def test_ctrl_c_while_running_leaves_a_runner_that_runs_and_closes(
    install: Install, driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = TensorRTRunner(engine(install("10.3.0"), tmp_path))
    expected = runner.run(images(2))

    def interrupt(stream: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(driver, "cuStreamSynchronize", interrupt)
        with pytest.raises(KeyboardInterrupt):
            runner.run(images(2))
    for left, right in zip(runner.run(images(2)), expected, strict=True):
        np.testing.assert_array_equal(left, right)
    runner.close()
    assert driver.live == 0
