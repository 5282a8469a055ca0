"""TensorRT for RTX on a card that it is made for, nothing fake: `pytest -m gpu tests/samkr_edge/runtime`.

No machine of this project has had such a card; what these tests expect of one is what NVIDIA documents.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tensorrt_graphs import write_residual

import samkr_edge.runtime.tensorrt as runtime
from samkr_edge.builder.inspect.engine import layers_of_engine
from samkr_edge.builder.tensorrt.build import BuiltEngine, build_tensorrt
from samkr_edge.builder.tensorrt.features import features_of
from samkr_edge.builder.tensorrt.plan import plan_best, plan_build
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.machine.device import running_device
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from samkr_edge.passport import read_passport
from samkr_edge.runtime.finished_kernels import FinishedKernels, kernels_path
from samkr_edge.runtime.onnx_runtime import OnnxRunner
from samkr_edge.runtime.tensorrt import TensorRTRunner
from targets.profile import Target, load_target
from targets.recognise import recognise

pytestmark = pytest.mark.gpu


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    """The card of this machine; caches go to the test's folder."""
    trt = pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    device = running_device()
    if device.compute_capability is None:
        pytest.skip("no NVIDIA driver with a GPU")
    if device.compute_capability not in features_of(trt, "rtx").capabilities:
        pytest.skip(f"TensorRT for RTX does not build for SM {device.compute_capability}, {device.gpu}")
    monkeypatch.setenv("SAMKR_EDGE_CACHE", str(tmp_path / "cache"))
    return recognise(device)


def build(source: Path, target: Target, out: Path, wishes: Wishes | None = None) -> BuiltEngine:
    import tensorrt_rtx

    features = features_of(tensorrt_rtx, "rtx")
    plan = plan_build(target, features, facts_of(read_onnx(source)), wishes or Wishes())
    return build_tensorrt(source, out, (plan,))


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    a, b = left.ravel().astype(float), right.ravel().astype(float)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.mark.parametrize("quantized", [False, True], ids=["fp16", "int8"])
def test_an_engine_for_this_card_computes_what_its_graph_does(
    card: Target, tmp_path: Path, quantized: bool
) -> None:
    source = write_residual(tmp_path / "model.onnx", quantized=quantized, batch=2)
    built = build(source, card, tmp_path / "model.engine")
    assert built.agreement is not None
    assert built.agreement.holds
    runner, reference = TensorRTRunner(built.path), OnnxRunner(source)
    for seed in range(3):
        images = noise((2, 8, 8, 3), seed)
        for found, expected in zip(runner.run(images), reference.run(images), strict=True):
            assert found.shape == expected.shape
            assert cosine(found, expected) > 0.98
    runner.close()
    reference.close()


def test_a_network_of_ours_computes_what_its_graph_does(
    card: Target, int8_onnx: Path, tmp_path: Path
) -> None:
    built = build(int8_onnx, card, tmp_path / "tiny.engine")
    assert built.agreement is not None
    runner, reference = TensorRTRunner(built.path), OnnxRunner(int8_onnx)
    image = noise((1, *runner.card.input_size, 3))
    for found, expected in zip(runner.run(image), reference.run(image), strict=True):
        assert cosine(found, expected) > 0.9
    runner.close()
    reference.close()


def test_an_engine_for_every_card_runs_on_this_one(card: Target, tmp_path: Path) -> None:
    many = load_target("rtx-any")
    if not set(card.capabilities) <= set(many.capabilities):
        pytest.skip(f"rtx-any does not serve SM {', '.join(card.capabilities)}")
    built = build(write_residual(tmp_path / "model.onnx", per_channel=True), many, tmp_path / "any.engine")
    assert built.agreement is not None
    assert built.agreement.holds


def test_a_second_start_takes_the_kernels_that_the_first_one_finished(
    card: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[FinishedKernels] = []

    class Watched(FinishedKernels):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            made.append(self)

    path = build(
        write_residual(tmp_path / "model.onnx", per_channel=True), card, tmp_path / "model.engine"
    ).path
    kept = kernels_path(read_passport(path), running_device())
    assert kept.is_file()  # by the comparison after the build
    kept.unlink()
    monkeypatch.setattr(runtime, "FinishedKernels", Watched)
    outputs = []
    for _ in range(2):
        runner = TensorRTRunner(path)
        outputs.append(runner.run(noise((1, 8, 8, 3))))
        runner.close()
        assert kept.is_file()
    assert [one.reused for one in made] == [False, True]
    for first, second in zip(*outputs, strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_cuda_graph_gives_the_same(card: Target, tmp_path: Path) -> None:
    path = build(
        write_residual(tmp_path / "model.onnx", per_channel=True), card, tmp_path / "model.engine"
    ).path
    plain, graph = TensorRTRunner(path), TensorRTRunner(path, cuda_graph=True)
    assert graph.graph_note is None
    image = noise((1, 8, 8, 3))
    for left, right in zip(plain.run(image), graph.run(image), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-3)
    plain.close()
    graph.close()


def test_layers_are_listed_and_timed(card: Target, tmp_path: Path) -> None:
    path = build(
        write_residual(tmp_path / "model.onnx", per_channel=True), card, tmp_path / "model.engine"
    ).path
    runner = TensorRTRunner(path)
    assert '"Layers"' in runner.layers()
    assert all(sum(run.values()) > 0 for run in runner.layer_milliseconds(3))
    assert all(ms > 0 for ms in runner.gpu_milliseconds(3))
    runner.close()
    assert '"Layers"' in layers_of_engine(path)


def test_best_times_both(card: Target, tmp_path: Path) -> None:
    import tensorrt_rtx

    source = write_residual(tmp_path / "model.onnx", per_channel=True)
    if card.compute_capability == "7.5":
        pytest.skip("no INT8 on SM 7.5")
    features = features_of(tensorrt_rtx, "rtx")
    plans = plan_best(card, features, facts_of(read_onnx(source)), Wishes())
    built = build_tensorrt(source, tmp_path / "best.engine", plans)
    assert set(built.milliseconds) == {"fp16", "int8"}
    assert all(ms > 0 for ms in built.milliseconds.values())
