"""People keep their numbers when they meet; joints tremble less and lag little."""

import numpy as np
import pytest

from samkr_edge.frames.smooth import OneEuro, Smoother
from samkr_edge.frames.track import Tracker
from samkr_edge.pose.oks import pose_area
from samkr_edge.pose.poses import Poses
from samkr_edge.pose.skeleton import COCO17

FPS = 25.0
BODY = np.random.default_rng(3).uniform((-20, -60), (20, 60), (17, 2))


def people_at(*places: tuple[float, float], order: list[int] | None = None, noise: float = 0.0) -> Poses:
    joints = np.stack([BODY + place for place in places])
    joints += (
        np.random.default_rng(int(1e3 * joints.sum()) % 2**31).normal(0, noise, joints.shape) if noise else 0
    )
    joints = joints[order or list(range(len(places)))].astype(np.float32)
    scores = np.full(len(joints), 0.8, np.float32)
    return Poses(joints, np.tile(scores[:, None], (1, 17)), scores)


def test_two_people_who_cross_keep_their_numbers() -> None:
    tracker = Tracker(COCO17)
    first: list[tuple[int, int]] = []
    for frame in range(60):
        left, right = (100 + 6 * frame, 200), (460 - 6 * frame, 215)
        order = [0, 1] if frame % 2 else [1, 0]  # the order of poses says nothing
        ids = tracker(people_at(left, right, order=order, noise=1.0), frame / FPS).ids
        assert ids is not None
        first.append((int(ids[order.index(0)]), int(ids[order.index(1)])))
    assert set(first) == {first[0]}
    assert len(set(first[0])) == 2


def test_somebody_hidden_for_a_moment_comes_back_with_the_same_number() -> None:
    tracker = Tracker(COCO17)
    for frame in range(40):
        place = (100 + 5 * frame, 200)
        if 20 <= frame < 32:
            tracker(Poses.empty(17), frame / FPS)
        else:
            ids = tracker(people_at(place), frame / FPS).ids
            assert ids is not None
            assert ids.tolist() == [1]


def test_writing_into_the_poses_afterwards_changes_nobodys_place() -> None:
    tracker = Tracker(COCO17)
    for frame in range(3):
        poses = tracker(people_at((100, 100)), frame / FPS)
        assert poses.ids is not None
        assert poses.ids.tolist() == [1]
        poses.keypoints[:] *= 4  # into a larger picture, to draw there


def test_a_newcomer_and_somebody_long_gone_get_new_numbers() -> None:
    tracker = Tracker(COCO17)
    tracker(people_at((100, 100)), 0.0)
    ids = tracker(people_at((100, 100), (400, 100)), 0.04).ids
    assert ids is not None
    assert ids.tolist() == [1, 2]
    ids = tracker(people_at((100, 100)), 9.0).ids
    assert ids is not None
    assert ids.tolist() == [3]


@pytest.mark.parametrize("fps", [25.0, 0.8, 0.2])
def test_people_keep_their_numbers_however_seldom_they_are_seen(fps: float) -> None:
    tracker = Tracker(COCO17)
    seen: set[int] = set()
    for frame in range(20):
        places = [(100 + 3 * frame, 200), (400, 215)]
        people = people_at(*places) if frame not in (9, 10) else Poses.empty(17)  # hidden for two frames
        ids = tracker(people, frame / fps).ids
        assert ids is not None
        seen |= set(ids.tolist())
    assert seen == {1, 2}


def test_a_long_wait_between_two_frames_is_no_slow_rate() -> None:
    tracker = Tracker(COCO17)
    for frame in range(10):
        tracker(people_at((100, 100)), frame / FPS)
    ids = tracker(people_at((100, 100)), 9.0).ids
    assert ids is not None
    assert ids.tolist() == [2]


def test_a_still_joint_trembles_less_than_half_as_much() -> None:
    random = np.random.default_rng(0)
    noisy = 50 + random.normal(0, 2, (200, 17, 2))
    one_euro = OneEuro()
    smooth = np.stack([one_euro(value, i / FPS, 120.0) for i, value in enumerate(noisy)])
    assert np.diff(smooth[20:], axis=0).std() < 0.5 * np.diff(noisy[20:], axis=0).std()
    assert abs(smooth[20:].mean() - 50) < 0.2


def test_a_fast_joint_lags_by_less_than_two_frames() -> None:
    one_euro = OneEuro()
    speed = 15.0  # pixels a frame: three body sizes a second
    true = np.stack([np.full((17, 2), speed * i) for i in range(60)])
    smooth = np.stack([one_euro(value, i / FPS, 120.0) for i, value in enumerate(true)])
    lag = (true - smooth)[30:] / speed
    assert lag.max() < 2
    assert lag.min() >= 0


