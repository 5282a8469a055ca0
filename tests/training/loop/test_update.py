"""One update: what half precision, memory layout and a gradient out of range do to it."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import LIKE_FLOAT32, SMALL, recipe_of, same, train
from torch import nn

from samkr_edge.dataset.keypoint_dataset import KeypointDataset
from samkr_edge.errors import SamkrError
from training.checkpoint import load_checkpoint, save_checkpoint
from training.data.training_set import TrainingSet
from training.loop.batches import Batches
from training.loop.compiled import compiled
from training.loop.losses import PoseLoss
from training.loop.processes import Processes
from training.loop.run import LAST
from training.loop.update import Updater, _not_finite
from training.models.deploy import normalise
from training.models.zoo import build_model


def first_batch(
    people: KeypointDataset, device: str = "cpu", **changes: Any
) -> tuple[dict[str, float], torch.Tensor]:
    """Loss terms and gradient, as one vector, of the first batch with the first weights."""
    torch.manual_seed(0)
    network = build_model(SMALL)
    updater = Updater(network, recipe_of(**changes), Processes(torch.device(device)))
    batches = Batches(TrainingSet(people, (64, 64)), 4, 0, 1, 1, pinned=device == "cuda")
    terms = updater._backward({name: value.to(device) for name, value in batches.next().items()})
    batches.close()
    gradient = torch.cat([p.grad.flatten() for p in network.parameters()]) / updater.scaler.get_scale()
    return terms, gradient.cpu()


@LIKE_FLOAT32
def test_loss_and_gradient_are_those_of_float32(
    people: KeypointDataset, changes: dict[str, Any], tolerance: float, least_cosine: float
) -> None:
    expected, wanted = first_batch(people)
    terms, found = first_batch(people, **changes)
    assert terms == pytest.approx(expected, rel=tolerance)
    assert torch.cosine_similarity(found, wanted, dim=0) > least_cosine
    assert not torch.equal(found, wanted)  # the setting reached the computation


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("changes", "tolerance", "least_cosine"),
    [
        ({}, 1e-3, 0.99),
        ({"channels_last": True}, 1e-3, 0.99),
        ({"precision": "fp16", "channels_last": True}, 1e-2, 0.95),
        ({"precision": "bf16", "channels_last": True}, 5e-2, 0.8),
        ({"compile": True}, 1e-3, 0.99),
    ],
    ids=["fp32", "channels_last", "fp16", "bf16", "compile"],
)
def test_a_gpu_computes_the_loss_and_gradient_of_the_cpu(
    people: KeypointDataset, changes: dict[str, Any], tolerance: float, least_cosine: float
) -> None:
    expected, wanted = first_batch(people)
    terms, found = first_batch(people, "cuda", **changes)
    assert terms == pytest.approx(expected, rel=tolerance)
    assert torch.cosine_similarity(found, wanted, dim=0) > least_cosine


@pytest.mark.gpu
def test_a_run_on_a_gpu_is_saved_for_any_machine_and_goes_on(tmp_path: Path, people: KeypointDataset) -> None:
    settings = {"norm_batches": 2, "validation": {"every_epochs": 1}, "precision": "auto"}
    whole = train(tmp_path / "whole", people, **settings)
    assert {tensor.device.type for tensor in whole.state.values()} == {"cpu"}
    last = load_checkpoint(tmp_path / "whole" / LAST)
    last.training["step"] = 5  # as if the last step were still to come
    save_checkpoint(tmp_path / "whole" / LAST, last)
    again = train(tmp_path / "whole", people, resume=True, **settings)
    assert again.card.provenance["training"]["steps"] == 6


def test_nothing_of_a_step_is_left_on_another_device(people: KeypointDataset) -> None:
    """On the meta device, whose tensors mix with no others: what holds there holds on a GPU."""
    device = torch.device("meta")
    network = build_model(replace(SMALL, scale_branch=True))
    updater = Updater(network, recipe_of(loss={"kind": "swahr"}), Processes(device))
    batches = Batches(TrainingSet(people, (64, 64)), 4, 0, 1, 1)
    batch = {name: value.to(device) for name, value in batches.next().items()}
    batches.close()
    maps = updater._forward(normalise(batch["image"]))
    sum(updater._loss(maps, batch).values()).backward()
    assert {parameter.grad.device for parameter in network.parameters()} == {device}
    updater.average.update(network)
    assert {tensor.device for tensor in updater.average.state.values()} == {device}


def test_a_batch_that_does_not_fit_names_a_smaller_one_with_the_same_total(
    tmp_path: Path, people: KeypointDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    monkeypatch.setattr(PoseLoss, "__call__", full)
    for size, fix in ((6, "batch_size=3 --set accumulate=4"), (1, "input_size=[256,256]")):
        with pytest.raises(SamkrError) as caught:
            train(tmp_path / str(size), people, batch_size=size, accumulate=2)
        assert caught.value.code == "SE-U59"
        assert caught.value.facts == {"reason": "CUDA out of memory. Tried to allocate 2.00 GiB."}
        assert fix in caught.value.fix


def test_a_gradient_beyond_fp16_leaves_the_step_out_and_halves_the_scale(
    tmp_path: Path, people: KeypointDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PoseLoss.__call__
    calls = []

    def poisoned(self: PoseLoss, maps: dict[str, torch.Tensor], batch: Any) -> dict[str, torch.Tensor]:
        heatmap, terms = maps["heatmap"], whole(self, maps, batch)
        calls.append(None)
        if len(calls) == 3:
            terms["heatmap"] = (
                terms["heatmap"] + (heatmap * 0).abs().sum().sqrt()
            )  # 0, with an infinite slope
        return terms

    monkeypatch.setattr(PoseLoss, "__call__", poisoned)
    constant = {"schedule": {"steps": 3}, "precision": "fp16", "ema": None}
    three = train(tmp_path / "three", people, **constant)
    two = train(tmp_path / "two", people, **{**constant, "schedule": {"steps": 2}})
    trained = {
        name: tensor for name, tensor in three.state.items() if "running" not in name and "num_" not in name
    }
    assert same(trained, {name: two.state[name] for name in trained})
    scales = [
        load_checkpoint(tmp_path / name / LAST).training["scaler"]["scale"] for name in ("two", "three")
    ]
    assert scales == [65536.0, 32768.0]


def test_the_whole_step_is_one_graph_with_the_same_loss_and_gradient(
    people: KeypointDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `torch.compile` has to understand, without its minutes of code generation: a break would be an error."""
    expected, wanted = first_batch(people)
    graphs = []

    def count(graph: torch.fx.GraphModule, _inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=count, fullgraph=True))
    terms, found = first_batch(people, compile=True)
    assert len(graphs) == 1
    assert terms == pytest.approx(expected, rel=1e-5)
    assert torch.cosine_similarity(found, wanted, dim=0) > 0.9999


