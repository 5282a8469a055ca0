"""The papers' test of a network that is decoded by grouping finds joints where they are, and people by all tags."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.grouping_protocol import TaggedMaps, enlarged, group_scales, mirrored_back
from samkr_edge.evaluation.paper_protocol import paper_size, predict
from samkr_edge.evaluation.protocol import Protocol
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.grouping_settings import GroupingSettings
from samkr_edge.pose.skeleton import COCO17, Skeleton
from samkr_edge.pose_model import PoseModel
from samkr_edge.runtime.runner import Runner

# People whom the test loop of HigherHRNet's official code ("portrait") and SWAHR's ("landscape") found on drawn
# pictures by the maps of ``SeesColours``, and its sizes of the input at scale 1.
OFFICIAL = np.load(Path(__file__).parents[2] / "data" / "grouping_scales.npz")

HEAD = Skeleton("head", ("head",), (), (), (0.1,))
CARD = ModelCard("heads", HEAD, (128, 128), stride=2, grouping=GroupingSettings())


class SeesRed(Runner):
    """A head wherever the image is red, with a tag of its own in every row.

    Map pixel i answers to input pixels around 2 i + 1, where targets put joints from 2 i to 2 (i + 1).
    """

    kind = "checkpoint"
    card = CARD

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        images, h, w = batch.shape[:3]
        red = np.pad(batch[..., 0] / 255, ((0, 0), (0, 1), (0, 1)), mode="edge")
        red = (red[:, :-2:2] + 2 * red[:, 1::2] + red[:, 2::2]) / 4
        heatmap = ((red[:, :, :-2:2] + 2 * red[:, :, 1::2] + red[:, :, 2::2]) / 4)[:, None]
        heatmap += (
            1e-5 * np.arange(w // 2) + 2e-5 * np.arange(h // 2)[:, None]
        )  # of equal pixels, one is the peak
        tag = np.broadcast_to(np.arange(h // 4)[:, None] / 0.1, (images, 1, h // 4, w // 4))
        return heatmap.astype(np.float32), tag.astype(np.float32)

    def close(self) -> None:
        pass


class SeesColours(Runner):
    """A joint wherever the image is red; blue says which, and green whose, which only the base size shows.

    The greenest edge is the image's left one; a mirrored image has it on the right, and left joints are right ones.
    """

    kind = "checkpoint"
    card = ModelCard("colours", COCO17, (128, 128), stride=2, grouping=GroupingSettings())

    def __init__(self, base_height: int) -> None:
        self.base_height = base_height
        self.seen: list[tuple[int, ...]] = []

    def maps(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Heatmaps (17, H/2, W/2) and (17, H/4, W/4) and tags (17, H/4, W/4) of an image (H, W, 3)."""
        red, green, blue = image.astype(np.float32).transpose(2, 0, 1)
        mirrored = np.nonzero(green > 230)[1].mean() > image.shape[1] / 2
        k = np.array(COCO17.flip_order if mirrored else range(17))[:, None, None]
        heat = np.where(np.abs(blue - 15 * k - 7) < 7, red / 255, 0).astype(np.float32) - 0.02
        owner = (0.08 if mirrored else 0.05) * green * (len(image) == self.base_height)
        tag = shrunk(owner[None], 4) + np.float32(0.02) * k
        return shrunk(heat, 2), shrunk(heat, 4), tag.astype(np.float32)

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        self.seen.append(batch.shape[1:3])
        high, low, tag = self.maps(batch[0])
        size = high.shape[:0:-1]
        enlarged_low = np.stack([cv2.resize(one, size, interpolation=cv2.INTER_LINEAR) for one in low])
        return ((high + enlarged_low) / 2)[None], tag[None]

    def close(self) -> None:
        pass


def shrunk(maps: np.ndarray, step: int) -> np.ndarray:
    """(K, H, W) -> the means of squares of pixels, (K, H / step, W / step)."""
    count, h, w = maps.shape
    return maps.reshape(count, h // step, step, w // step, step).mean(axis=(2, 4), dtype=np.float32)


def heads(*places: tuple[float, float], size: tuple[int, int] = (96, 160)) -> np.ndarray:
    """An RGB image (H, W, 3) with a soft red dot at each x, y."""
    y, x = np.mgrid[: size[0], : size[1]]
    red = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 4.0**2)) for px, py in places)
    image = np.zeros((*size, 3), np.uint8)
    image[..., 0] = np.clip(255 * red, 0, 255)
    return image


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(),
        Protocol(flip=True),
        Protocol(paper_resize=True),
        Protocol(flip=True, paper_resize=True),
        Protocol(flip=True, scales=(0.5, 1.0, 2.0)),
        Protocol(paper_resize=True, scales=(1.0, 1.3)),
    ],
    ids=lambda protocol: protocol.label,
)
def test_joints_are_found_where_they_are(protocol: Protocol) -> None:
    places = np.array([[30.0, 20.0], [101.0, 40.0], [64.0, 71.0]])
    poses = predict(PoseModel(SeesRed(), Path("heads")), heads(*map(tuple, places)), protocol)
    assert len(poses) == 3
    apart = np.linalg.norm(poses.keypoints - places[None], axis=2).min(axis=1)
    # A quarter of a map pixel is half an input pixel, and the image is shown at four fifths of its size. A mirrored
    # image's map pixels lie an input pixel beside the image's, in the official code too.
    assert apart.max() < (1.8 if protocol.flip else 1.2)
    assert poses.scores.min() > 0.7


