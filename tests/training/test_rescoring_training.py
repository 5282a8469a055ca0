"""Training of the rescoring network on predictions, and its use in eval."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samkr_edge.cli import run
from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.protocol import Protocol
from samkr_edge.evaluation.rescoring import PoseFeatures, load_rescoring
from samkr_edge.pose.decode_settings import DecodeSettings
from samkr_edge.pose.skeleton import COCO17
from training.checkpoint import save_checkpoint, untrained_checkpoint
from training.data.rendered.dataset import SynthSettings, write_dataset
from training.data.rendered.scene import SceneSettings
from training.rescoring import labelled_poses, train_rescoring


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rescore")
    scene = SceneSettings(size=64, people=(1, 2))
    write_dataset(root / "people", SynthSettings(train=24, val=4, scene=scene), processes=1)
    checkpoint = untrained_checkpoint("samkr_tiny")
    checkpoint.card = replace(
        checkpoint.card, input_size=(64, 64), decode=DecodeSettings(center_threshold=-1e9, max_people=2)
    )
    save_checkpoint(root / "net.pt", checkpoint)
    return root


def test_it_learns_which_poses_are_good() -> None:
    random = np.random.default_rng(0)
    features = PoseFeatures.of(COCO17)
    inputs = random.normal(size=(600, 74)).astype(np.float32)
    labels = (1 / (1 + np.exp(-inputs[:, -1] - inputs[:, 0]))).astype(np.float32)
    ids = np.arange(600) // 3
    _, report = train_rescoring(features, inputs, labels, ids, epochs=8, seed=0)
    assert report.error < report.error_of_mean / 3
    once, again = (train_rescoring(features, inputs, labels, ids, epochs=1, seed=0)[0] for _ in range(2))
    assert once.predict(inputs).tolist() == again.predict(inputs).tolist()


def test_perfect_poses_are_labelled_1(folder: Path) -> None:
    dataset = open_dataset(folder / "people", "train")
    results = [
        {"image_id": i, "category_id": 1, "keypoints": a["keypoints"], "score": 0.5}
        for i, people in dataset.annotations.items()
        for a in people
    ]
    _, labels, ids = labelled_poses(dataset, results, PoseFeatures.of(dataset.skeleton))
    assert labels.tolist() == [pytest.approx(1.0)] * len(results)
    assert set(ids.tolist()) == {i for i, people in dataset.annotations.items() if people}


def test_too_few_poses_are_an_error(folder: Path) -> None:
    dataset = open_dataset(folder / "people", "train")
    with pytest.raises(SamkrError) as caught:
        labelled_poses(dataset, [], PoseFeatures.of(dataset.skeleton))
    assert caught.value.code == "SE-D78"


def test_the_command_trains_and_eval_uses_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, data = tmp_path / "r.npz", ["--data", str(folder / "people")]
    assert run(["rescore", str(folder / "net.pt"), *data, "-o", str(out), "--epochs", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["poses"] >= 20
    scores = []
    for more in ([], ["--rescore", str(out)]):
        predictions = tmp_path / "p.json"
        assert run(["eval", str(folder / "net.pt"), *data, "--predictions", str(predictions), *more]) == 0
        scores.append([result["score"] for result in json.loads(predictions.read_text())])
    assert len(scores[0]) == len(scores[1])
    assert scores[0] != scores[1]


def test_it_learns_poses_of_a_protocol_and_is_told_where_it_is_used_on_others(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, where = tmp_path / "r.npz", [str(folder / "net.pt"), "--data", str(folder / "people")]
    papers = ["--flip", "--resize", "paper"]
    few = ["--epochs", "1", "--limit", "12"]
    assert run(["rescore", *where, *papers, *few, "-o", str(out), "--json"]) == 0
    learned = json.loads(capsys.readouterr().out)
    assert (learned["flip"], learned["resize"], learned["scales"]) == (True, "paper", [1.0])
    lesson = load_rescoring(out, COCO17).lesson
    assert lesson is not None
    assert lesson.protocol == Protocol(flip=True, paper_resize=True)
    notes = []
    for more in (papers, ["--flip"]):
        assert run(["eval", *where, *more, "--limit", "1", "--rescore", str(out), "--json"]) == 0
        notes.append(json.loads(capsys.readouterr().out)["notes"])
    assert notes[0] == []
    assert notes[1] == [f"r.npz learned from poses by {lesson.protocol.label} and rescores poses by flip"]
    assert run(["eval", *where, "--split", "train", "--rescore", str(out)]) == 3
    assert "SE-D45" in (said := capsys.readouterr().err)
    assert "r.npz was trained on" in said
