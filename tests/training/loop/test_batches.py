"""Batches are made of what can be learned from, or the run ends."""

import shlex
from dataclasses import replace

import pytest

from samkr_edge.dataset.keypoint_dataset import KeypointDataset
from samkr_edge.errors import SamkrError
from training.data.settings import AugmentSettings
from training.data.training_set import TrainingSet
from training.loop.batches import Batches
from training.loop.recipe_file import load_recipe


def _first(people: KeypointDataset, augment: AugmentSettings, count: int) -> None:
    batches = Batches(TrainingSet(people, (64, 64), None, augment), 8, 0, 1, 1)
    try:
        for _ in range(count):
            batches.next()
    finally:
        batches.close()


def test_a_run_in_which_nobody_has_a_centre_ends_and_its_fix_helps(people: KeypointDataset) -> None:
    with pytest.raises(SamkrError) as caught:
        _first(people, AugmentSettings(scale=(1, 1), translation=500), 9)
    assert caught.value.code == "SE-D20"
    assert caught.value.facts["images"] == f"10 of {people.annotation_path}"
    settings = [word for word in shlex.split(str(caught.value.fix)) if "=" in word]
    data = load_recipe("samkr_tiny", settings).data
    _first(people, AugmentSettings(data.rotation, data.scale, data.translation), 9)


def test_ids_of_63_bits_travel_with_their_images(people: KeypointDataset) -> None:
    record = replace(people.images[0], id=2**63 - 1)
    large = replace(
        people, images=(record,), annotations={record.id: people.annotations[people.images[0].id]}
    )
    batches = Batches(TrainingSet(large, (64, 64)), 2, 0, 1, 2)
    assert batches.next()["image_id"].tolist() == [record.id] * 2
    batches.close()


def test_a_few_draws_with_nobody_are_an_accident(people: KeypointDataset) -> None:
    _first(people, AugmentSettings(scale=(1, 1), translation=500), 7)
