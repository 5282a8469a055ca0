"""Fine-tuning by the loop of FP32: ranges that settle, a teacher, a control, a resume to the same bits."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import training.loop.fit as fit_module
from calibration.inputs import calibration_images
from calibration.policy import changed_policy, load_policy
from calibration.ptq import enabled_quantizers, quantize_network, restore_network
from calibration.qat import FineTuning, open_teacher, tag_distance
from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.dataset.trained_on import TrainedOn
from samkr_edge.errors import SamkrError
from training.checkpoint import Checkpoint, load_checkpoint, network_of, new_card
from training.loop.compiled import compiled
from training.loop.fit import fit
from training.loop.grouping_losses import GroupingLossSettings
from training.loop.losses import LossSettings
from training.loop.objective import loss_settings
from training.loop.recipe_file import as_taught, load_recipe
from training.loop.run import FINAL, LAST
from training.models.deploy import normalise
from training.models.pose_net import PoseNet
from training.models.zoo import build_model

LOSS = LossSettings(offset_weight=0.15)


@pytest.fixture(scope="module")
def four_bits(source: Checkpoint, people: Path) -> Checkpoint:
    """The small network with 4-bit weights, as `samkr-edge quantize` would save it."""
    policy = changed_policy(load_policy("default"), bits=4)
    batches = calibration_images(source.card, data=people, count=16, seed=0).batches
    quantized, _ = quantize_network(network_of(source), policy, batches)
    card = replace(source.card, precision="int8", stage="ptq")
    state = {name: tensor.detach().clone() for name, tensor in quantized.state_dict().items()}
    return Checkpoint(card, source.config, state, "quantized", {}, {"policy": policy.model_dump(mode="json")})


def tune(
    start: Checkpoint,
    people: Path,
    out: Path,
    teacher: Checkpoint | None,
    steps: int,
    teacher_weight: float = 1.0,
    **more: Any,
) -> Checkpoint:
    recipe = load_recipe("qat", [f"schedule.steps={steps}", "batch_size=8", "threads=1", "precision=fp32"])
    recipe = as_taught(recipe, start.card.provenance["training"], start.config.decoding)
    network = network_of(start)
    hooks = FineTuning(
        network, LOSS, teacher=network_of(teacher) if teacher else None, teacher_weight=teacher_weight
    )
    return fit(network, start, recipe, open_dataset(people, "train"), out, hooks=hooks, **more)


def distance(network: PoseNet, teacher: PoseNet, people: Path, card: Any) -> float:
    """Relative error of the maps on images that were not trained on."""
    (images,) = calibration_images(card, data=people, count=8, seed=3).batches
    with torch.no_grad():
        image = normalise(torch.from_numpy(images))
        pairs = zip(network.eval()(image), teacher.eval()(image), strict=True)
        return sum(float((a - b).norm() / b.norm()) for a, b in pairs)


def test_a_teacher_pulls_four_bit_maps_towards_its_own(
    four_bits: Checkpoint, source: Checkpoint, people: Path, tmp_path: Path
) -> None:
    teacher = network_of(source)
    before = distance(network_of(four_bits), teacher, people, source.card)
    # The teacher of this test knows so little that labels would pull away from it: its maps alone shall count.
    finished = tune(four_bits, people, tmp_path, source, 32, teacher_weight=1000)
    assert distance(restore_network(finished), teacher, people, source.card) < 0.9 * before
    facts = finished.card.provenance["qat"]
    assert facts["freeze_at"] == 0.5
    assert len(facts["teacher"]) == 16
    train = open_dataset(people, "train")
    assert TrainedOn.from_dict(facts) == TrainedOn.of(train, train.images)


def test_a_stopped_and_resumed_run_ends_with_the_same_bits(
    four_bits: Checkpoint, source: Checkpoint, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tune(four_bits, people, tmp_path / "whole", source, 6)
    with monkeypatch.context() as patch:
        interrupt_after(2, patch)
        with pytest.raises(KeyboardInterrupt):
            tune(four_bits, people, tmp_path / "cut", source, 6)
    assert load_checkpoint(tmp_path / "cut" / LAST).training["step"] == 3
    assert not (tmp_path / "cut" / FINAL).exists()
    resumed = tune(four_bits, people, tmp_path / "cut", source, 6, resume=True)
    assert whole.state.keys() == resumed.state.keys()
    assert all(torch.equal(whole.state[name], resumed.state[name]) for name in whole.state)


def interrupt_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real SIGINT while this step is being made."""
    whole = fit_module.rate_factor

    def interrupting(schedule: Any, done: float, now: int) -> float:
        if now == step:
            os.kill(os.getpid(), signal.SIGINT)
        return whole(schedule, done, now)

    monkeypatch.setattr(fit_module, "rate_factor", interrupting)


def test_weight_ranges_follow_the_weights_and_then_stay(four_bits: Checkpoint) -> None:
    network = network_of(four_bits)
    hooks = FineTuning(network, LOSS, freeze_at=0.5)
    ranges = {name: q.amax.clone() for name, q in enabled_quantizers(network)}
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith("weight"):
                weight.mul_(1.5)
    hooks.before_step(network, 0.5)
    assert all(torch.equal(q.amax, ranges[name]) for name, q in enabled_quantizers(network))
    hooks.before_step(network, 0.49)
    for name, quantizer in enabled_quantizers(network):
        factor = 1.5 if name.endswith("weight_quantizer") else 1.0
        assert torch.allclose(quantizer.amax, factor * ranges[name]), name


