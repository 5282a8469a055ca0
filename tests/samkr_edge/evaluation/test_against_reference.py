"""Without labels the FP32 network's people stand for them, and every evaluator of labels runs on them unchanged."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.selftest.carried import TRAINED, write_network
from calibration.analysis.scoring import Bench
from samkr_edge.dataset.keypoint_dataset import ImageRecord, open_dataset
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.against_reference import ReferencePeople, against, people_against, reference_people
from samkr_edge.evaluation.ap import MAX_DETECTIONS, predict_dataset, score
from samkr_edge.evaluation.predictions import Predictions
from samkr_edge.pose.grouping_settings import GroupingSettings
from samkr_edge.pose.oks import box_area, pose_area
from samkr_edge.pose.poses import SURE_JOINT, Poses
from samkr_edge.pose_model import PoseModel, load_model
from training.data.rendered.dataset import SynthSettings, write_dataset


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageRecord, ...]:
    """Rendered people whose labels nobody reads."""
    folder = tmp_path_factory.mktemp("photos")
    write_dataset(folder, SynthSettings(train=1, val=12), processes=1)
    return open_dataset(folder).images


@pytest.fixture(scope="module")
def fp32(made_once: Callable[..., Path]) -> PoseModel:
    return load_model(made_once("carried-fp32.onnx", lambda path: write_network(path, TRAINED)))


@pytest.fixture(scope="module")
def int8(made_once: Callable[..., Path]) -> PoseModel:
    return load_model(
        made_once("carried-int8.onnx", lambda path: write_network(path, TRAINED, quantized=True))
    )


@pytest.fixture(scope="module")
def reference(fp32: PoseModel, photos: tuple[ImageRecord, ...]) -> ReferencePeople:
    return reference_people(fp32, photos)


def test_the_reference_agrees_with_itself_by_every_measure(reference: ReferencePeople) -> None:
    assert reference.people > 5
    found = against(reference, reference.predictions)
    assert (found.kept, found.lost, found.new) == (reference.people, 0, 0)
    assert (found.moved_px, found.moved_px_p95, found.oks, found.oks_p5) == (0, 0, 1, 1)
    assert (found.ap, found.ap_low, found.ap_high) == (100, 100, 100)
    assert score(reference.dataset, reference.predictions).ap == pytest.approx(100)


def test_the_people_that_predict_shows_are_labels_and_their_sure_joints_alone_count(
    reference: ReferencePeople,
) -> None:
    for image in reference.dataset.images:
        poses = reference.predictions.poses(image.id).above(reference.sure_person)
        people = reference.dataset.annotations[image.id]
        assert len(people) == len(poses)
        for person, joints, scores in zip(people, poses.keypoints, poses.joint_scores, strict=True):
            triples = np.array(person["keypoints"]).reshape(-1, 3)
            np.testing.assert_array_equal(triples[:, 2] == 2, scores >= SURE_JOINT)
            np.testing.assert_allclose(
                triples[triples[:, 2] == 2, :2], joints[scores >= SURE_JOINT], atol=1e-3
            )
            assert person["num_keypoints"] == (scores >= SURE_JOINT).sum() > 0
            assert person["area"] == pytest.approx(pose_area(joints), rel=1e-5)
    assert reference.dataset.metric == "AP against FP32"


def test_another_precision_moves_joints_a_little(reference: ReferencePeople, int8: PoseModel) -> None:
    found = against(reference, predict_dataset(int8, reference.dataset))
    assert found.kept + found.lost == reference.people
    assert found.kept > 0.7 * reference.people
    assert found.moved_px is not None
    assert found.moved_px_p95 is not None
    assert 0 < found.moved_px < found.moved_px_p95
    assert 0.5 < found.oks < 1
    assert 40 < found.ap <= 100
    assert found.ap_low <= found.ap <= found.ap_high <= 100


def test_everything_that_scores_labels_scores_against_the_reference(
    reference: ReferencePeople, fp32: PoseModel, int8: PoseModel
) -> None:
    bench = Bench(reference.dataset)
    own, other = bench.run(fp32.runner), bench.run(int8.runner)
    assert (own.ap, own.oks) == (pytest.approx(100), pytest.approx(1, abs=1e-4))
    difference = bench.compare(own, other)
    assert isinstance(other.results, Predictions)
    assert difference.ap.difference == pytest.approx(against(reference, other.results).ap - 100)
    assert difference.oks.high < 0
    assert bench.facts["images"] == 12


def test_moved_lost_and_new_people_are_told_apart(reference: ReferencePeople) -> None:
    """One person is hidden, one joint is moved by (3, 4) pixels, and somebody is found far away from all."""
    image = max(reference.dataset.images, key=lambda image: len(reference.dataset.annotations[image.id]))
    one = replace(reference.dataset, images=(image,))
    truth = reference.predictions.poses(image.id).above(reference.sure_person)
    assert len(truth) >= 2
    own, other = (Predictions(17) for _ in range(2))
    joint = int(truth.joint_scores[0].argmax())
    keypoints = truth.keypoints.copy()
    keypoints[0, joint] += (3, 4)
    keypoints[-1] += 10_000
    other.add(image.id, Poses(keypoints, truth.joint_scores, truth.scores))
    own.add(image.id, truth)
    found = against(ReferencePeople(one, own), other)
    assert (found.kept, found.lost, found.new) == (len(truth) - 1, 1, 1)
    assert found.moved_px is not None
    assert found.moved_px < 5
    assert found.moved_px_p95 is None  # more than 5 % of the joints are those of the person who is lost
    assert found.oks_p5 < 0.5
    assert found.ap < 100
    people = people_against(ReferencePeople(one, own), other)
    assert people.moved.max() == pytest.approx(5, abs=1e-3)
    assert people.lost_joints == (truth.joint_scores[-1] >= SURE_JOINT).sum()
    assert people.within(100 * (len(people.moved) - 1) / (len(people.moved) + people.lost_joints)) is not None


def test_nobody_kept_is_no_movement(reference: ReferencePeople) -> None:
    found = against(reference, Predictions(17))
    assert (found.kept, found.lost, found.new) == (0, reference.people, 0)
    assert (found.moved_px, found.moved_px_p95, found.oks, found.oks_p5) == (None, None, 0, 0)
    assert (found.ap, found.ap_low, found.ap_high) == (0, 0, 0)


def test_a_crowd_is_judged_by_as_many_people_as_are_evaluated(
    fp32: PoseModel, photos: tuple[ImageRecord, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    joints = random.uniform(0, 1000, (25, 17, 2)).astype(np.float32)
    scores = np.linspace(0.9, 0.3, 25, dtype=np.float32)
    crowd = Poses(joints, np.repeat(scores[:, None], 17, axis=1), scores)
    monkeypatch.setattr(PoseModel, "poses", lambda *_: crowd)
    found = reference_people(fp32, photos[:1])
    assert found.people == MAX_DETECTIONS
    assert score(found.dataset, found.predictions).ap == pytest.approx(100)


def test_photos_on_which_fp32_finds_nobody_are_refused(
    fp32: PoseModel, photos: tuple[ImageRecord, ...]
) -> None:
    with pytest.raises(SamkrError, match=r"SE-D58.* finds nobody on 2 photos"):
        reference_people(fp32, photos[:2], read=lambda path: np.full((240, 320, 3), 90, np.uint8))


def test_a_quantized_network_stands_for_no_labels(int8: PoseModel, photos: tuple[ImageRecord, ...]) -> None:
    with pytest.raises(SamkrError, match="SE-U09"):
        reference_people(int8, photos)


def test_a_person_seen_from_the_side_still_has_an_area() -> None:
    line = np.stack([np.full(17, 50.0), np.linspace(0, 300, 17)], axis=1)
    assert pose_area(line) == box_area(300, 100)


def test_joints_that_grouping_did_not_find_give_a_person_no_area(
    fp32: PoseModel, photos: tuple[ImageRecord, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    joints = np.random.default_rng(0).uniform(0, 100, (1, 17, 2)).astype(np.float32)
    joints[0, 9] = 5000
    scores = np.full((1, 17), 0.5, np.float32)
    scores[0, 9] = 0.004
    poses = Poses(joints, scores, np.full(1, 0.5, np.float32))
    monkeypatch.setattr(PoseModel, "poses", lambda *_: poses)
    areas, card = [], fp32.card
    for grouping in (None, GroupingSettings()):
        monkeypatch.setattr(PoseModel, "card", replace(card, grouping=grouping))
        found = reference_people(fp32, photos[:1])
        (person,) = found.dataset.annotations[photos[0].id]
        assert person["area"] == pytest.approx(
            found.areas(found.predictions.poses(photos[0].id))[0], rel=1e-5
        )
        areas.append(person["area"])
    assert areas[0] > box_area(4000, 4000)
    assert areas[1] < box_area(100, 100)
