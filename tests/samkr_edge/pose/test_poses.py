"""Poses are checked when made, and leave in the forms that others read."""

import pickle
import sys
import types
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
import pytest

import samkr_edge
from samkr_edge.errors import SamkrError
from samkr_edge.frames.draw import enlarge
from samkr_edge.frames.smooth import Smoother
from samkr_edge.frames.track import Tracker
from samkr_edge.pose.poses import Poses
from samkr_edge.pose.skeleton import COCO17
from samkr_edge.pose.stick_figures import colour_of


def three_people() -> Poses:
    random = np.random.default_rng(0)
    scores = np.array([0.9, 0.5, 0.1], np.float32)
    joint_scores = np.tile(scores[:, None], (1, 4)).astype(np.float32)
    joint_scores[0, 1] = 0.01
    return Poses(random.uniform(0, 99, (3, 4, 2)).astype(np.float32), joint_scores, scores)


def test_poses_that_do_not_belong_together_are_refused() -> None:
    poses = three_people()
    with pytest.raises(ValueError, match="do not match"):
        Poses(poses.keypoints[:2], poses.joint_scores, poses.scores)
    with pytest.raises(ValueError, match="do not match"):
        poses.with_ids(np.arange(2))


@pytest.mark.parametrize("name", ["keypoints", "joint_scores", "scores"])
@pytest.mark.parametrize(("change", "reason"), [(np.float64, "float32"), (np.nan, "NaN")])
def test_wrong_types_and_nan_are_refused(name: str, change: object, reason: str) -> None:
    values = {k: v.copy() for k, v in vars(three_people()).items() if v is not None}
    values[name] = values[name].astype(change) if change is np.float64 else values[name] * change
    with pytest.raises(ValueError, match=reason):
        Poses(**values)


def test_visibility_tells_confirmed_joints_from_guessed_ones() -> None:
    assert three_people().visibility.tolist() == [[2, 1, 2, 2], [2, 2, 2, 2], [2, 2, 2, 2]]


def test_people_can_be_chosen_by_score_and_number() -> None:
    poses = three_people().with_ids(np.array([7, 8, 9]))
    assert poses.above(0.5).ids is not None
    assert poses.above(0.5).ids.tolist() == [7, 8]
    assert len(poses.best(1)) == 1
    assert len(poses.best(None)) == 3


def test_people_at_indices_of_a_list_or_an_array_or_where_a_mask_is_true() -> None:
    poses = three_people()
    for which in ([0, 2], np.array([0, 2]), [True, False, True], np.array([True, False, True])):
        assert poses[which].scores.tolist() == poses.scores[[0, 2]].tolist()
    assert len(poses[[]]) == 0
    with pytest.raises(TypeError, match=r"poses\[0\]\['left_wrist'\]"):
        poses["left_wrist"]  # type: ignore[call-overload]


def test_poses_are_equal_if_their_values_are() -> None:
    poses, same = three_people(), three_people()
    assert poses == same
    assert poses != same.with_ids(np.arange(3))
    assert poses != poses[:2]
    assert poses[:0] == same[:0]
    assert poses[1] == same[1]
    assert poses[1] in same
    assert poses[1] != same[2]
    assert pickle.loads(pickle.dumps(poses)) == poses
    assert poses != [*poses]


def test_a_person_s_centre_is_that_of_the_joints_in_sight() -> None:
    poses = three_people()
    before = poses.centers.copy()
    poses.keypoints[0, 1] += 300  # scores next to nothing
    assert np.abs(poses.centers - before).max() < 5
    poses.keypoints[1, 1] += 300
    assert np.abs(poses.centers - before)[1].min() > 50


def test_people_whose_centre_is_outside_the_image_are_left_out() -> None:
    poses = three_people()
    poses.keypoints[:] = np.array([(20.0, -9), (20, 30), (45, 30)])[:, None]
    assert poses.centred_in((40, 40)).scores.tolist() == [0.5]
    assert len(Poses.empty(4).centred_in((40, 40))) == 0


def test_a_box_holds_the_sure_joints_and_leaves_guesses_out() -> None:
    poses = three_people()
    poses.keypoints[0, 1] = (500, 500)
    low, high = poses.boxes[0, :2], poses.boxes[0, 2:]
    sure = poses.keypoints[0, [0, 2, 3]]
    np.testing.assert_array_equal(low, sure.min(axis=0))
    np.testing.assert_array_equal(high, sure.max(axis=0))
    assert Poses.empty(4).boxes.shape == (0, 4)


