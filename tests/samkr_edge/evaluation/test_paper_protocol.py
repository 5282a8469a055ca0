"""DEKR's test protocol: its own code's results come out, and what is averaged belongs together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.paper_protocol import mirror, mirror_mean, paper_matrix, paper_size, predict
from samkr_edge.evaluation.protocol import Protocol, parse_scales
from samkr_edge.evaluation.rescoring import PoseFeatures
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.decode import ScaledMaps, decode, decode_scales, find_peaks, suppress
from samkr_edge.pose.decode_settings import DecodeSettings
from samkr_edge.pose.geometry import apply, invert
from samkr_edge.pose.skeleton import COCO17
from samkr_edge.pose_model import PoseModel
from samkr_edge.runtime.runner import Runner

# Outputs of the official code on drawn maps with noise. Values that decoding never looks at are zero.
REFERENCE = np.load(Path(__file__).parents[2] / "data" / "dekr_test_protocol.npz")
SIDE, K = 128, len(COCO17)


@pytest.mark.parametrize("case", ["ss", "flip"])
def test_the_official_poses_and_scores_come_out(case: str) -> None:
    heatmap, offset = REFERENCE[f"{case}/heatmap"], REFERENCE[f"{case}/offset"]
    if case == "flip":
        mirrored = REFERENCE["flip/heatmap_mirrored"], REFERENCE["flip/offset_mirrored"]
        heatmap, offset = mirror_mean(heatmap, offset, *mirrored, COCO17.flip_order)
    poses = decode(heatmap, offset, DecodeSettings())
    source_hw = tuple(int(side) for side in REFERENCE[f"{case}/image_hw"])
    joints = apply(invert(paper_matrix(source_hw, paper_size(source_hw, 256))), poses.keypoints)
    scores = REFERENCE[f"{case}/scores"]
    expected = REFERENCE[f"{case}/final_poses"][np.argsort(-scores)]
    assert len(poses) == len(expected)
    np.testing.assert_allclose(joints, expected[..., :2], atol=1e-2)
    np.testing.assert_allclose(poses.joint_scores, expected[..., 2], atol=1e-4)
    np.testing.assert_allclose(poses.scores, np.sort(scores)[::-1], atol=1e-4)


@pytest.mark.parametrize("case", ["ss", "flip"])
def test_the_official_rescoring_features_come_out(case: str) -> None:
    poses = REFERENCE[f"{case}/final_poses"]
    features = PoseFeatures.of(COCO17)(poses[..., :2], poses[..., 2])
    np.testing.assert_allclose(features, REFERENCE[f"{case}/rescore_feature"], atol=1e-6)


def test_the_official_input_sizes_come_out() -> None:
    for height, width, short, scale, out_width, out_height in REFERENCE["resize/sizes"]:
        base = paper_size((int(height), int(width)), int(short))
        assert (int(base[1] * scale), int(base[0] * scale)) == (out_width, out_height)


@pytest.mark.parametrize("case", ["resize3", "resize9"])
def test_the_official_resized_image_comes_out(case: str) -> None:
    import cv2

    image, out = REFERENCE[f"{case}/img"], REFERENCE[f"{case}/out"]
    _, _, short, scale = REFERENCE[f"{case}/meta"][:4]
    source_hw = image.shape[:2]
    matrix = paper_matrix(source_hw, paper_size(source_hw, int(short))) * scale
    np.testing.assert_allclose(matrix, REFERENCE[f"{case}/fwd"], atol=1e-9)
    ours = cv2.warpAffine(image, matrix, out.shape[1::-1], flags=cv2.INTER_LINEAR)
    assert np.abs(ours.astype(int) - out).max() <= 1
    back = apply(invert(matrix), REFERENCE[f"{case}/pts"][:, :2])
    np.testing.assert_allclose(back, REFERENCE[f"{case}/pts_img"][:, :2], atol=1e-3)


def test_mirrored_maps_lie_on_the_same_grid() -> None:
    """A network that only picks every fourth pixel gives the same maps for an image and its mirror."""
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 64, 3), dtype=np.uint8)
    order = COCO17.flip_order

    def maps(batch: np.ndarray, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
        picked = batch[0, ::4, ::4, 0].astype(np.float32)
        channels = [*order, K] if mirrored else range(K + 1)
        heatmap = np.stack([picked + channel for channel in channels])
        # Offsets point to the right in the image, so to the left in its mirror.
        pairs = [(picked + k) * (-1 if mirrored else 1) if axis == 0 else picked - k
                 for k in (order if mirrored else range(K)) for axis in (0, 1)]  # fmt: skip
        return heatmap, np.stack(pairs)

    plain = maps(image, False)
    averaged = mirror_mean(*plain, *maps(mirror(image, 4), True), order)
    for mean, own in zip(averaged, plain, strict=True):
        # The column that the shift leaves as it was is the first one, once mirrored back.
        np.testing.assert_allclose(mean[:, :, 1:], own[:, :, 1:], rtol=1e-6)


class DrawnPeople(Runner):
    """A runner that draws perfect maps of the same people at whatever size it is asked for."""

    kind = "checkpoint"

    def __init__(self, people: np.ndarray) -> None:
        self.card = ModelCard("drawn", COCO17, (SIDE, SIDE), decode=DecodeSettings())
        self.people = people  # (P, K, 2) pixels of the base input
        self.sizes: list[tuple[int, int]] = []

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = batch.shape[1] // 4, batch.shape[2] // 4
        self.sizes.append((batch.shape[1], batch.shape[2]))
        return tuple(m[None] for m in draw(self.people * (batch.shape[1] / SIDE / 4), height, width))  # type: ignore[return-value]

    def close(self) -> None: ...


def draw(people: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    heatmap = np.zeros((K + 1, height, width), np.float32)
    offset = np.zeros((2 * K, height, width), np.float32)
    for joints in people:
        center = joints.mean(axis=0)
        for k, (x, y) in enumerate([*joints, center]):
            heatmap[k] = np.maximum(heatmap[k], np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 8))
        near = (abs(xs - center[0]) < 4) & (abs(ys - center[1]) < 4)
        for k, (x, y) in enumerate(joints):
            offset[2 * k][near], offset[2 * k + 1][near] = (xs - x)[near], (ys - y)[near]
    return heatmap, offset


def two_people() -> np.ndarray:
    random = np.random.default_rng(0)
    return np.array([[34, 60], [92, 64]])[:, None] + random.uniform(-24, 24, (2, K, 2))


@pytest.mark.parametrize(
    ("protocol", "sizes"),
    [
        (Protocol(), [(128, 128)]),
        (Protocol(scales=(0.5, 1.0, 2.0)), [(64, 64), (128, 128), (256, 256)]),
        (Protocol(match=True), [(128, 128)]),
        (Protocol(paper_resize=True), [(128, 128)]),
        (Protocol(scales=(1.0, 2.0), match=True, paper_resize=True), [(128, 128), (256, 256)]),
    ],
)
def test_every_protocol_finds_each_person_once_and_in_place(
    protocol: Protocol, sizes: list[tuple[int, int]]
) -> None:
    people = two_people()
    runner = DrawnPeople(people)
    poses = predict(PoseModel(runner, Path("drawn.pt")), np.zeros((SIDE, SIDE, 3), np.uint8), protocol)
    assert runner.sizes == sizes
    assert len(poses) == 2
    found = poses.keypoints[np.argsort(poses.keypoints[:, :, 0].mean(axis=1))]
    np.testing.assert_allclose(found, people, atol=0.75)


def test_a_protocol_that_needs_other_sizes_refuses_a_model_of_one_size() -> None:
    runner = DrawnPeople(two_people())
    runner.kind = "onnx"
    model = PoseModel(runner, Path("m.onnx"))
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    for protocol in (Protocol(scales=(1.0, 2.0)), Protocol(paper_resize=True)):
        with pytest.raises(SamkrError) as caught:
            predict(model, image, protocol)
        assert caught.value.code == "SE-U75"
    assert len(predict(model, image, Protocol(flip=True))) >= 1


@pytest.mark.parametrize("text", ["0.5,2", "1,1", "one", "1,0", ""])
def test_scales_that_make_no_sense_are_usage_errors(text: str) -> None:
    with pytest.raises(SamkrError) as caught:
        Protocol(scales=parse_scales(text))
    assert caught.value.code == "SE-U81"


def test_centres_of_other_scales_count_less_and_one_scale_changes_nothing() -> None:
    people = two_people()
    base = ScaledMaps(*draw(people / 4, 32, 32))
    alone = decode(base.heatmap, base.offset, DecodeSettings())
    again = decode_scales([base], DecodeSettings(), decrease=0.5)
    assert alone.keypoints.tolist() == again.keypoints.tolist()
    heatmap, offset = draw(people / 2, 64, 64)
    # Nobody's centre at scale 1: the poses come from scale 2, whose centre values are brought down.
    quiet = base.heatmap.copy()
    quiet[-1] *= 0.02
    strong = decode_scales(
        [replace(base, heatmap=quiet), ScaledMaps(heatmap, offset, 2.0)], DecodeSettings(nms_distance=0.15)
    )
    weak = decode_scales(
        [replace(base, heatmap=quiet), ScaledMaps(heatmap, offset, 2.0)],
        DecodeSettings(nms_distance=0.15),
        decrease=0.5,
    )
    assert len(strong) == len(weak) == 2
    assert weak.scores.max() <= strong.scores.max()
    assert strong.scores.max() < 0.1


def test_the_neighbourhood_of_a_peak_grows_with_the_map() -> None:
    for side, distance, expected in ((128, 2, 2), (256, 2, 1), (256, 3, 2), (320, 3, 1), (320, 4, 2)):
        center = np.zeros((side, side), np.float32)
        center[50, 50], center[50, 50 + distance] = 0.9, 0.8
        assert len(find_peaks(center, DecodeSettings())[0]) == expected, (side, distance)


def test_too_many_people_leave_those_with_the_best_heat() -> None:
    joints = np.arange(5)[:, None, None] * 100 + np.random.default_rng(0).uniform(0, 30, (5, K, 2))
    heat = np.array([0.1, 0.9, 0.3, 0.8, 0.2])
    assert sorted(suppress(joints, heat, DecodeSettings(max_people=2)).tolist()) == [1, 3]
