"""The rescoring network runs in NumPy, and only on the poses it was made for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samkr_edge.dataset.trained_on import TrainedOn
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.protocol import Protocol
from samkr_edge.evaluation.rescoring import (
    Lesson,
    PoseFeatures,
    RescoringNetwork,
    load_rescoring,
    save_rescoring,
)
from samkr_edge.pose.poses import Poses
from samkr_edge.pose.skeleton import COCO17, CROWDPOSE14, Skeleton


def network(skeleton: Skeleton = COCO17, hidden: int = 8) -> RescoringNetwork:
    random = np.random.default_rng(0)
    features = PoseFeatures.of(skeleton)
    inputs = 3 * len(features.links) + len(skeleton)
    sizes = {"l1": (hidden, inputs), "l2": (hidden, hidden), "l3": (1, hidden)}
    weights = {f"{name}.weight": random.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    weights |= {
        f"{name}.bias": random.normal(size=size[0]).astype(np.float32) for name, size in sizes.items()
    }
    return RescoringNetwork(features, weights)


def poses(count: int = 4) -> Poses:
    random = np.random.default_rng(1)
    return Poses(
        random.uniform(0, 200, (count, 17, 2)).astype(np.float32),
        random.random((count, 17), np.float32),
        np.linspace(0.9, 0.2, count, dtype=np.float32),
    )


def test_it_computes_what_torch_computes() -> None:
    torch = pytest.importorskip("torch")
    ours, some = network(), poses()
    features = ours.features(some.keypoints, some.joint_scores)
    assert features.shape == (4, 74)
    x = torch.from_numpy(features)
    for layer in ("l1", "l2", "l3"):
        x = torch.nn.functional.linear(
            x,
            torch.from_numpy(ours.weights[f"{layer}.weight"]),
            torch.from_numpy(ours.weights[f"{layer}.bias"]),
        )
        x = x.relu() if layer != "l3" else x
    np.testing.assert_allclose(ours.predict(features), x[:, 0].numpy(), rtol=1e-4, atol=1e-5)


def test_crowdpose_and_own_skeletons_have_features_too() -> None:
    assert network(CROWDPOSE14).weights["l1.weight"].shape[1] == 59
    own = Skeleton("own", ("a", "b", "c"), (), ((0, 1), (1, 2)), (0.1, 0.1, 0.1))
    features = PoseFeatures.of(own)(np.array([[[0, 0], [3, 4], [3, 9]]], float), np.ones((1, 3)))
    np.testing.assert_allclose(features[0], [-0.6, -0.8, 0, -1, 1, 1, 1, 1, 1], atol=1e-6)
    with pytest.raises(SamkrError) as caught:
        PoseFeatures.of(replace(own, edges=()))
    assert caught.value.code == "SE-D77"


def test_scores_are_multiplied_and_sorted() -> None:
    some = poses()
    rescored = network().rescore(some)
    assert (np.diff(rescored.scores) <= 0).all()
    expected = some.scores * network().predict(network().features(some.keypoints, some.joint_scores))
    assert np.allclose(rescored.scores, np.sort(expected)[::-1])


def test_a_network_that_says_nan_gives_a_score_of_zero() -> None:
    broken = network()
    broken.weights["l3.bias"][:] = np.nan
    assert broken.rescore(poses()).scores.tolist() == [0.0] * 4


def test_a_file_comes_back_and_fits_its_skeleton_only(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    save_rescoring(path, network())
    again = load_rescoring(path, COCO17)
    assert all(again.weights[name].tolist() == array.tolist() for name, array in network().weights.items())
    with pytest.raises(SamkrError) as caught:
        load_rescoring(path, CROWDPOSE14)
    assert caught.value.code == "SE-A82"
    assert "59" in caught.value.sentence()


def test_the_lesson_comes_back_and_older_files_have_none(tmp_path: Path) -> None:
    lesson = Lesson(Protocol(flip=True, scales=(0.5, 1.0)), TrainedOn("train", "0" * 64))
    for written in (lesson, None):
        save_rescoring(tmp_path / "r.npz", replace(network(), lesson=written))
        again = load_rescoring(tmp_path / "r.npz", COCO17)
        assert again.lesson == written
        assert again.trainings == ([lesson.trained_on] if written else [])
        assert bool(again.doubts(Protocol(match=True))) == bool(written)
        assert again.doubts(Protocol(flip=True, scales=(1.0, 0.5), rescoring=again)) == []


@pytest.mark.parametrize("lesson", ["", "[]", "{}", '{"protocol": {"scales": [2]}, "trained_on": {}}'])
def test_a_lesson_that_is_none_is_refused(tmp_path: Path, lesson: str) -> None:
    save_rescoring(tmp_path / "r.npz", network())
    with np.load(tmp_path / "r.npz") as content:
        arrays = {**content, "lesson": np.array(lesson)}
    np.savez(tmp_path / "r.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(SamkrError) as caught:
        load_rescoring(tmp_path / "r.npz", COCO17)
    assert caught.value.code == "SE-A77"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04nonsense", b"not an archive"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.npz"
    path.write_bytes(content)
    with pytest.raises(SamkrError) as caught:
        load_rescoring(path, COCO17)
    assert caught.value.code == "SE-A77"


@pytest.mark.parametrize("bias", [np.full(8, np.nan), np.zeros(7), np.zeros(())])
def test_broken_weights_are_refused(tmp_path: Path, bias: np.ndarray) -> None:
    broken = network()
    broken.weights["l2.bias"] = bias
    save_rescoring(tmp_path / "r.npz", broken)
    with pytest.raises(SamkrError) as caught:
        load_rescoring(tmp_path / "r.npz", COCO17)
    assert caught.value.code == "SE-A77"
