from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from samkr_edge.dataset.decoder_messages import ListeningReader
from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.errors import SamkrError
from samkr_edge.pose.geometry import fit_matrix, warp
from samkr_edge.pose.skeleton import COCO17
from training.data.augment import draw_placement, jitter, place_joints
from training.data.rendered.dataset import SynthSettings, write_dataset
from training.data.rendered.scene import SceneSettings
from training.data.settings import AugmentSettings, Crop, EncodeSettings, Extent, GroupingEncodeSettings
from training.data.targets import STRIDE
from training.data.training_set import TrainingSet
from training.data.valid_area import known_area, valid_area


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "people"
    write_dataset(root, SynthSettings(train=6, val=2, scene=SceneSettings(size=96)))
    return root


def _set(root: Path, augment: AugmentSettings | None = None, **kwargs: Any) -> TrainingSet:
    settings = EncodeSettings(sigma=1.0, center_sigma=1.5, offset_radius=2)
    return TrainingSet(open_dataset(root, "train"), (64, 64), settings, augment, **kwargs)


def test_samples_have_the_shapes_and_types_of_the_contract(people: Path) -> None:
    sample = _set(people)[0]
    assert {name: (tuple(value.shape), value.dtype) for name, value in sample.items()} == {
        "image": ((64, 64, 3), torch.uint8),
        "heatmap": ((18, 16, 16), torch.float32),
        "mask": ((18, 16, 16), torch.float32),
        "valid": ((1, 16, 16), torch.float32),
        "offset": ((34, 16, 16), torch.float32),
        "offset_weight": ((34, 16, 16), torch.float32),
        "image_id": ((), torch.int64),
    }


def test_samples_for_tags_have_theirs(people: Path) -> None:
    settings = GroupingEncodeSettings(sigma=1.0, max_people=7)
    samples = TrainingSet(open_dataset(people, "train"), (64, 96), settings, AugmentSettings.off())
    assert {name: (tuple(value.shape), value.dtype) for name, value in samples[0].items()} == {
        "image": ((64, 96, 3), torch.uint8),
        "heatmap_low": ((17, 16, 24), torch.float32),
        "valid_low": ((1, 16, 24), torch.float32),
        "heatmap": ((17, 32, 48), torch.float32),
        "valid": ((1, 32, 48), torch.float32),
        "joints": ((7, 17, 2), torch.int64),
        "image_id": ((), torch.int64),
    }
    for sample in samples:
        places = sample["joints"][sample["joints"][..., 1] > 0][:, 0]
        # The pixel that shows a joint is at most half a pixel from it, in x and in y.
        assert (sample["heatmap_low"].flatten()[places] >= np.exp(-0.25) - 1e-6).all()


def test_a_sample_depends_on_seed_epoch_and_index_alone(people: Path) -> None:
    samples = _set(people, seed=1)
    first = samples.sample(3, 2)
    for _ in range(3):
        samples[0]
    again = _set(people, seed=1, cache_mb=0).sample(3, 2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["image"], samples.sample(4, 2)["image"])
    assert not torch.equal(first["image"], _set(people, seed=2).sample(3, 2)["image"])
    samples.set_epoch(3)
    assert torch.equal(samples[2]["image"], first["image"])
    assert sorted(samples.order(0)) == list(range(6))
    assert samples.order(0).tolist() == _set(people, seed=1).order(0).tolist()


def test_loader_workers_see_a_new_epoch(people: Path) -> None:
    samples = _set(people)
    samples.set_epoch(5)
    batch = next(iter(DataLoader(samples, batch_size=6, num_workers=1)))
    assert torch.equal(batch["image"][2], samples.sample(5, 2)["image"])


def test_without_augmentation_a_sample_is_what_evaluation_sees(people: Path) -> None:
    samples = _set(people, AugmentSettings.off())
    image = samples._image(0)
    expected = warp(image, fit_matrix((96, 96), (64, 64)), (64, 64))
    assert np.array_equal(samples[0]["image"].numpy(), expected)


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize(("crop", "parity"), [("fit", False), ("short", False), ("short", True)])
def test_joints_move_exactly_with_the_pixels(flip: float, crop: Crop, parity: bool) -> None:
    settings = AugmentSettings(flip=flip, crop=crop, parity=parity)
    joint = np.array([[[47.0, 29.0, 2.0]] * 17])
    source = np.zeros((80, 100), np.uint8)
    cv2.circle(source, (47, 29), 3, 255, -1)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        placement = draw_placement((80, 100), (128, 160), settings, rng)
        assert placement.mirrored == bool(flip)
        moved = place_joints(joint, placement, COCO17.flip_order, STRIDE)[0, 0, :2] * STRIDE
        pixels = cv2.warpAffine(source, placement.matrix, (160, 128))
        if 6 < moved[0] < 153 and 6 < moved[1] < 121:
            moments = cv2.moments(pixels)
            found = np.array([moments["m10"], moments["m01"]]) / moments["m00"]
            np.testing.assert_allclose(found, moved, atol=0.15)


