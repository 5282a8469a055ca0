"""Images are known again by their bytes, whatever their annotation file, their names and their number."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from samkr_edge.dataset import picture_sketch, trained_on
from samkr_edge.dataset.keypoint_dataset import KeypointDataset, open_dataset
from samkr_edge.dataset.picture_sketch import KEPT, Sketch
from samkr_edge.dataset.trained_on import TrainedOn, require_unseen, trainings_of
from samkr_edge.errors import SamkrError
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.skeleton import COCO17

SplitMaker = Callable[..., KeypointDataset]


@pytest.fixture
def split_of(tmp_path: Path) -> SplitMaker:
    """Makes a split whose pictures, none of them an image, are so many bytes long and drawn by their number."""

    def make(name: str, pictures: range, *, size: int | None = None, prefix: str = "") -> KeypointDataset:
        folder = tmp_path / "images" / f"{name}2017"
        folder.mkdir(parents=True)
        (tmp_path / "annotations").mkdir(exist_ok=True)
        for number in pictures:
            random = np.random.default_rng(number)
            (folder / f"{prefix}{number}.jpg").write_bytes(random.bytes(size or 50 + 7 * number))
        person = {"image_id": pictures[0], "keypoints": [9, 9, 2] * 17, "bbox": [1, 1, 9, 9], "area": 81}
        content = {
            "images": [
                {"id": number, "file_name": f"{prefix}{number}.jpg", "width": 20, "height": 20}
                for number in pictures
            ],
            "annotations": [{"id": 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 17, **person}],
            "categories": [{"id": 1, "name": "person", "keypoints": COCO17.keypoints, "skeleton": []}],
        }
        path = tmp_path / "annotations" / f"person_keypoints_{name}2017.json"
        path.write_text(json.dumps(content))
        return open_dataset(tmp_path, name)

    return make


def card_of(dataset: KeypointDataset, place: str = "training") -> ModelCard:
    """Of a network trained on a split, after it travelled as JSON."""
    card = ModelCard("samkr_tiny", COCO17, (64, 64)).with_provenance(
        **{place: TrainedOn.of(dataset, dataset.images).to_dict()}
    )
    return ModelCard.from_json(card.to_json())


def asked(card: ModelCard, dataset: KeypointDataset, **more: bool) -> trained_on.Seen:
    return require_unseen({"final.pt": trainings_of(card)}, dataset, dataset.images, **more)


def refused(card: ModelCard, dataset: KeypointDataset) -> SamkrError:
    with pytest.raises(SamkrError) as caught:
        asked(card, dataset)
    assert caught.value.code == "SE-D45"
    return caught.value


@pytest.mark.parametrize("place", ["training", "qat", "control"])
def test_the_split_that_was_trained_on_is_refused(split_of: SplitMaker, place: str) -> None:
    train, val = split_of("train", range(30)), split_of("val", range(30, 40))
    error = refused(card_of(train, place), train)
    assert error.facts["trained on"].startswith("train, 30 images")
    assert error.fix.startswith("run the same command with --split val ")
    assert asked(card_of(train, place), val) == trained_on.Seen()


def test_on_purpose_it_is_measured_and_told(split_of: SplitMaker) -> None:
    train = split_of("train", range(30))
    seen = asked(card_of(train), train, anyway=True)
    assert seen.models == {"final.pt"}
    assert seen.notes[0].startswith("train-fit AP: final.pt was trained on train, 30 images")


@pytest.mark.parametrize("size", [None, 64])
@pytest.mark.parametrize("kept", [10, KEPT])
def test_pictures_are_known_in_another_file_under_other_names(
    split_of: SplitMaker, monkeypatch: pytest.MonkeyPatch, size: int | None, kept: int
) -> None:
    monkeypatch.setattr(picture_sketch, "KEPT", kept)
    trainval = split_of("trainval", range(200), size=size)
    part = split_of("val", range(100, 200), size=size, prefix="copy-")
    other = split_of("test", range(200, 300), size=size)
    card = card_of(trainval)
    all_of_them = "100 of 100 compared" in refused(card, part).facts["evaluated"]
    assert all_of_them == (kept == KEPT)
    assert refused(card, part).fix.startswith("run the same command with --split test ")
    assert asked(card, other) == trained_on.Seen()


def test_a_sketch_reads_the_pictures_it_keeps_and_no_others(
    split_of: SplitMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(picture_sketch, "KEPT", 16)
    monkeypatch.setattr(picture_sketch, "_content_hash", lambda file: read.append(file) or bytes(4))
    Sketch.of([image.path for image in split_of("train", range(200)).images])
    assert len(read) == 16


def test_the_share_that_is_seen_is_the_share_there_is(
    split_of: SplitMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_sketch, "KEPT", 300)
    train, val = split_of("train", range(1000)), split_of("val", range(800, 1600))
    pictures = Sketch.of([image.path for image in train.images])
    compared, common = trained_on.Evaluated(val, val.images).pictures.common_with(pictures)
    assert compared > 150
    assert common / compared == pytest.approx(0.25, abs=0.07)


@pytest.mark.parametrize(("common", "stops"), [(0, False), (1, False), (2, False), (3, True), (40, True)])
def test_a_few_common_pictures_are_told_and_more_are_refused(
    split_of: SplitMaker, common: int, stops: bool
) -> None:
    """Two of a hundred are what AP does not notice, and what splits made in good faith may share."""
    train, val = split_of("train", range(100)), split_of("val", range(100 - common, 200 - common))
    if stops:
        assert f"{common} of 100 compared" in refused(card_of(train), val).facts["evaluated"]
        return
    seen = asked(card_of(train), val)
    assert seen.models == frozenset()
    assert [f"{common} of 100 compared" in note for note in seen.notes] == [True] * bool(common)


def test_weights_that_a_network_started_from_count(split_of: SplitMaker) -> None:
    train, val = split_of("train", range(30)), split_of("val", range(30, 40))
    started = {"trained_on": [each.to_dict() for each in trainings_of(card_of(val))]}
    assert refused(card_of(train).with_provenance(init=started), val).facts["trained on"].startswith("val")


def test_an_older_card_is_asked_by_its_annotation_file(split_of: SplitMaker) -> None:
    train, val = split_of("train", range(30)), split_of("val", range(29))
    digest = TrainedOn.of(train, ()).annotations_sha256
    old = ModelCard("samkr_tiny", COCO17, (64, 64)).with_provenance(training={"annotations_sha256": digest})
    assert "does not name" in refused(old, train).facts["trained on"]
    assert asked(old, val) == trained_on.Seen()


@pytest.mark.parametrize(
    "pictures",
    [None, 3, [], {}, {"images": "x", "sha256": "", "up_to": None}, {"images": 1, "sha256": "%", "up_to": None},
     {"images": 1, "sha256": "", "up_to": "zz"}, {"images": float("inf"), "sha256": "", "up_to": None},
     {"images": 1, "sha256": 7, "up_to": 7}],
)  # fmt: skip
def test_a_record_that_is_none_says_nothing(pictures: object) -> None:
    record = {"split": 3, "annotations_sha256": "0" * 64, "pictures": pictures}
    assert TrainedOn.from_dict(record) == TrainedOn("", "0" * 64)
    assert TrainedOn.from_dict(pictures) is None


def test_models_of_one_training_are_refused_together(split_of: SplitMaker) -> None:
    train = split_of("train", range(30))
    trainings = trainings_of(card_of(train))
    with pytest.raises(SamkrError) as caught:
        require_unseen({"FP32": trainings, "INT8": trainings, "other": []}, train, train.images)
    assert caught.value.message.startswith("FP32 was trained on")
    assert caught.value.facts["likewise"] == "INT8"


def test_without_another_split_the_fix_makes_one(split_of: SplitMaker) -> None:
    train = split_of("train", range(3))
    assert "samkr-edge data split" in refused(card_of(train), train).fix
