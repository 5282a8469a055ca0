"""Multi-scale test, flip and matching, whole: the product finds what a plain reading of DEKR's description finds."""

from pathlib import Path

import numpy as np
import pytest
from dekr_oracle import ForwardPass, Person, people_of

from samkr_edge.evaluation.paper_protocol import paper_matrix, predict
from samkr_edge.evaluation.protocol import Protocol
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.decode_settings import DecodeSettings
from samkr_edge.pose.geometry import apply
from samkr_edge.pose.poses import Poses
from samkr_edge.pose.skeleton import COCO17, CROWDPOSE14, Skeleton
from samkr_edge.pose_model import PoseModel
from samkr_edge.runtime.runner import Runner

SOURCE_HW, SHORT, BASE_HW = (100, 150), 128, (128, 192)
NEAR_JOINTS = {"coco17": 8, "crowdpose14": 7}
DECREASE = {"coco17": 0.9, "crowdpose14": 0.8}


class NoisyPeople(Runner):
    """A network that sees six people, two of them nearly at one place, and a lot that is not there.

    Keeps what it said: every size of the input comes once, or twice where the second one is mirrored.
    """

    kind = "checkpoint"

    def __init__(self, skeleton: Skeleton, *, ghosts: float, mirrored: bool, blind: bool = False) -> None:
        self.card = ModelCard(
            "noisy",
            skeleton,
            (SHORT, SHORT),
            decode=DecodeSettings(nms_joints=NEAR_JOINTS[skeleton.name]),
        )
        self.random = np.random.default_rng(len(skeleton))
        places = self.random.uniform((30, 30), (162, 98), (6, 2))
        places[1] = places[0] + 3
        reach = self.random.uniform(10, 26, (6, 1, 2))
        self.people = places[:, None] + reach * self.random.uniform(-0.7, 0.7, (6, len(skeleton), 2))
        self.strength = np.linspace(0.9, 0.15, 6)
        self.ghosts, self.mirrored, self.blind = ghosts, mirrored, blind
        self.passes: list[ForwardPass] = []

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scale = batch.shape[1] / BASE_HW[0]
        again = self.mirrored and bool(self.passes) and self.passes[-1].mirrored_heatmap is None
        heatmap, offset = self.draw(batch.shape[1], batch.shape[2], scale, mirrored=again)
        if again:
            self.passes[-1].mirrored_heatmap, self.passes[-1].mirrored_offset = heatmap, offset
        else:
            self.passes.append(ForwardPass(scale, heatmap, offset))
        return heatmap[None], offset[None]

    def draw(self, height: int, width: int, scale: float, *, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
        keypoints = len(self.card.skeleton)
        ys, xs = np.mgrid[: height // 4, : width // 4]
        heatmap = self.random.uniform(0, 0.02, (keypoints + 1, *xs.shape))
        heatmap[-1] *= self.ghosts
        offset = self.random.normal(0, 3 * scale, (2 * keypoints, *xs.shape))
        for joints, strength in zip(self.people, self.strength, strict=True):
            points = scale * joints
            if mirrored:
                points = points[list(self.card.skeleton.flip_order)]
                points[:, 0] = width - 1 - points[:, 0] - 3
            points = np.concatenate([points, points.mean(axis=0)[None]]) / 4
            for k, (x, y) in enumerate(points):
                blob = strength * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * (2 * scale + 0.5) ** 2))
                heatmap[k] = np.maximum(heatmap[k], blob)
            near = (abs(xs - points[-1, 0]) < 4) & (abs(ys - points[-1, 1]) < 4)
            for k, (x, y) in enumerate(points[:-1]):
                offset[2 * k][near] = (xs - x)[near] + self.random.normal(0, 0.3, near.sum())
                offset[2 * k + 1][near] = (ys - y)[near] + self.random.normal(0, 0.3, near.sum())
        if self.blind and scale == 1.0:
            heatmap[-1] *= 0.005
        return heatmap.astype(np.float32), offset.astype(np.float32)

    def close(self) -> None: ...


def both(
    runner: NoisyPeople, scales: tuple[float, ...], *, match: bool = False
) -> tuple[Poses, list[Person]]:
    """What the product and the oracle find; the product's poses in base-input pixels, the oracle's best first."""
    protocol = Protocol(flip=runner.mirrored, scales=scales, match=match, paper_resize=True)
    image = np.zeros((*SOURCE_HW, 3), np.uint8)
    found = predict(PoseModel(runner, Path("noisy.pt")), image, protocol)
    skeleton = runner.card.skeleton
    expected = people_of(
        runner.passes,
        BASE_HW,
        skeleton.flip_order,
        near_joints=NEAR_JOINTS[skeleton.name],
        decrease=DECREASE[skeleton.name],
        match=match,
    )
    joints = apply(paper_matrix(SOURCE_HW, BASE_HW), found.keypoints)
    expected.sort(key=lambda person: -person.score)
    return Poses(joints, found.joint_scores, found.scores), expected


@pytest.mark.parametrize("skeleton", [COCO17, CROWDPOSE14], ids=lambda skeleton: skeleton.name)
@pytest.mark.parametrize("mirrored", [False, True], ids=["plain", "flip"])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 2.0)], ids=["one", "three"])
def test_people_and_scores_are_those_of_the_description(
    scales: tuple[float, ...], mirrored: bool, skeleton: Skeleton
) -> None:
    found, expected = both(NoisyPeople(skeleton, ghosts=1.0, mirrored=mirrored), scales)
    assert len(found) == len(expected) > 20  # ghosts included
    np.testing.assert_allclose(found.scores, [person.score for person in expected], atol=1e-5)
    np.testing.assert_allclose(found.keypoints, [person.joints for person in expected], atol=1e-2)
    np.testing.assert_allclose(found.joint_scores, [person.joint_scores for person in expected], atol=1e-5)


def test_where_the_base_scale_sees_nobody_the_others_count_from_one() -> None:
    found, expected = both(NoisyPeople(COCO17, ghosts=0.0, mirrored=False, blind=True), (0.5, 1.0, 2.0))
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.scores, [person.score for person in expected], atol=1e-5)


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 2.0)], ids=["one", "three"])
def test_matched_joints_are_where_the_description_moves_them(scales: tuple[float, ...]) -> None:
    found, expected = both(NoisyPeople(COCO17, ghosts=0.0, mirrored=True), scales, match=True)
    plain, _ = both(NoisyPeople(COCO17, ghosts=0.0, mirrored=True), scales)
    joints = np.array([person.joints for person in expected])
    assert found.scores.tolist() == plain.scores.tolist()
    assert len(found) == len(joints) >= 3
    assert (np.abs(found.keypoints - plain.keypoints).max(axis=2) > 0.1).mean() > 0.5  # they have moved
    np.testing.assert_allclose(found.keypoints, joints, atol=2e-2)