def test_the_near_and_the_far_are_smoothed_alike() -> None:
    noisy = np.random.default_rng(0).normal(0, 1, (50, 17, 2))
    near, far = OneEuro(), OneEuro()
    for i, value in enumerate(noisy):
        large, small = near(10 * value, i / FPS, 1000.0), far(value, i / FPS, 100.0)
        np.testing.assert_allclose(large, 10 * small, rtol=1e-9, atol=1e-9)


def test_a_person_who_comes_back_is_not_dragged_from_where_they_were() -> None:
    smoother = Smoother()
    smoother(people_at((100, 100)).with_ids(np.array([1])), 0.0)
    back = people_at((400, 100)).with_ids(np.array([1]))
    np.testing.assert_array_equal(smoother(back, 3.0).keypoints, back.keypoints)


def test_smoothing_without_ids_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="ids"):
        Smoother()(people_at((1, 1)), 0.0)


def with_a_stray_wrist(place: tuple[float, float], wrist: tuple[float, float], score: float) -> Poses:
    """A person as grouping gives them: joint 9 was not found, and lies anywhere."""
    found = people_at(place)
    joints, scores = found.keypoints.copy(), found.joint_scores.copy()
    joints[0, 9], scores[0, 9] = wrist, score
    return Poses(joints, scores, found.scores)


def test_a_joint_that_grouping_did_not_find_neither_moves_nor_enlarges_a_person() -> None:
    tracker = Tracker(COCO17, grouped=True)
    for frame in range(5):
        place = (100 + 10 * frame, 100)
        found = people_at(place) if frame % 2 else with_a_stray_wrist(place, (900, 900), 0.004)
        tracker(found, frame / FPS)
    (person,) = tracker._people
    np.testing.assert_allclose(person.speed, [10 * FPS * (1 - 0.6**4), 0], atol=1e-3)
    np.testing.assert_allclose(person.joints, BODY + np.array((140, 100)), atol=3)
    assert person.area == pytest.approx(pose_area(BODY), rel=1e-4)


def test_who_is_first_seen_by_the_face_alone_stays_the_same_when_the_body_is_found() -> None:
    """Walking by, 8 pixels a frame, of a face of 8 pixels: to the face alone that is far, to the body it is little."""
    tracker = Tracker(COCO17, grouped=True)
    body = BODY.copy()
    body[:5] = [(0, -60), (-2, -62), (2, -62), (-4, -60), (4, -60)]
    for frame, found in enumerate([5, 17, 17, 5, 9, 17]):
        joints = (body + np.array((100 + 8 * frame, 100))).astype(np.float32)[None]
        joints[0, found:] = joints[0, :found].mean(axis=0)  # where grouping leaves those that it did not find
        scores = np.where(np.arange(17) < found, 0.8, 0.0).astype(np.float32)[None]
        ids = tracker(Poses(joints, scores, scores.mean(axis=1)), frame / FPS).ids
        assert ids is not None
        assert ids.tolist() == [1]


def test_a_person_of_whom_other_joints_are_found_is_somebody_new() -> None:
    tracker = Tracker(COCO17, grouped=True)
    for head_only in (True, False):
        scores = np.where((np.arange(17) < 5) == head_only, 0.8, 0.0).astype(np.float32)
        seen = people_at((100, 100))
        ids = tracker(Poses(seen.keypoints, scores[None], seen.scores), 0.04 * (not head_only)).ids
        assert ids is not None
        assert ids.tolist() == [1 if head_only else 2]


def test_smoothing_begins_again_where_grouping_finds_a_joint_again() -> None:
    smoother, frames = Smoother(grouped=True), []
    for frame in range(6):
        place = (100 + 2 * frame, 100)
        found = with_a_stray_wrist(place, (100, 100), 0.0) if frame == 3 else people_at(place)
        frames.append(smoother(found.with_ids(np.array([1])), frame / FPS).keypoints[0, 9] - BODY[9])
    np.testing.assert_allclose(frames[4], (108, 100), atol=1e-4)
    assert abs(frames[5][0] - 110) < 2.5


def test_a_joint_by_an_offset_is_where_it_points_however_unsure() -> None:
    stray = with_a_stray_wrist((100, 100), (900, 900), 0.004)
    tracker = Tracker(COCO17)
    tracker(stray, 0.0)
    np.testing.assert_array_equal(tracker._people[0].joints, stray.keypoints[0])
