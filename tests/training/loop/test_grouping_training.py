"""A network with tags trains by the loop of all: resume, validation, half precision, processes, a start from others."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import small_run
import torch
import torch.distributed as dist
from small_run import LIKE_FLOAT32, SMALL, recipe_of, same

import training.loop.fit as fit_module
from samkr_edge.dataset.keypoint_dataset import KeypointDataset
from samkr_edge.errors import SamkrError
from samkr_edge.pose.skeleton import COCO17
from training.checkpoint import Checkpoint, load_checkpoint, new_card, save_checkpoint
from training.data.settings import AugmentSettings, GroupingEncodeSettings
from training.data.training_set import TrainingSet
from training.loop.batches import Batches
from training.loop.processes import Processes
from training.loop.recipe import Recipe
from training.loop.run import BEST, LAST
from training.loop.start_weights import imagenet_start, load_start
from training.loop.update import Updater
from training.models.deploy import normalise
from training.models.zoo import build_model, model_config

SWAHR = replace(SMALL, decoding="grouping", scale_branch=True, deconv_blocks=1)
SCALE = (
    2.0**8
)  # of the loss in fp16: fresh heatmaps are so far off that 2**16 overflows, and a run would halve it
TARGETS = GroupingEncodeSettings(sigma=1.0)


OWN: dict[str, Any] = {"data": {"sigma": 1.0}, "loss": {"kind": "swahr"}}


def recipe(**changes: Any) -> Recipe:
    return recipe_of(**{**OWN, **changes})


def train(out: Path, people: KeypointDataset, *, resume: bool = False, **changes: Any) -> Checkpoint:
    return small_run.train(out, people, config=SWAHR, resume=resume, **{**OWN, **changes})


def batch_of(people: KeypointDataset) -> dict[str, torch.Tensor]:
    batches = Batches(TrainingSet(people, (64, 64), TARGETS), 4, 0, 1, 1)
    batch = batches.next()
    batches.close()
    return batch


def first_step(people: KeypointDataset, **changes: Any) -> tuple[dict[str, float], torch.Tensor]:
    """Loss terms and gradient, as one vector, of the first batch with the first weights."""
    torch.manual_seed(0)
    network = build_model(SWAHR)
    updater = Updater(network, recipe(**changes), Processes(torch.device("cpu")))
    updater.scaler = torch.amp.GradScaler("cpu", SCALE, enabled=updater.scaler.is_enabled())
    terms = updater._backward(batch_of(people))
    gradients = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
    return terms, torch.cat(gradients) / updater.scaler.get_scale()


def test_a_stopped_and_resumed_run_ends_with_the_same_bits_and_its_card_says_what_it_learned(
    tmp_path: Path, people: KeypointDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"validation": {"every_epochs": 1, "images": 1}, "norm_batches": 1}
    whole = train(tmp_path / "whole", people, **settings)
    factor = fit_module.rate_factor

    def interrupting(schedule: Any, done: float, step: int) -> float:
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return factor(schedule, done, step)

    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "rate_factor", interrupting)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "cut", people, **settings)
    assert load_checkpoint(tmp_path / "cut" / LAST).training["step"] == 3
    resumed = train(tmp_path / "cut", people, resume=True, **settings)
    assert same(whole.state, resumed.state)
    assert (tmp_path / "cut" / BEST).exists()
    facts = whole.card.provenance["training"]
    assert facts["validation"]["metric"] == "AP"
    assert facts["loss"] == {
        "kind": "swahr",
        "heatmap_weight": 1.0,
        "pull_weight": 0.001,
        "push_weight": 0.001,
        "scale_weight": 1.0,
    }
    assert facts["data"]["max_people"] == 30
    assert "offset_radius" not in facts["data"]


@LIKE_FLOAT32
def test_loss_and_gradient_are_those_of_float32(
    people: KeypointDataset, changes: dict[str, Any], tolerance: float, least_cosine: float
) -> None:
    expected, wanted = first_step(people)
    assert set(expected) == {"heatmap", "pull", "push", "scale"}
    terms, found = first_step(people, **changes)
    assert terms == pytest.approx(expected, rel=tolerance)
    assert torch.cosine_similarity(found, wanted, dim=0) > least_cosine
    assert not torch.equal(found, wanted)


def test_the_head_is_one_graph() -> None:
    """What `torch.compile` has to understand; the backbone is that of the other networks."""
    graphs = []

    def count(graph: torch.fx.GraphModule, _inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    head = build_model(SWAHR).grouping_head
    compiled = torch.compile(head.forward_training, backend=count, fullgraph=True)
    assert set(compiled(torch.randn(2, SWAHR.width, 8, 8))) == {
        "heatmap_low",
        "tag",
        "heatmap",
        "scale_low",
        "scale",
    }
    assert len(graphs) == 1


def test_nothing_of_a_step_is_left_on_another_device(people: KeypointDataset) -> None:
    """On the meta device, whose tensors mix with no others: what holds there holds on a GPU."""
    device = torch.device("meta")
    network = build_model(SWAHR)
    updater = Updater(network, recipe(), Processes(device))
    batch = {name: value.to(device) for name, value in batch_of(people).items()}
    sum(updater._loss(updater._forward(normalise(batch["image"])), batch).values()).backward()
    assert {parameter.grad.device for parameter in network.parameters()} == {device}


@pytest.mark.parametrize("kind", ["swahr", "higherhrnet"])
def test_processes_find_a_gradient_of_every_parameter(
    people: KeypointDataset, tmp_path: Path, kind: str
) -> None:
    """DistributedDataParallel refuses a second step where a parameter had no gradient in the first."""
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    try:
        network = build_model(SWAHR)
        updater = Updater(
            network, recipe(loss={"kind": kind}, accumulate=2), Processes(torch.device("cpu"), count=2)
        )
        assert isinstance(updater._distributed, torch.nn.parallel.DistributedDataParallel)
        batch = batch_of(people)
        for _ in range(2):
            updater._backward(batch)
    finally:
        dist.destroy_process_group()
    without = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    branches = {name for name, _ in network.named_parameters() if ".scale_" in name}
    assert without == (set() if kind == "swahr" else branches)


def test_samples_that_show_no_joint_stop_the_run(people: KeypointDataset) -> None:
    augment = AugmentSettings(scale=(1, 1), translation=500)
    batches = Batches(TrainingSet(people, (64, 64), TARGETS, augment), 8, 0, 1, 1)
    try:
        for _ in range(7):
            batches.next()
        with pytest.raises(SamkrError, match="nobody had a keypoint in 64 samples") as caught:
            batches.next()
    finally:
        batches.close()
    assert caught.value.code == "SE-D20"


def test_it_starts_from_the_backbone_of_other_networks_as_papers_do(tmp_path: Path) -> None:
    for width in (32, 48):
        for name in ("higherhrnet", "swahr"):
            assert imagenet_start(model_config(f"{name}_w{width}")) == f"zoo:hrnet_w{width}_imagenet"
    assert imagenet_start(model_config("swahr_tiny")) is None
    whole = build_model(SMALL)
    card = new_card(SMALL, COCO17, SMALL.input_size)
    save_checkpoint(tmp_path / "other.pt", Checkpoint(card, SMALL, whole.state_dict()))
    network = build_model(SWAHR)
    load_start(network, str(tmp_path / "other.pt"))
    found = whole.backbone.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in network.backbone.state_dict().items())


def test_from_scratch_heatmaps_begin_silent_and_tags_apart() -> None:
    """Both are what a network that begins otherwise needs hundreds of updates for."""
    torch.manual_seed(0)
    network = build_model(SWAHR)
    image = torch.randn(2, 3, 64, 64)
    load_start(network, None)
    maps = network.forward_training(image)
    assert max(maps[name].abs().max() for name in ("heatmap_low", "heatmap")) < 0.1
    assert not maps["scale_low"].any()
    assert not maps["scale"].any()
    assert maps["tag"].std() > 0.1