def test_mirroring_swaps_left_and_right_and_parity_shifts_by_the_official_bias() -> None:
    settings = AugmentSettings(rotation=0, scale=(1, 1), translation=0, flip=1.0)
    joints = np.zeros((1, 17, 3))
    joints[0, 5] = (20, 10, 2)  # left shoulder
    placement = draw_placement((64, 64), (64, 64), settings, np.random.default_rng(0))
    moved = place_joints(joints, placement, COCO17.flip_order, STRIDE)
    assert moved[0, 6].tolist() == [(63 - 20) / 4, 2.5, 2]
    assert moved[0, 5, 2] == 0
    official = place_joints(joints, placement, COCO17.flip_order, STRIDE, parity=True)
    assert official[0, 6, 0] == pytest.approx(16 - 1 - 20 / 4)


@pytest.mark.parametrize("source_hw", [(100, 150), (150, 100)])
@pytest.mark.parametrize(
    ("crop", "parity", "scale"), [("fit", False, 64 / 150), ("short", False, 0.64), ("short", True, 0.64)]
)
def test_a_crop_lays_the_middle_on_the_middle(
    source_hw: tuple[int, int], crop: Crop, parity: bool, scale: float
) -> None:
    settings = replace(AugmentSettings.off(), crop=crop, parity=parity)
    matrix = draw_placement(source_hw, (64, 64), settings, np.random.default_rng(0)).matrix
    np.testing.assert_allclose(matrix[:, :2], scale * np.eye(2), atol=1e-12)
    half = 0.0 if parity else 0.5  # DEKR lays the borders of the pixels on each other
    middle = np.array([source_hw[1] / 2 - half, source_hw[0] / 2 - half])
    np.testing.assert_allclose(matrix[:, :2] @ middle + matrix[:, 2], 32 - half)


@pytest.mark.parametrize("input_hw", [(64, 96), (96, 64)])
def test_draws_fill_the_papers_ranges_and_no_more(input_hw: tuple[int, int]) -> None:
    """DEKR's: a cut-out of 0.75 to 1.5 short sides, 30 degrees and a fifth of the input's short side either way."""
    middle = np.array([149 / 2, 99 / 2])
    sizes, angles, shifts = [], [], []
    for seed in range(3000):
        rng = np.random.default_rng(seed)
        drawn = draw_placement((100, 150), input_hw, AugmentSettings(crop="short", flip=0), rng)
        (a, _, _), (c, _, _) = drawn.matrix
        sizes.append(0.64 / drawn.squared_scale**0.5)
        angles.append(np.degrees(np.arctan2(c, a)))
        at = drawn.matrix[:, :2] @ middle + drawn.matrix[:, 2]
        shifts.append((at - np.array([input_hw[1] - 1, input_hw[0] - 1]) / 2) / 64)
    for found, low, high in ((sizes, 0.75, 1.5), (angles, -30, 30), (shifts, -0.2, 0.2)):
        least, largest, near = np.min(found, 0), np.max(found, 0), 0.01 * (high - low)
        assert ((least >= low - 1e-9) & (least < low + near)).all()
        assert ((largest <= high + 1e-9) & (largest > high - near)).all()
        # Evenly in between: the middle draw is the middle of the range.
        np.testing.assert_allclose(np.median(found, 0), (low + high) / 2, atol=5 * near)


@pytest.mark.parametrize(("extent", "sides"), [("person", (160, 80)), ("image", (460, 280))])
def test_offsets_weigh_by_the_extent_in_the_input(
    tmp_path: Path, extent: Extent, sides: tuple[int, int]
) -> None:
    person = _person(5000)
    person["keypoints"] = [value for k in range(17) for value in (300 + 10 * k, 200 + 5 * k, 2)]
    root = _annotate(tmp_path / "d", [person, {**_person(5000), "id": 2, "image_id": 2}])
    settings = EncodeSettings(sigma=1.0, center_sigma=1.5, offset_extent=extent, smallest_extent=1.0)
    # Cut-outs of 1.2 short sides: 320 input pixels for 480 * 1.2 source pixels.
    augment = replace(AugmentSettings.off(), crop="short", scale=(1.2, 1.2))
    weights = TrainingSet(open_dataset(root, "train"), (320, 320), settings, augment)[0]["offset_weight"]
    expected = 1 / (np.hypot(*sides) * 320 / (480 * 1.2))
    np.testing.assert_allclose(weights[weights > 0].unique(), [expected], rtol=1e-6)


def test_parity_without_its_crop_is_a_contradiction() -> None:
    with pytest.raises(ValueError, match="crop: short"):
        AugmentSettings(parity=True)


def test_scale_above_one_makes_people_smaller() -> None:
    settings = AugmentSettings(rotation=0, scale=(1.5, 1.5), translation=0, flip=0)
    placement = draw_placement((64, 64), (64, 64), settings, np.random.default_rng(0))
    assert placement.squared_scale == pytest.approx(1 / 1.5**2)


def test_jitter_changes_bytes_within_range_and_zero_leaves_them() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert jitter(image, 0.0, np.random.default_rng(1)) is image
    changed = jitter(image, 0.5, np.random.default_rng(1))
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, image)


