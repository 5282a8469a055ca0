"""Engines of TensorRT for RTX over the fake driver: the same runner, and kernels that are finished once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_driver import Driver
from fake_tensorrt import RTX_VERSIONS, FakeTensorRT
from many_threads import wrong_results
from tensorrt_graphs import write_residual

from samkr_edge.builder.tensorrt.build import build_tensorrt
from samkr_edge.builder.tensorrt.engine_bytes import build_bytes
from samkr_edge.builder.tensorrt.features import features_of
from samkr_edge.builder.tensorrt.plan import plan_build
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.files.cache import cache_folder
from samkr_edge.machine.device import running_device
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from samkr_edge.passport import read_passport
from samkr_edge.runtime.finished_kernels import FinishedKernels, kernels_path
from samkr_edge.runtime.onnx_runtime import OnnxRunner
from samkr_edge.runtime.tensorrt import TensorRTRunner
from samkr_edge.runtime.tensorrt_caches import load_cache, store_cache
from samkr_edge.runtime.tensorrt_log import listen
from targets.profile import load_target

# What the card finishes of every engine: some in making a context, some in its first inference.
PARTS = 2


@pytest.fixture
def trt(install: Callable[[str], FakeTensorRT]) -> FakeTensorRT:
    return install(RTX_VERSIONS[-1])


@pytest.fixture
def engine(trt: FakeTensorRT, driver: Driver, tmp_path: Path) -> Path:
    """For batches of two, built where no card could finish anything."""
    return make(trt, driver, tmp_path, 2)


def make(trt: FakeTensorRT, driver: Driver, folder: Path, batch: int | str) -> Path:
    source = write_residual(folder / "model.onnx", batch=batch, per_channel=True)
    wishes = Wishes(batch=2 if isinstance(batch, str) else None)
    plan = plan_build(load_target("rtx-any"), features_of(trt, "rtx"), facts_of(read_onnx(source)), wishes)
    driver.capability = (9, 0)
    path = build_tensorrt(source, folder / "model.engine", (plan,)).path
    driver.capability = (8, 9)
    assert trt.finished == []
    return path


def kept(engine: Path) -> Path:
    return kernels_path(read_passport(engine), running_device())


def start(engine: Path) -> list[np.ndarray]:
    """A process that opens the engine, runs it once and ends."""
    runner = TensorRTRunner(engine)
    found = list(runner.run(images(2)))
    runner.close()
    return found


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (count, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("batch", [2, "n"])
def test_batches_of_any_size_give_what_the_onnx_gives(
    trt: FakeTensorRT, driver: Driver, tmp_path: Path, batch: int | str
) -> None:
    runner = TensorRTRunner(make(trt, driver, tmp_path, batch))
    write_residual(tmp_path / "one.onnx", batch=1, samples=isinstance(batch, int), per_channel=True)
    reference = OnnxRunner(tmp_path / "one.onnx")
    assert (runner.kind, runner.batch) == ("engine", 2)
    for count in (1, 2, 5):
        for left, right in zip(runner.run(images(count)), reference.run(images(count)), strict=True):
            assert (left.shape, left.dtype) == ((count, *right.shape[1:]), np.float32)
            # Steps of 0.02: the engine has lost the branch quantizer, and its FP16 scales may round the other way.
            np.testing.assert_allclose(left, right, atol=0.07)
    runner.close()


def test_a_second_start_finishes_nothing_again(trt: FakeTensorRT, engine: Path) -> None:
    first = start(engine)
    assert len(trt.finished) == PARTS
    assert kept(engine).is_file()
    second = start(engine)
    assert len(trt.finished) == PARTS
    for left, right in zip(first, second, strict=True):
        np.testing.assert_array_equal(left, right)


def test_whether_kept_kernels_were_taken_is_known(trt: FakeTensorRT, engine: Path) -> None:
    start(engine)
    loaded = trt.Runtime(listen(trt).logger).deserialize_cuda_engine(engine.read_bytes())
    assert FinishedKernels(loaded, kept(engine)).reused
    assert not FinishedKernels(loaded, kept(engine).with_name("none.kernels")).reused
    store_cache(kept(engine), b"of another driver")
    assert not FinishedKernels(loaded, kept(engine)).reused


def test_kernels_are_kept_beside_the_timing_caches_by_engine_gpu_and_release(
    trt: FakeTensorRT, engine: Path
) -> None:
    start(engine)
    (file,) = cache_folder().iterdir()
    assert file == kept(engine)
    assert read_passport(engine).sha256[:16] in file.name
    assert "nvidia-geforce-rtx-4090" in file.name
    assert trt.__version__ in file.name


def test_every_gpu_has_its_own(trt: FakeTensorRT, driver: Driver, engine: Path) -> None:
    start(engine)
    driver.gpu, driver.capability = b"NVIDIA GeForce RTX 5090", (12, 0)
    start(engine)
    assert len(trt.finished) == 2 * PARTS
    start(engine)
    driver.gpu, driver.capability = b"NVIDIA GeForce RTX 4090", (8, 9)
    start(engine)
    assert len(trt.finished) == 2 * PARTS
    assert len(list(cache_folder().glob("*.kernels"))) == 2


def test_the_file_is_written_once_and_not_again_where_nothing_is_new(
    trt: FakeTensorRT, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def store(path: Path, cache: bytes) -> None:
        written.append(path)
        store_cache(path, cache)

    monkeypatch.setattr("samkr_edge.runtime.finished_kernels.store_cache", store)
    runner = TensorRTRunner(engine)
    for _ in range(3):
        runner.run(images(3))
    runner.close()
    start(engine)
    assert written == [kept(engine)]


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d + b"x", lambda d: b"", lambda d: b"\0" + d])
def test_damaged_kernels_are_not_read_and_made_anew(
    trt: FakeTensorRT, engine: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    start(engine)
    whole = kept(engine).read_bytes()
    kept(engine).write_bytes(damage(whole))
    with monkeypatch.context() as patch:
        patch.delattr(trt.IRuntimeCache, "deserialize")
        start(engine)
    assert len(trt.finished) == 2 * PARTS
    assert kept(engine).read_bytes() == whole


def test_foreign_kernels_are_refused_by_tensorrt_and_replaced(trt: FakeTensorRT, engine: Path) -> None:
    """Whole, and of another driver or release: TensorRT says so."""
    store_cache(kept(engine), b"tensorrt_rtx 1.6.1.120\nkernels of something else")
    start(engine)
    assert len(trt.finished) == PARTS
    assert trt.__version__.encode() in load_cache(kept(engine))
    start(engine)
    assert len(trt.finished) == PARTS


def test_a_cache_that_cannot_be_written_loses_nothing(
    trt: FakeTensorRT, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = start(engine)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SAMKR_EDGE_CACHE", str(tmp_path / "file"))
    for left, right in zip(expected, start(engine), strict=True):
        np.testing.assert_array_equal(left, right)
    assert len(trt.finished) == 2 * PARTS


def test_a_runtime_cache_that_gives_no_bytes_loses_nothing(
    trt: FakeTensorRT, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trt.IRuntimeCache, "serialize", lambda self: None)
    assert len(start(engine)) == 2
    assert not kept(engine).exists()


def test_what_the_trial_of_a_build_finished_is_there_for_the_first_start(
    trt: FakeTensorRT, tmp_path: Path
) -> None:
    source = write_residual(tmp_path / "model.onnx", per_channel=True)
    plan = plan_build(load_target("rtx-4090"), features_of(trt, "rtx"), facts_of(read_onnx(source)), Wishes())
    built = build_tensorrt(source, tmp_path / "model.engine", (plan,))
    assert built.agreement is not None
    finished = list(trt.finished)  # of the engine, and of what was tried before it
    assert len(finished) >= PARTS
    runner = TensorRTRunner(built.path)
    runner.run(images(1))
    runner.close()
    assert trt.finished == finished


def test_threads_get_a_context_each_and_share_what_is_finished(
    trt: FakeTensorRT, driver: Driver, engine: Path
) -> None:
    runner = TensorRTRunner(engine)
    assert wrong_results(runner, images) == []
    assert len(trt.finished) == PARTS
    runner.close()
    assert driver.live == 0


def test_a_captured_graph_gives_the_same_and_finishes_first(
    trt: FakeTensorRT, driver: Driver, engine: Path
) -> None:
    plain, graph = TensorRTRunner(engine), TensorRTRunner(engine, cuda_graph=True)
    assert graph.graph_note is None
    for left, right in zip(plain.run(images(3)), graph.run(images(3)), strict=True):
        np.testing.assert_array_equal(left, right)
    assert driver.launches == 2
    plain.close()
    graph.close()
    start(engine)
    assert len(trt.finished) == 2 * PARTS  # of two runners that did not know of each other


def test_layers_are_listed_and_timed_in_a_context_that_finishes_nothing(
    trt: FakeTensorRT, driver: Driver, engine: Path
) -> None:
    runner = TensorRTRunner(engine)
    runner.run(images(2))
    held, trt.layer_times = driver.live, {"conv": 0.5, "kgen": 0.25}
    trt.layers_json = '{"Layers": [{"Name": "conv"}]}'
    assert runner.layers() == trt.layers_json
    assert runner.layer_milliseconds(3) == [trt.layer_times] * 3
    assert driver.live == held
    assert len(trt.finished) == PARTS
    runner.close()


def test_everything_is_given_back_and_closing_twice_is_fine(
    trt: FakeTensorRT, driver: Driver, engine: Path
) -> None:
    runner = TensorRTRunner(engine, cuda_graph=True)
    held = driver.live
    for _ in range(5):
        runner.run(images(3))
        runner.gpu_milliseconds(2)
    assert driver.live == held
    runner.close()
    runner.close()
    assert driver.live == 0
    with pytest.raises(ValueError, match="closed"):
        runner.run(images(1))


def test_an_engine_for_other_gpus_is_refused_by_the_stand_in_as_by_the_real_one(
    trt: FakeTensorRT, driver: Driver, tmp_path: Path
) -> None:
    """The fake is no more lenient than the passport, which is asked first."""
    source = write_residual(tmp_path / "model.onnx", per_channel=True)
    plan = plan_build(load_target("rtx-3090"), features_of(trt, "rtx"), facts_of(read_onnx(source)), Wishes())
    messages: list[str] = []

    class Logger(trt.ILogger):
        def log(self, severity: object, msg: str) -> None:
            messages.append(msg)

    engine = build_bytes(source, plan).data
    logger = Logger()
    assert trt.Runtime(logger).deserialize_cuda_engine(engine) is None
    assert messages
    driver.capability = (8, 6)
    assert trt.Runtime(logger).deserialize_cuda_engine(engine) is not None