def test_coco_entries_hold_triples_and_the_tracking_id() -> None:
    poses = three_people().with_ids(np.array([7, 8, 9]))
    entries = poses.to_coco(image_id=5)
    assert [entry["track_id"] for entry in entries] == [7, 8, 9]
    triples = np.array(entries[1]["keypoints"]).reshape(4, 3)
    np.testing.assert_allclose(triples[:, :2], poses.keypoints[1], atol=1e-3)
    assert entries[1]["image_id"] == 5
    assert "track_id" not in three_people().to_coco(0)[0]


def test_without_supervision_the_conversion_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises((SamkrError, ModuleNotFoundError)) as caught:
        three_people().to_supervision()
    assert isinstance(caught.value, SamkrError)
    assert caught.value.code == "SE-U70"


@pytest.mark.parametrize("name", ["confidence", "keypoint_confidence"])
def test_both_spellings_of_supervision_are_understood(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    @dataclass
    class Old:
        xy: np.ndarray
        class_id: np.ndarray
        confidence: np.ndarray | None = None

    @dataclass
    class New:
        xy: np.ndarray
        class_id: np.ndarray
        keypoint_confidence: np.ndarray | None = None

    module = types.ModuleType("supervision")
    module.KeyPoints = Old if name == "confidence" else New  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "supervision", module)
    converted = three_people().to_supervision()
    assert getattr(converted, name).shape == (3, 4)
    assert converted.xy.shape == (3, 4, 2)


def test_the_package_offers_its_types_and_says_what_it_has_not() -> None:
    assert samkr_edge.Poses is Poses
    assert samkr_edge.SamkrError is SamkrError
    with pytest.raises(AttributeError, match="nonsense"):
        _ = samkr_edge.nonsense


def test_lists_are_no_poses() -> None:
    with pytest.raises(ValueError, match="joint_scores must be a NumPy array, found list"):
        Poses(np.zeros((0, 2, 2), np.float32), [], np.zeros(0, np.float32))  # type: ignore[arg-type]


def walkers() -> Poses:
    """Two tracked people of COCO's joints, each joint at (its number, 10 times its number)."""
    place = np.stack([np.arange(17), 10 * np.arange(17)], axis=1).astype(np.float32)
    scores = np.array([0.9, 0.4], np.float32)
    return Poses(
        np.stack([place, place + 100]),
        np.tile(scores[:, None], (1, 17)),
        scores,
        np.array([4, 2]),
        skeleton=COCO17,
    )


def test_people_are_iterated_and_joints_have_names() -> None:
    poses = walkers()
    assert [person.id for person in poses] == [4, 2]
    x, y, score = poses[0]["left_wrist"]
    assert (x, y, round(score, 3)) == (9, 90, 0.9)
    assert poses[-1]["nose"] == poses[1][0] == poses[1].joints["nose"]
    assert list(poses[0].joints) == list(COCO17.keypoints)
    assert poses[0].box == tuple(poses.boxes[0]) == (0, 0, 16, 160)
    assert isinstance(poses[:1], Poses)
    assert poses[poses.scores < 0.5].ids.tolist() == [2]  # type: ignore[union-attr]
    with pytest.raises(IndexError):
        poses[2]


def test_a_joint_that_is_not_there_is_named_with_its_nearest() -> None:
    with pytest.raises(KeyError, match="did you mean 'left_wrist'"):
        walkers()[0]["left_wirst"]
    with pytest.raises(KeyError, match="no skeleton"):
        three_people()[0]["nose"]


def test_names_of_joints_survive_what_chooses_and_changes_people() -> None:
    poses = walkers()
    for changed in (
        poses.above(0.5),
        poses.best(1),
        poses.take(np.array([1])),
        poses.without_ids(),
        poses.with_ids(np.array([1, 2])),
        poses.centred_in((10, 10)),
        Tracker(COCO17)(poses, 0.0),
        Smoother()(poses, 0.0),
        enlarge(np.zeros((20, 20, 3), np.uint8), poses)[1],
    ):
        assert changed.skeleton is COCO17


def test_people_are_drawn_into_a_copy_of_their_image() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    drawn = walkers().plot(image)
    assert not image.any()
    red, green, blue = colour_of(0, 4)
    assert (drawn == (red, green, blue)).all(axis=2).any()  # RGB in, RGB out
    with pytest.raises(ValueError, match="no skeleton"):
        three_people().plot(image)


def test_a_notebook_shows_stick_figures_of_the_sure_joints() -> None:
    drawing = walkers()._repr_html_()
    figure = ElementTree.fromstring(drawing[: drawing.index("<div>")])
    titles = [title.text for title in figure.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 34
    assert "left_wrist 0.90" in titles
    assert "2 people (coco17): scores 0.90, 0.40" in drawing
    assert Poses.empty(17)._repr_html_() == "<div><code>&lt;Poses of 0 people (17 joints)&gt;</code></div>"
