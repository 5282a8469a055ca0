"""AP during training is that of the averaged weights on other images, and leaves no trace in the training itself."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import SMALL, same, train

from samkr_edge.dataset.keypoint_dataset import KeypointDataset, open_dataset
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.ap import predict_dataset, score
from samkr_edge.evaluation.scores import Scores
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.skeleton import COCO17
from samkr_edge.pose_model import load_model
from training.checkpoint import load_checkpoint
from training.loop import validation as validation_module
from training.loop.ema import WeightAverage
from training.loop.journal import LOG
from training.loop.recipe import ValidationSection
from training.loop.resume import RunState
from training.loop.run import BEST, FINAL, LAST
from training.loop.validation import Validation
from training.models.zoo import build_model

EVERY_EPOCH = {"validation": {"every_epochs": 1, "images": 2}}


def lines_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / LOG).read_text().splitlines()]


def scripted(monkeypatch: pytest.MonkeyPatch, *aps: float) -> None:
    """Let validation find these APs, one after the other; the last one for ever."""
    left = list(aps)

    def scores(*_: Any) -> Scores:
        return Scores(ap=left.pop(0) if len(left) > 1 else left[0], ap50=0, ap75=0, ar=0)

    monkeypatch.setattr(validation_module, "score", scores)


def test_it_changes_no_bit_of_the_training(tmp_path: Path, people: KeypointDataset) -> None:
    plain = train(tmp_path / "plain", people)
    validated = train(tmp_path / "validated", people, **EVERY_EPOCH)
    assert same(plain.state, validated.state)
    ends = [load_checkpoint(tmp_path / name / LAST) for name in ("plain", "validated")]
    assert same(ends[0].state, ends[1].state)


def test_the_log_has_ap_after_every_epoch_and_at_the_end(tmp_path: Path, people: KeypointDataset) -> None:
    # 10 images, batches of 4: an epoch is two steps.
    done = train(tmp_path, people, **EVERY_EPOCH, schedule={"steps": 5}, log_steps=2)
    lines = lines_of(tmp_path)
    assert [line["step"] for line in lines if "ap" in line] == [2, 4, 5]
    assert [line["step"] for line in lines if "heatmap" in line] == [2, 4]
    assert done.card.provenance["training"]["validation"] == {
        "ap": pytest.approx(lines[-1]["ap"], abs=1e-3), "metric": "AP", "where": "2 images of val", "step": 5,
    }  # fmt: skip


def test_the_ap_is_that_of_the_file_that_is_written(
    tmp_path: Path, people: KeypointDataset, people_folder: Path
) -> None:
    train(tmp_path, people, validation={"every_epochs": 100}, schedule={"steps": 30})
    held_out = open_dataset(people_folder, "val")
    again = score(held_out, predict_dataset(load_model(tmp_path / FINAL), held_out))
    (line,) = [line for line in lines_of(tmp_path) if "ap" in line]
    assert {name: line[name] for name in again.to_dict()} == pytest.approx(again.to_dict())


def test_statistics_taken_anew_have_their_own_ap_on_the_card(
    tmp_path: Path, people: KeypointDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, 10.0, 30.0)
    measured: list[dict[str, Any]] = []
    measure = Validation.measure

    def listening(self: Validation, network: Any, *rest: Any) -> Scores:
        measured.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return measure(self, network, *rest)

    monkeypatch.setattr(Validation, "measure", listening)
    done = train(tmp_path, people, validation={"every_epochs": 100}, norm_batches=2)
    assert done.card.provenance["training"]["validation"]["ap"] == 30.0
    assert [line["ap"] for line in lines_of(tmp_path) if "ap" in line] == [10.0]
    assert [same(done.state, state) for state in measured] == [False, True]


def test_the_best_is_kept_with_its_weights_and_its_ap(
    tmp_path: Path, people: KeypointDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, 10.0, 30.0, 20.0)
    train(tmp_path, people, **EVERY_EPOCH, schedule={"steps": 6})
    best = load_checkpoint(tmp_path / BEST)
    facts = best.card.provenance["training"]
    assert (facts["steps"], facts["validation"]["ap"], best.training) == (4, 30.0, {})
    assert facts["chosen"] == "best by validation"
    assert "chosen" not in load_checkpoint(tmp_path / FINAL).card.provenance["training"]
    # Constant rate: a run of four steps ends where the longer one was then.
    assert same(best.state, train(tmp_path / "four", people, schedule={"steps": 4}).state)


def test_a_resumed_run_remembers_its_best(
    tmp_path: Path, people: KeypointDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, 30.0, 20.0)
    constant = {"schedule": {"steps": 8}}

    class Stopped(Exception):
        pass

    measure = Validation.measure

    def stopping(self: Validation, *arguments: Any) -> Scores:
        scores = measure(self, *arguments)
        if scores.ap == 20.0:
            raise Stopped
        return scores

    with monkeypatch.context() as patch:
        patch.setattr(Validation, "measure", stopping)
        with pytest.raises(Stopped):
            train(tmp_path, people, **EVERY_EPOCH, **constant)
    assert load_checkpoint(tmp_path / LAST).training["step"] == 2  # saved after the validation, unasked
    train(tmp_path, people, resume=True, **EVERY_EPOCH, **constant)
    assert load_checkpoint(tmp_path / BEST).card.provenance["training"]["steps"] == 2
    assert [line["step"] for line in lines_of(tmp_path) if "ap" in line] == [2, 4, 6, 8]


def test_ap_on_other_images_starts_a_new_comparison(people: KeypointDataset) -> None:
    state = RunState(step=3)
    first = Validation(ValidationSection(every_epochs=1, images=1), people)
    second = Validation(ValidationSection(every_epochs=1, images=2), people)
    assert first.is_best(state, Scores(50, 0, 0, 0))
    assert not first.is_best(state, Scores(40, 0, 0, 0))
    assert second.is_best(state, Scores(40, 0, 0, 0))


def test_minutes_are_counted_from_mark_to_mark(people: KeypointDataset) -> None:
    every_two = Validation(ValidationSection(every_minutes=2), people)
    assert every_two.due(RunState(step=1, minutes=4.1), 3.9, 1.0)
    assert not every_two.due(RunState(step=1, minutes=5.9), 4.1, 1.0)


def test_training_images_are_called_what_they_are(people: KeypointDataset) -> None:
    assert Validation(ValidationSection(every_epochs=1, split="train"), people).label == "train-fit AP"


def test_a_split_that_is_trained_on_under_another_name_is_refused(people: KeypointDataset) -> None:
    with pytest.raises(SamkrError) as caught:
        Validation(ValidationSection(every_epochs=1, split="train"), replace(people, split="trainval"))
    assert caught.value.code == "SE-D73"
    assert "10 of the 10 images" in caught.value.message


def test_the_network_gets_its_own_weights_and_mode_back(people: KeypointDataset) -> None:
    network = build_model(SMALL).train()
    average = WeightAverage(network, 0.9)
    for tensor in average.state.values():
        tensor.zero_()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with average.lent_to(network):
        assert not any(tensor.any() for tensor in network.state_dict().values())
    assert same(before, dict(network.state_dict()))
    card = ModelCard("small", COCO17, SMALL.input_size)
    one = Validation(ValidationSection(every_epochs=1, images=1), people)
    one.measure(network, card, torch.device("cpu"))
    assert all(module.training for module in network.modules())
