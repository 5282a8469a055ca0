"""Batch norm statistics taken anew: those of the given weights, the same every time, and nothing else changes."""

import pytest
import torch

from samkr_edge.dataset.keypoint_dataset import open_dataset
from training.data.rendered.dataset import SynthSettings, write_dataset
from training.data.rendered.scene import SceneSettings
from training.data.training_set import TrainingSet
from training.loop.norms import settle_norms
from training.models.deploy import normalise
from training.models.pose_net import PoseNet
from training.models.zoo import build_model, model_config


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    root = tmp_path_factory.mktemp("norms") / "people"
    write_dataset(root, SynthSettings(train=8, val=1, scene=SceneSettings(size=64)))
    return TrainingSet(open_dataset(root, "train"), (64, 64))


@pytest.fixture(scope="module")
def network() -> PoseNet:
    torch.manual_seed(0)
    return build_model(model_config("samkr_tiny"))


def test_the_statistics_are_those_of_the_images(network: PoseNet, samples: TrainingSet) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    settled = settle_norms(network, before, samples, 2, 4).state_dict()
    images = [samples.sample(0, index)["image"] for index in samples.order(0).tolist()]
    with torch.no_grad():
        first = network.backbone.conv1(normalise(torch.stack(images)))
    assert torch.allclose(settled["backbone.bn1.running_mean"], first.mean((0, 2, 3)), atol=1e-4)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
        if "running_" not in name and "num_batches" not in name:
            assert torch.equal(settled[name], before[name]), name


def test_the_same_weights_get_the_same_statistics(network: PoseNet, samples: TrainingSet) -> None:
    one, again = (settle_norms(network, network.state_dict(), samples, 2, 4).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], again[name]) for name in one)


def test_a_last_batch_of_one_image_is_left_out(network: PoseNet, samples: TrainingSet) -> None:
    whole = settle_norms(network, network.state_dict(), samples, 1, 7).state_dict()
    longer = settle_norms(network, network.state_dict(), samples, 2, 7).state_dict()
    assert torch.equal(whole["backbone.bn1.running_mean"], longer["backbone.bn1.running_mean"])
