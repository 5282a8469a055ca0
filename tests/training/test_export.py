"""What is exported computes what the checkpoint does; a checkpoint that is damaged or hostile is refused."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from samkr_edge.errors import SamkrError
from samkr_edge.model_card import METADATA_KEY, ModelCard
from samkr_edge.pose_model import load_model
from training.checkpoint import Checkpoint, load_checkpoint, network_of, save_checkpoint, untrained_checkpoint
from training.export import export_onnx


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return untrained_checkpoint("samkr_tiny")


@pytest.fixture(scope="module")
def exported(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "tiny-\udce9.onnx"  # no UTF-8
    export_onnx(network_of(checkpoint), checkpoint.card, path, size=(64, 96), batch=2)
    return path


def test_onnx_runtime_and_torch_agree_on_image_bytes(
    checkpoint: Checkpoint, exported: Path, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "c.pt", checkpoint)
    image = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)
    expected = load_model(tmp_path / "c.pt").runner.run(image)
    found = load_model(exported).runner.run(image)  # three images through a batch of two
    for left, right in zip(expected, found, strict=True):
        assert left.shape == right.shape
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-5)


def test_the_graph_is_static_and_within_what_tensorrt_samples_right(exported: Path) -> None:
    model = onnx.load(exported)
    assert model.opset_import[0].version == 17
    operations = {node.op_type for node in model.graph.node}
    assert "GridSample" in operations
    assert not operations & {"Shape", "Range", "NonZero", "BatchNormalization", "ConstantOfShape"} - {"Shape"}
    grid = next(node for node in model.graph.node if node.op_type == "GridSample")
    assert {a.name: a.s for a in grid.attribute if a.name == "mode"}["mode"] == b"bilinear"


def test_the_card_travels_in_the_metadata(checkpoint: Checkpoint, exported: Path) -> None:
    texts = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    card = ModelCard.from_json(texts[METADATA_KEY])
    assert card.input_size == (64, 96)
    assert card.skeleton == checkpoint.card.skeleton
    assert len(card.provenance["weights_sha256"]) == 64


def test_a_size_that_the_network_cannot_halve_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(SamkrError) as caught:
        export_onnx(network_of(checkpoint), checkpoint.card, tmp_path / "x.onnx", size=(100, 64))
    assert caught.value.code == "SE-U03"
    assert not list(tmp_path.iterdir())


def test_opset_20_is_refused_since_tensorrt_would_sample_the_nearest_pixel(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    with pytest.raises(SamkrError, match="opset 20"):
        export_onnx(network_of(checkpoint), checkpoint.card, tmp_path / "x.onnx", opset=20)


def test_nan_weights_are_refused_by_name(checkpoint: Checkpoint, tmp_path: Path) -> None:
    state = dict(checkpoint.state)
    state["backbone.conv1.weight"] = torch.full_like(state["backbone.conv1.weight"], float("nan"))
    save_checkpoint(tmp_path / "nan.pt", replace(checkpoint, state=state))
    with pytest.raises(SamkrError) as caught:
        network_of(load_checkpoint(tmp_path / "nan.pt"))
    assert caught.value.code == "SE-A34"
    assert "backbone.conv1.weight" in str(caught.value)


def test_a_network_that_sees_nothing_is_not_exported(checkpoint: Checkpoint, tmp_path: Path) -> None:
    state = {name: torch.zeros_like(tensor) for name, tensor in checkpoint.state.items()}
    network = network_of(replace(checkpoint, state=state))
    with pytest.raises(SamkrError, match="for every picture") as caught:
        export_onnx(network, checkpoint.card, tmp_path / "x.onnx")
    assert caught.value.code == "SE-A28"
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_survives_a_round_trip(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.pt", checkpoint)
    again = load_checkpoint(tmp_path / "c.pt")
    assert again.card == checkpoint.card
    assert again.config == checkpoint.config
    assert all(torch.equal(again.state[name], tensor) for name, tensor in checkpoint.state.items())


def test_a_cut_off_checkpoint_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    save_checkpoint(path, checkpoint)
    path.write_bytes(path.read_bytes()[:10_000])
    with pytest.raises(SamkrError) as caught:
        load_checkpoint(path)
    assert caught.value.code == "SE-A30"


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch pwned",)


def test_a_hostile_checkpoint_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(SamkrError):
        load_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "pwned").exists()


def test_foreign_weights_are_not_taken_for_a_checkpoint(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(SamkrError) as caught:
        load_checkpoint(tmp_path / "other.pt")
    assert caught.value.code == "SE-A31"


@pytest.mark.parametrize(
    "part",
    [
        {"card": None},
        {"config": []},
        {"state": None},
        {"state": {"a": 1}},
        {"state": {1: torch.zeros(1)}},
        {"kind": "of a later version"},
        {"kind": []},
        {"training": "x"},
        {"quantization": None},
        {"kind": "quantized"},
        {"kind": "quantized", "quantization": {"policy": {}}},
    ],
    ids=str,
)
def test_parts_that_are_not_ours_are_refused_when_it_is_read(
    checkpoint: Checkpoint, tmp_path: Path, part: dict[str, object]
) -> None:
    save_checkpoint(tmp_path / "c.pt", checkpoint)
    whole = torch.load(tmp_path / "c.pt", weights_only=True)
    torch.save({**whole, **part}, tmp_path / "c.pt")
    with pytest.raises(SamkrError) as caught:
        load_checkpoint(tmp_path / "c.pt")
    assert caught.value.code == "SE-A31"
    assert caught.value.fix == "use the checkpoint as train or import wrote it"


@pytest.mark.parametrize("structure", [{"channels": -1}, {"blocks": None}, {"groups": -1}], ids=str)
def test_a_structure_that_cannot_be_is_refused_with_its_reason(
    checkpoint: Checkpoint, structure: dict[str, Any]
) -> None:
    with pytest.raises(SamkrError) as caught:
        network_of(replace(checkpoint, config=replace(checkpoint.config, **structure)))
    assert caught.value.code == "SE-A33"
    assert caught.value.facts


def test_weights_of_another_network_are_named(checkpoint: Checkpoint) -> None:
    with pytest.raises(SamkrError) as caught:
        network_of(replace(checkpoint, state={"other": torch.zeros(1)}))
    assert caught.value.code == "SE-A33"
    assert "Missing key" in caught.value.facts["reason"][0]
