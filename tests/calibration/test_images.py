"""Which images calibrate: a stable choice that covers the split and never meets the evaluation split."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.images import load_batches, probe_images, select_images
from calibration.inputs import calibration_images
from samkr_edge.dataset.keypoint_dataset import KeypointDataset, open_dataset
from samkr_edge.errors import SamkrError
from samkr_edge.images import read_image
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.skeleton import COCO17
from training.data.rendered.dataset import SynthSettings, write_dataset
from training.data.rendered.scene import SceneSettings


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "people"
    scene = SceneSettings(size=64, people=(1, 4), person_height=(0.3, 0.98))
    write_dataset(path, SynthSettings(train=40, val=8, scene=scene))
    return path


@pytest.fixture(scope="module")
def train(root: Path) -> KeypointDataset:
    return open_dataset(root, "train")


def test_the_choice_depends_on_the_seed_alone(train: KeypointDataset) -> None:
    one, again, other = (select_images(train, None, 12, seed) for seed in (0, 0, 1))
    assert one.hashes == again.hashes
    assert one.hashes != other.hashes
    assert len(set(one.hashes)) == 12


def test_every_kind_of_image_is_in_the_choice(train: KeypointDataset) -> None:
    selection = select_images(train, None, 16)
    assert sum(taken for taken, _ in selection.coverage.values()) == 16
    assert sum(of for _, of in selection.coverage.values()) == 40
    assert all(taken >= 1 for taken, _ in selection.coverage.values())


def test_asking_for_more_than_there_is_gives_all(train: KeypointDataset) -> None:
    assert len(select_images(train, None, 1000).images) == 40


def test_an_image_of_the_evaluation_split_is_refused_by_its_bytes(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "people"
    shutil.copytree(root, copy)
    val = sorted((copy / "images" / "val2017").iterdir())[0]
    for image in (copy / "images" / "train2017").iterdir():
        shutil.copy(val, image)
    with pytest.raises(SamkrError) as caught:
        select_images(open_dataset(copy, "train"), open_dataset(copy, "val"), 8)
    assert caught.value.code == "SE-D41"
    assert val.name in str(caught.value)


def test_a_split_without_people_is_refused(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "people"
    shutil.copytree(root, copy)
    path = copy / "annotations" / "person_keypoints_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"] = []
    path.write_text(json.dumps(content))
    with pytest.raises(SamkrError) as caught:
        select_images(open_dataset(copy, "train"), None, 8)
    assert caught.value.code == "SE-D40"


def test_batches_have_the_network_s_shape(train: KeypointDataset) -> None:
    selection = select_images(train, None, 5)
    shapes = [batch.shape for batch in load_batches(selection.images, (64, 96), 2)]
    assert shapes == [(2, 64, 96, 3), (2, 64, 96, 3), (1, 64, 96, 3)]


def test_calibration_names_images_that_decoders_complain_about(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(root, tmp_path / "people")
    images = select_images(open_dataset(tmp_path / "people", "train"), None, 5).images
    data = cv2.imencode(".jpg", np.full((64, 64, 3), 90, np.uint8))[1].tobytes()
    images[3].path.write_bytes(data[:-2] + bytes(range(1, 16)) + data[-2:])
    assert len(list(load_batches(images, (64, 96), 2))) == 3
    said = capfd.readouterr().err
    assert said.startswith(
        f"1 image is partly damaged, and read as far as possible: {images[3].path} (Corrupt JPEG"
    )
    assert said.count("\n") == 1


def test_the_pictures_that_travel_show_few_and_large_people(train: KeypointDataset) -> None:
    selection = select_images(train, None, 16)
    pictures = probe_images(train, selection.images, 4)
    assert len(pictures) == 4

    def smallest(image_id: int) -> float:
        boxes = [annotation["bbox"] for annotation in train.annotations[image_id]]
        return min(max(box[2:]) for box in boxes)

    shown = [
        image
        for image in selection.images
        if any(np.array_equal(read_image(image.path), p) for p in pictures)
    ]
    everybody = sorted(smallest(image.id) for image in selection.images)
    assert min(smallest(image.id) for image in shown) > everybody[0]


def test_calibration_tells_which_labels_may_be_turned(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "people"
    shutil.copytree(root, copy)
    # Big-endian TIFF with one entry: orientation 3.
    exif = b"Exif\0\0" + bytes.fromhex("4d4d002a 00000008 0001 0112 0003 00000001 00030000 00000000")
    for image in open_dataset(copy, "train").images[:30]:
        data = image.path.read_bytes()
        segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
        image.path.write_bytes(data[:2] + segment + data[2:])
    calibration_images(ModelCard("samkr_tiny", COCO17, (64, 64)), data=copy, count=40, seed=0)
    assert "data: 30 of 40 images have an EXIF orientation" in " ".join(capsys.readouterr().err.split())


def test_one_keypoint_is_enough_to_be_shown(train: KeypointDataset) -> None:
    annotations = {
        image: [{**person, "keypoints": [30, 30, 2] + [0] * 48} for person in people]
        for image, people in train.annotations.items()
    }
    assert len(select_images(replace(train, annotations=annotations), None, 8).images) == 8