def test_a_network_is_already_where_its_own_maps_would_have_it(source: Checkpoint) -> None:
    network = network_of(source)
    hooks = FineTuning(network, LOSS, teacher=network_of(source))
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    heatmap, offset = network(image)
    batch = {"mask": torch.ones_like(heatmap), "offset_weight": torch.ones_like(offset)}
    terms = hooks.terms(image, {"heatmap": heatmap, "offset": offset}, batch)
    assert sorted(terms) == ["teacher heatmap", "teacher offset"]
    # Not zero: the teacher keeps no gradients, and sums its convolutions in another order.
    assert all(float(value.detach()) < 1e-10 for value in terms.values())
    moved = hooks.terms(image, {"heatmap": heatmap + 0.1, "offset": offset + 1}, batch)
    assert all(float(value.detach()) > 0 for value in moved.values())


@pytest.fixture(scope="module")
def tagged(source: Checkpoint) -> Checkpoint:
    """A network that groups by tags, of fresh weights."""
    torch.manual_seed(0)
    config = replace(source.config, decoding="grouping", deconv_blocks=1)
    card = new_card(config, source.card.skeleton, config.input_size)
    return Checkpoint(card, config, build_model(config).state_dict())


def test_a_teacher_of_tags_says_nothing_of_what_all_of_an_image_have_in_common(tagged: Checkpoint) -> None:
    network = network_of(tagged)
    hooks = FineTuning(network, GroupingLossSettings(pull_weight=0.5), teacher=network_of(tagged))
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = {name: found.detach() for name, found in network.forward_training(image).items()}
    joints = torch.zeros(2, 3, 17, 2, dtype=torch.int64)  # the second image shows nobody
    joints[0, :2, :, 0] = torch.randint(0, 17 * 256, (2, 17), generator=torch.Generator().manual_seed(1))
    joints[0, :2, :, 1] = 1
    batch = {"valid_low": torch.ones(2, 1, 16, 16), "valid": torch.ones(2, 1, 32, 32), "joints": joints}
    for moved in (0.0, 3.0):
        terms = hooks.terms(image, {**maps, "tag": maps["tag"] + moved}, batch)
        assert sorted(terms) == ["teacher heatmap", "teacher tag"]
        assert all(float(value) < 1e-9 for value in terms.values())
    apart = maps["tag"].clone()
    apart.flatten(1)[0, joints[0, 0, :, 0]] += 2  # one of two people: 1 from the mean of both
    terms = hooks.terms(image, {**maps, "heatmap_low": maps["heatmap_low"] + 1, "tag": apart}, batch)
    assert float(terms["teacher heatmap"]) == pytest.approx(1)
    assert float(terms["teacher tag"]) == pytest.approx(0.5 * 1 / 2, rel=1e-3)
    assert tag_distance(apart, maps["tag"], 0 * joints) == 0


def test_a_network_with_tags_is_fine_tuned_by_the_same_loop(
    tagged: Checkpoint, people: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(
        "qat", ["schedule.steps=2", "batch_size=4", "threads=1", "precision=fp32", "log_steps=1"]
    )
    network = network_of(tagged)
    hooks = FineTuning(network, loss_settings(recipe, "grouping"), teacher=network_of(tagged))
    finished = fit(network, tagged, recipe, open_dataset(people, "train"), tmp_path, hooks=hooks)
    assert finished.card.provenance["training"]["loss"]["kind"] == "higherhrnet"
    assert '"teacher tag"' in (tmp_path / "log.jsonl").read_text()


def test_a_teacher_is_decoded_as_the_network_is(source: Checkpoint, tagged: Checkpoint) -> None:
    for teacher, student in ((source, tagged), (tagged, source)):
        with pytest.raises(SamkrError) as caught:
            open_teacher(teacher, "fp32.pt", student)
        assert caught.value.code == "SE-A79"
        assert teacher.config.decoding in caught.value.facts["teacher"]
        assert student.config.decoding in caught.value.facts["needed"]
    assert open_teacher(tagged, "fp32.pt", tagged).config == tagged.config


def test_the_control_trains_float_weights_and_leaves_statistics_alone(
    source: Checkpoint, people: Path, tmp_path: Path
) -> None:
    finished = tune(source, people, tmp_path, None, 3)
    assert finished.kind == "float"
    changed = {n for n in source.state if not torch.equal(source.state[n], finished.state[n])}
    assert any(name.endswith("conv1.weight") for name in changed)
    assert not any("running_" in name or "num_batches" in name for name in changed)


def test_a_teacher_must_be_float(four_bits: Checkpoint, source: Checkpoint) -> None:
    with pytest.raises(SamkrError) as caught:
        open_teacher(four_bits, "ptq.pt", source)
    assert caught.value.code == "SE-A79"
    assert open_teacher(source, "fp32.pt", four_bits).config == source.config


def test_a_teacher_has_the_keypoints_of_the_network(source: Checkpoint) -> None:
    other = replace(source.card.skeleton, keypoints=source.card.skeleton.keypoints[::-1])
    with pytest.raises(SamkrError, match="network and the teacher have different keypoints") as caught:
        open_teacher(source, "fp32.pt", replace(source, card=replace(source.card, skeleton=other)))
    assert caught.value.code == "SE-D26"


def test_a_quantized_network_is_not_compiled_in_pieces(source: Checkpoint, four_bits: Checkpoint) -> None:
    assert callable(compiled(network_of(source)))
    with pytest.raises(SamkrError) as caught:
        compiled(network_of(four_bits))
    assert (caught.value.code, caught.value.fix) == ("SE-U34", "--set compile=false")
