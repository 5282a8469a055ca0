"""A run can be stopped anywhere and goes on to the same weights; what is on disk is always whole."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_run import RECIPE, same, train

import training.loop.fit as fit_module
from samkr_edge.dataset.keypoint_dataset import KeypointDataset
from samkr_edge.dataset.trained_on import TrainedOn, trainings_of
from samkr_edge.errors import SamkrError
from samkr_edge.pose.skeleton import CROWDPOSE14
from training.checkpoint import load_checkpoint, network_of, save_checkpoint
from training.data.training_set import TrainingSet
from training.loop.journal import LOG
from training.loop.losses import PoseLoss
from training.loop.run import BEST, FINAL, LAST


def interrupt_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send a real SIGINT while this step is being made."""
    whole = fit_module.rate_factor

    def interrupting(schedule: Any, done: float, now: int) -> float:
        if now == step:
            os.kill(os.getpid(), signal.SIGINT)
        return whole(schedule, done, now)

    monkeypatch.setattr(fit_module, "rate_factor", interrupting)


def every_step_takes(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock of the run, however busy this machine is."""
    whole, now = fit_module.rate_factor, [0.0]

    def ticking(schedule: Any, done: float, step: int) -> float:
        now[0] += seconds
        return whole(schedule, done, step)

    monkeypatch.setattr(fit_module, "rate_factor", ticking)
    monkeypatch.setattr("training.loop.clock.time", SimpleNamespace(monotonic=lambda: now[0]))


@pytest.mark.parametrize(
    "changes",
    [
        {"validation": {"every_epochs": 1, "images": 1}},
        {"accumulate": 2},
        {"schedule": {"epochs": 3, "milestones": [0.5]}, "ema": None},
        {"precision": "fp16", "schedule": {"steps": 4}},
    ],
    ids=["cosine, average, validation", "accumulated", "epochs, no average", "fp16"],
)
def test_a_stopped_and_resumed_run_ends_with_the_same_bits(
    tmp_path: Path, people: KeypointDataset, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    whole = train(tmp_path / "whole", people, **changes)
    with monkeypatch.context() as patch:
        interrupt_at(2, patch)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "cut", people, **changes)
    # The step during which the signal came was finished.
    cut = load_checkpoint(tmp_path / "cut" / LAST)
    assert cut.training["step"] == 3
    # As a run leaves it that began with another's weights, which a continuation does not open again.
    began = {"trained_on": [TrainedOn("val", "0" * 64).to_dict()]}
    save_checkpoint(tmp_path / "cut" / LAST, replace(cut, card=cut.card.with_provenance(init=began)))
    assert not (tmp_path / "cut" / FINAL).exists()
    resumed = train(tmp_path / "cut", people, resume=True, **changes)
    assert same(whole.state, resumed.state)
    assert [training.split for training in trainings_of(resumed.card)] == ["train", "val"]
    assert same(load_checkpoint(tmp_path / "cut" / FINAL).state, whole.state)
    ends = [load_checkpoint(tmp_path / name / LAST) for name in ("whole", "cut")]
    assert same(ends[0].state, ends[1].state)
    assert ends[0].training["images"] == ends[1].training["images"]


def test_more_threads_than_cores_are_refused_before_anything_is_written(
    tmp_path: Path, people: KeypointDataset
) -> None:
    with pytest.raises(SamkrError) as caught:
        train(tmp_path / "out", people, threads=20_000)
    assert caught.value.code == "SE-U55"
    assert not (tmp_path / "out").exists()


def test_two_runs_with_one_seed_are_equal_and_with_two_are_not(
    tmp_path: Path, people: KeypointDataset
) -> None:
    # More threads making batches change nothing.
    first = train(tmp_path / "a", people, data={**RECIPE["data"], "workers": 3})
    assert same(first.state, train(tmp_path / "b", people).state)
    assert not same(first.state, train(tmp_path / "c", people, seed=1).state)


def test_training_learns(tmp_path: Path, people: KeypointDataset) -> None:
    train(tmp_path, people, schedule={"steps": 60, "warmup_steps": 5}, data={**RECIPE["data"], "flip": 0})
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 40, 60]
    assert all(line["loader_images_per_s"] > 0 and line["images_per_s"] > 0 for line in lines)
    assert lines[-1]["heatmap"] < 0.8 * lines[0]["heatmap"]


def test_the_finished_file_holds_a_network_and_where_it_came_from(
    tmp_path: Path, people: KeypointDataset
) -> None:
    train(tmp_path, people)
    final = load_checkpoint(tmp_path / FINAL)
    facts = final.card.provenance["training"]
    assert (facts["recipe"], facts["steps"], facts["images"]) == ("test", 6, 24)
    assert final.training == {}
    heatmap, offset = network_of(final)(torch.zeros(1, 3, 64, 64))
    assert (heatmap.shape, offset.shape) == ((1, 18, 16, 16), (1, 34, 16, 16))
    assert (tmp_path / FINAL).stat().st_size < 0.6 * (tmp_path / LAST).stat().st_size
    network_of(load_checkpoint(tmp_path / LAST))  # a checkpoint like any other


def test_a_run_leaves_on_every_card_what_it_learned_from(tmp_path: Path, people: KeypointDataset) -> None:
    nobody = people.images[0].id
    some = replace(people, annotations={**people.annotations, nobody: []})
    train(tmp_path, some, schedule={"steps": 2}, validation={"every_epochs": 1, "images": 1})
    for name in (LAST, BEST, FINAL):
        (found,) = trainings_of(load_checkpoint(tmp_path / name).card)
        assert found == TrainedOn.of(people, people.images[1:])


def test_a_finished_run_is_not_trained_again(
    tmp_path: Path, people: KeypointDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    people = replace(people, told={"category": ["annotation 1 (image 2): 9"]})
    first = train(tmp_path, people)
    shown = capsys.readouterr().err
    assert "data: annotations of a category that the file does not describe, skipped (1)" in shown
    assert "loader alone" in shown
    before = (tmp_path / FINAL).stat().st_mtime_ns
    again = train(tmp_path, people, resume=True, threads=None)
    assert same(first.state, again.state)
    assert (tmp_path / FINAL).stat().st_mtime_ns == before
    assert "finished" in capsys.readouterr().err


def test_a_run_does_not_go_on_with_pictures_changed_in_place(tmp_path: Path, people: KeypointDataset) -> None:
    train(tmp_path / "run", people, schedule={**RECIPE["schedule"], "steps": 1})
    changed = [replace(image, path=tmp_path / image.path.name) for image in people.images]
    for old, new in zip(people.images, changed, strict=True):
        new.path.write_bytes(old.path.read_bytes()[:-1] + b"x")
    with pytest.raises(SamkrError) as caught:
        train(
            tmp_path / "run",
            replace(people, images=tuple(changed)),
            resume=True,
            schedule={**RECIPE["schedule"], "steps": 1},
        )
    assert caught.value.code == "SE-A38"
    assert list(caught.value.facts) == ["pictures"]


def test_other_settings_are_not_mixed_into_a_run(tmp_path: Path, people: KeypointDataset) -> None:
    train(tmp_path, people)
    with pytest.raises(SamkrError) as caught:
        train(tmp_path, people, resume=True, optimizer={**RECIPE["optimizer"], "lr": 1e-4})
    assert caught.value.code == "SE-A38"
    assert caught.value.facts == {"optimizer.lr": "was 0.002, now 0.0001"}


def test_a_run_of_another_version_is_not_told_that_its_settings_would_do(
    tmp_path: Path, people: KeypointDataset
) -> None:
    train(tmp_path, people)
    stopped = load_checkpoint(tmp_path / "last.pt")
    fingerprint = json.loads(stopped.training["fingerprint"])
    del fingerprint["recipe"]["data"]["crop"]
    stopped.training["fingerprint"] = json.dumps(fingerprint)
    save_checkpoint(tmp_path / "last.pt", stopped)
    with pytest.raises(SamkrError) as caught:
        train(tmp_path, people, resume=True)
    assert caught.value.facts == {"data.crop": "was no setting, now fit"}
    assert caught.value.fix == "use another --out: the run was started by another version"


def test_a_run_measured_in_minutes_goes_on_with_the_minutes_left(
    tmp_path: Path, people: KeypointDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = {"kind": "cosine", "minutes": 1}
    every_step_takes(25, monkeypatch)
    with monkeypatch.context() as patch:
        interrupt_at(1, patch)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, people, schedule=schedule)
    assert load_checkpoint(tmp_path / LAST).training["minutes"] == pytest.approx(50 / 60)
    finished = train(tmp_path, people, resume=True, schedule=schedule)
    assert finished.card.provenance["training"]["minutes"] == pytest.approx(75 / 60, abs=0.005)


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_stops_before_it_reaches_the_weights(
    tmp_path: Path, people: KeypointDataset, monkeypatch: pytest.MonkeyPatch, poison: str
) -> None:
    whole = PoseLoss.__call__
    steps = []

    def poisoned(self: Any, maps: dict[str, torch.Tensor], batch: Any) -> dict[str, torch.Tensor]:
        heatmap, terms = maps["heatmap"], whole(self, maps, batch)
        steps.append(terms)
        if len(steps) == 3:
            # sqrt(0) is finite and has an infinite slope.
            terms["heatmap"] = terms["heatmap"] + (
                (heatmap * 0).sum() * float("nan") if poison == "loss" else (heatmap * 0).abs().sum().sqrt()
            )
        return terms

    monkeypatch.setattr(PoseLoss, "__call__", poisoned)
    with pytest.raises(SamkrError) as caught:
        train(tmp_path, people, save_seconds=1e-9)
    assert caught.value.code == "SE-D37"
    assert caught.value.facts["last good"] == str(tmp_path / LAST)
    ids = {int(text) for text in caught.value.facts["images"].split(",")}
    assert ids <= {image.id for image in people.images}
    good = load_checkpoint(tmp_path / LAST)
    assert good.training["step"] == 2
    assert all(tensor.isfinite().all() for tensor in good.state.values())


def test_data_with_other_keypoints_is_refused(tmp_path: Path, people: KeypointDataset) -> None:
    with pytest.raises(SamkrError) as caught:
        train(tmp_path, replace(people, skeleton=CROWDPOSE14))
    assert caught.value.code == "SE-D26"
    assert "coco17" in caught.value.facts["network"]
    assert "crowdpose14" in caught.value.facts["data"]


def test_an_image_that_cannot_be_read_ends_the_run_with_its_name(
    tmp_path: Path, people: KeypointDataset
) -> None:
    broken = tuple(replace(image, path=tmp_path / "gone.jpg") for image in people.images)
    with pytest.raises(SamkrError, match=r"gone\.jpg"):
        train(tmp_path, replace(people, images=broken))


def test_accumulated_batches_count_as_one_step(tmp_path: Path, people: KeypointDataset) -> None:
    # 10 images, batches of 4: 2 batches an epoch; 3 epochs in updates of 2 batches are 3 steps.
    done = train(tmp_path, people, accumulate=2, schedule={"epochs": 3})
    assert (
        done.card.provenance["training"]["steps"],
        done.card.provenance["training"]["images"],
    ) == (3, 24)


def test_the_order_of_an_epoch_is_a_permutation(people: KeypointDataset) -> None:
    samples = TrainingSet(people, (64, 64))
    assert sorted(samples.order(0)) == list(range(len(samples)))
    assert list(samples.order(0)) != list(samples.order(1))