def test_without_a_compiler_there_is_one_clear_error() -> None:
    import torch._inductor.config as settings

    torch.compiler.reset()
    with settings.patch({"cpp.cxx": ("/no/such/compiler",)}), pytest.raises(SamkrError) as caught:
        compiled(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()))(torch.rand(1, 1, 8, 8))
    assert caught.value.code == "SE-V59"
    assert "No working C++ compiler" in caught.value.facts["reason"]
    assert caught.value.fix == "--set compile=false"


def test_a_branch_that_no_loss_uses_is_not_trained() -> None:
    network = build_model(replace(SMALL, scale_branch=True))
    Updater(network, recipe_of(loss={"kind": "dekr"}), Processes(torch.device("cpu")))
    assert {n for n, p in network.named_parameters() if not p.requires_grad} == {
        n for n, _ in network.named_parameters() if n.startswith("heatmap_head.scale")
    }


def test_a_broken_batch_is_found_among_those_of_all_processes() -> None:
    seen = [[(0.5, [1, 2]), (0.4, [3])], [(0.3, [4]), (float("nan"), [5, 6])]]
    assert _not_finite(seen, float("nan"), 7, Path("none"), 0.001).facts["images"] == "5, 6"
    error = _not_finite([[(0.5, [1, 2])], [(0.4, [3])]], float("inf"), 7, Path("none"), 0.001)
    assert "gradient's norm is inf at step 7" in error.message
    assert error.facts["images"] == "1, 2, 3"


def test_batches_that_cannot_be_shared_are_refused() -> None:
    two = Processes(torch.device("cpu"), rank=0, count=2)
    assert two.share(4) == 2
    with pytest.raises(SamkrError) as caught:
        two.share(1)
    assert caught.value.code == "SE-U72"