def test_crowds_and_people_without_keypoints_are_not_supervised_and_padding_is_but_for_parity() -> None:
    placement = draw_placement((64, 128), (128, 128), AugmentSettings.off(), np.random.default_rng(0))
    polygon = [[64.0, 0, 128, 0, 128, 64, 64, 64]]
    run_lengths = {"size": [64, 128], "counts": [0, 64 * 16, 64 * 112]}  # the first 16 columns
    regions = [polygon, run_lengths, None]
    known, matrix = known_area((64, 128), regions), placement.matrix / STRIDE
    valid = valid_area(known, matrix, (32, 32))
    as_dekr = valid_area(known, matrix, (32, 32), padding=False)
    np.testing.assert_array_equal(valid[10:22], as_dekr[10:22])
    for padding in (slice(None, 7), slice(25, None)):
        assert valid[padding].all()
        assert not as_dekr[padding].any()
    valid = valid[10:22]
    assert valid[:, 5:15].all()
    assert not valid[:, :3].any()
    assert not valid[:, 17:].any()


def _annotate(root: Path, annotations: list[dict[str, Any]], size: tuple[int, int] = (640, 480)) -> Path:
    (root / "annotations").mkdir(parents=True)
    (root / "images" / "train2017").mkdir(parents=True)
    images = [{"id": i, "file_name": f"{i}.png", "width": size[0], "height": size[1]} for i in (1, 2)]
    for image in images:
        cv2.imwrite(
            str(root / "images" / "train2017" / str(image["file_name"])),
            np.zeros((size[1], size[0], 3), np.uint8),
        )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}],
    }
    (root / "annotations" / "person_keypoints_train2017.json").write_text(json.dumps(content))
    return root


def _person(area: float, v: int = 2) -> dict[str, Any]:
    keypoints = [value for k in range(17) for value in ((300 + k) * (v > 0), (200 + k) * (v > 0), v)]
    return {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "keypoints": keypoints,
        "bbox": [300, 200, 17, 17],
        "area": area,
    }


def test_training_hears_what_decoders_say_of_an_image(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = _annotate(tmp_path / "d", [_person(5000)])
    image = root / "images" / "train2017" / "1.png"
    data = cv2.imencode(".jpg", np.full((480, 640, 3), 90, np.uint8))[1].tobytes()
    image.write_bytes(data[:-2] + bytes(range(1, 16)) + data[-2:])
    reader = ListeningReader()
    assert _set(root, read=reader.read)[0]["image"].shape == (64, 64, 3)
    assert [*reader.said] == [image]
    assert capfd.readouterr().err == ""


def test_images_without_annotations_are_left_out_and_counted(tmp_path: Path) -> None:
    samples = _set(_annotate(tmp_path / "d", [_person(5000)]), AugmentSettings.off())
    assert (len(samples), samples.skipped) == (1, 1)
    assert samples[0]["heatmap"][-1].max() > 0.5


def test_small_people_of_coco_have_keypoints_but_no_centre(tmp_path: Path) -> None:
    people = [_person(900), {**_person(5000), "id": 2, "image_id": 2}]
    sample = _set(_annotate(tmp_path / "d", people), AugmentSettings.off())[0]
    assert sample["heatmap"][0].max() > 0.5
    assert sample["heatmap"][-1].max() == 0
    assert not sample["offset_weight"].any()


@pytest.mark.parametrize(("smallest_person", "has_centre"), [(None, True), (26.0, True), (32.0, False)])
def test_the_limit_of_small_people_is_flat_where_it_is_given(
    tmp_path: Path, smallest_person: float | None, has_centre: bool
) -> None:
    root = _annotate(tmp_path / "d", [_person(700), {**_person(5000), "id": 2, "image_id": 2}], (400, 300))
    settings = EncodeSettings(sigma=1.0, center_sigma=1.5, smallest_person=smallest_person)
    samples = TrainingSet(open_dataset(root, "train"), (64, 64), settings, AugmentSettings.off())
    assert samples[0]["offset_weight"].any() == has_centre


def test_nothing_to_learn_and_unreadable_images_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(SamkrError) as caught:
        _set(_annotate(tmp_path / "none", [_person(5000, v=0)]))
    assert caught.value.code == "SE-D18"
    root = _annotate(tmp_path / "d", [_person(5000)])
    (root / "images" / "train2017" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    with pytest.raises(SamkrError, match=r"1\.png") as caught:
        _set(root)[0]
    assert caught.value.code == "SE-D15"


def test_an_image_that_cannot_be_read_is_named_with_its_id_and_the_way_to_find_all(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", SynthSettings(train=2, val=1), processes=1)
    dataset = open_dataset(tmp_path / "data", "train")
    samples = TrainingSet(dataset, (64, 64))
    dataset.images[1].path.unlink()
    with pytest.raises(SamkrError) as caught:
        samples.sample(0, 1)
    assert caught.value.code == "SE-D15"
    assert caught.value.facts["image"].startswith(f"id {dataset.images[1].id} of ")
    assert caught.value.fix.startswith("samkr-edge data check")