def test_the_official_convention_leaves_no_shift_on_average() -> None:
    """A map pixel covers its input pixels: over many places the error is not biased by half of one."""
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(40):
        place = rng.uniform(20, 108, 2)
        (found,) = PoseModel(SeesRed(), Path("heads"))(heads(tuple(place), size=(128, 128))).keypoints
        errors.append(found[0] - place)
    assert np.abs(np.mean(errors, axis=0)).max() < 0.25


def test_a_mirrored_image_names_left_and_right_anew() -> None:
    heatmap = np.arange(3 * 2 * 4, dtype=np.float32).reshape(3, 2, 4)
    tag = np.arange(3 * 1 * 2, dtype=np.float32).reshape(3, 1, 2)
    back, tag_back = mirrored_back(heatmap, tag, (0, 2, 1))
    assert back[1, 0].tolist() == heatmap[2, 0, ::-1].tolist()
    assert back[0, 1].tolist() == heatmap[0, 1, ::-1].tolist()
    assert tag_back[2, 0].tolist() == tag[1, 0, ::-1].tolist()


def test_the_mirrored_tags_tell_people_apart_that_the_others_do_not() -> None:
    """Two people whose tags are alike in the image and not in its mirror image."""
    y, x = np.mgrid[:32, :32]
    heatmap = np.zeros((2, 32, 32), np.float32)
    for k, heights in enumerate(
        ((1.0, 0.9), (0.9, 1.0))
    ):  # the higher peak of one joint is on the other side
        for px, height in zip((8.2, 24.2), heights, strict=True):
            heatmap[k] += height * np.exp(-((x - px) ** 2 + (y - 8.1 - 4 * k) ** 2) / 4.5)
    same = np.tile(np.linspace(0, 0.1, 16, dtype=np.float32), (2, 16, 1))
    apart = np.where(np.arange(16) < 8, same, same + 5)
    settings = GroupingSettings(refine=False)
    found = [
        group_scales([TaggedMaps([heatmap] * len(tags), tags, 1.0)], settings, (64, 64), 2)
        for tags in ([same, same], [same, apart])
    ]
    sides = [poses.keypoints[:, :, 0] > 32 for poses in found]
    assert [len(one) for one in sides] == [2, 2]
    assert [bool((one[:, 0] == one[:, 1]).all()) for one in sides] == [False, True]


def test_maps_are_enlarged_with_aligned_edges_also_in_part() -> None:
    ramp = np.tile(np.arange(8, dtype=np.float32), (1, 8, 1))
    whole = enlarged(ramp, 0.5, (16, 16))[0, 0]
    np.testing.assert_allclose(whole[1:-1], (np.arange(16)[1:-1] + 0.5) / 2 - 0.5)
    part = enlarged(ramp, 0.5, (12, 12))[0, 0]
    np.testing.assert_allclose(part[1:], whole[1:12], atol=0.02)


def test_peaks_are_not_matched_to_peaks() -> None:
    with pytest.raises(SamkrError, match="joints cannot be matched") as refused:
        predict(PoseModel(SeesRed(), Path("heads")), heads((30, 20)), Protocol(match=True))
    assert refused.value.code == "SE-U48"


@pytest.mark.parametrize("case", ["portrait", "landscape"])
def test_the_official_people_come_out_of_several_scales(case: str) -> None:
    image, inputs, expected, scores = (
        OFFICIAL[f"{case}/{name}"] for name in ("image", "inputs", "poses", "scores")
    )
    scales = tuple(OFFICIAL[f"{case}/scales"].tolist())
    network = SeesColours(int(inputs[scales.index(1.0), 0]))
    protocol = Protocol(flip=bool(OFFICIAL[f"{case}/flip"]), scales=scales, paper_resize=True)
    poses = predict(PoseModel(network, Path("colours.pt")), image, protocol)
    assert [list(size) for size in dict.fromkeys(network.seen)] == inputs.tolist()
    order = np.argsort(-scores)
    assert len(poses) == len(order) == 3
    np.testing.assert_allclose(poses.keypoints, expected[order, :, :2], atol=0.02)
    # A level of the resized image, which OpenCV's versions round differently, is 0.004 of a heatmap.
    np.testing.assert_allclose(poses.joint_scores, expected[order, :, 2], atol=0.008)
    np.testing.assert_allclose(poses.scores, scores[order], atol=0.004)


def test_the_official_input_follows_the_smallest_scale() -> None:
    for height, width, short, least, *expected in OFFICIAL["sizes"]:
        assert paper_size((int(height), int(width)), int(short), least) == tuple(expected)
