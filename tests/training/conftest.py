"""Rendered people for the tests of training."""

from pathlib import Path

import pytest

from samkr_edge.dataset.keypoint_dataset import KeypointDataset, open_dataset
from training.data.rendered.dataset import SynthSettings, write_dataset


@pytest.fixture(scope="session")
def people_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images to train on and four to validate, in COCO's layout."""
    folder = tmp_path_factory.mktemp("people") / "data"
    write_dataset(folder, SynthSettings(train=10, val=4), processes=1)
    return folder


@pytest.fixture(scope="session")
def crowd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images and one, in CrowdPose's layout."""
    folder = tmp_path_factory.mktemp("crowd") / "data"
    write_dataset(folder, SynthSettings(train=4, val=1, keypoints="crowdpose"), processes=1)
    return folder


@pytest.fixture(scope="session")
def people(people_folder: Path) -> KeypointDataset:
    return open_dataset(people_folder, "train")
