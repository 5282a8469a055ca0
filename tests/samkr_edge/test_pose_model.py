"""Opening models and running images through them: every kind, any image size, any number of images."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from many_threads import wrong_results

from samkr_edge import pose_model
from samkr_edge.errors import SamkrError
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.decode import decode
from samkr_edge.pose.grouping_settings import GroupingSettings
from samkr_edge.pose.skeleton import COCO17
from samkr_edge.pose_model import PoseModel, load_model
from samkr_edge.runtime.onnx_runtime import OnnxRunner

if TYPE_CHECKING:
    from training.models.pose_net import PoseNet


@pytest.fixture(scope="module")
def model(float_onnx: Path) -> PoseModel:
    return load_model(float_onnx)


def code_of(path: Path) -> str:
    with pytest.raises(SamkrError) as caught:
        load_model(path)
    return caught.value.code


def test_a_file_of_no_known_kind_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("x")
    assert code_of(tmp_path / "model.txt") == "SE-U24"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert code_of(tmp_path / "none.onnx") == "SE-A23"


@pytest.mark.parametrize("keep", [0, 500, -1000])
def test_a_cut_off_onnx_is_not_loaded(float_onnx: Path, tmp_path: Path, keep: int) -> None:
    (tmp_path / "cut.onnx").write_bytes(float_onnx.read_bytes()[:keep])
    assert code_of(tmp_path / "cut.onnx") == "SE-B87"


def test_an_onnx_of_somebody_else_is_not_loaded(float_onnx: Path, tmp_path: Path) -> None:
    other = onnx.load(float_onnx)
    del other.metadata_props[:]
    onnx.save(other, tmp_path / "other.onnx")
    assert code_of(tmp_path / "other.onnx") == "SE-A21"


def test_a_kind_whose_package_is_not_installed_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pose_model.OPENERS, ".pt", "not_installed_here:open")
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(SamkrError) as caught:
        load_model(tmp_path / "model.pt")
    assert caught.value.code == "SE-U70"
    assert "samkr-edge[train]" in str(caught.value)


def test_a_kind_whose_package_does_not_import_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_runtime.py").write_text("raise ImportError('compiled for another NumPy')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(pose_model.OPENERS, ".pt", "broken_runtime:open")
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(SamkrError) as caught:
        load_model(tmp_path / "model.pt")
    assert caught.value.code == "SE-U99"
    assert "compiled for another NumPy" in str(caught.value)
    assert "samkr-edge doctor" in str(caught.value)


@pytest.mark.parametrize("grouping", [None, GroupingSettings()])
def test_what_decoding_needs_is_imported_with_the_model_and_not_at_the_first_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grouping: GroupingSettings | None
) -> None:
    opened = SimpleNamespace(card=ModelCard("heads", COCO17, (64, 64), stride=2, grouping=grouping))
    monkeypatch.setattr(pose_model, "resolve", lambda _: lambda *_: opened)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    (tmp_path / "model.onnx").write_bytes(b"x")
    if grouping is None:
        assert load_model(tmp_path / "model.onnx").card is opened.card
        return
    with pytest.raises(SamkrError, match="needs the package scipy") as refused:
        load_model(tmp_path / "model.onnx")
    assert refused.value.code == "SE-U70"


def test_maps_of_a_batch_are_those_of_its_images(float_onnx: Path) -> None:
    runner = OnnxRunner(float_onnx)
    images = np.random.default_rng(2).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    together = runner.run(images)
    apart = [runner.run(image[None]) for image in images]
    for index, maps in enumerate(together):
        assert maps.shape == (3, (18, 34)[index], 16, 16)
        np.testing.assert_array_equal(maps, np.concatenate([one[index] for one in apart]))


def test_poses_are_in_the_pixels_of_the_image(model: PoseModel) -> None:
    image = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    heatmap, offset = model.runner.run(image[None])
    expected = decode(heatmap[0], offset[0], model.card.decode, model.card.stride).centred_in((64, 64))
    np.testing.assert_allclose(model(image, None).keypoints, expected.keypoints, atol=1e-3)
    # Twice the size with every pixel doubled: the same network input, and joints at twice the coordinates.
    fit = model.preprocess(np.zeros((128, 128, 3), np.uint8), np.zeros((64, 64, 3), np.uint8))
    larger = model.decode(heatmap[0], offset[0], fit)
    np.testing.assert_allclose(
        larger.keypoints[..., 0] - larger.keypoints[:1, :1, 0],
        2 * (expected.keypoints[..., 0] - expected.keypoints[:1, :1, 0]),
        atol=1e-2,
    )


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 500, 3), (301, 40, 3)])
def test_an_image_of_any_size_is_taken(model: PoseModel, shape: tuple[int, int, int]) -> None:
    poses, times = model.timed(np.full(shape, 128, np.uint8))
    assert poses.keypoints.shape[1:] == (17, 2)
    assert np.isfinite(poses.keypoints).all()
    assert times.total == times.preprocess + times.network + times.decode > 0


def test_a_fake_quantized_checkpoint_serves_many_threads_and_refuses_once_closed(
    exported: ModuleType, int8_network: PoseNet
) -> None:
    """ModelOpt's modules say in an attribute whether their weight is quantized just now: one for all threads."""
    import torch

    from training.checkpoint import untrained_checkpoint
    from training.torch_runner import TorchRunner

    def images(count: int, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (count, *exported.SIZE, 3), dtype=np.uint8)

    runner = TorchRunner(int8_network, untrained_checkpoint("samkr_tiny").card, torch.device("cpu"))
    assert wrong_results(runner, images) == []
    runner.close()
    runner.close()
    with pytest.raises(ValueError, match="closed"):
        runner.run(images(1, 0))
