from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.errors import SamkrError
from samkr_edge.images import read_image
from samkr_edge.pose.skeleton import COCO17, CROWDPOSE14, Skeleton


def _content(skeleton: Skeleton = COCO17, **image: Any) -> dict[str, Any]:
    keypoints = [value for k in range(len(skeleton)) for value in (k, 2 * k, 2)]
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 40, "height": 50, **image},
            {"id": 8, "file_name": "b.jpg", "width": 40, "height": 50, **image},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "keypoints": keypoints, "bbox": [0, 0, 10, 20]}
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(skeleton.keypoints)}],
    }


def _coco(root: Path, content: Any, split: str = "val") -> Path:
    path = root / "annotations" / f"person_keypoints_{split}2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return root


def _crowdpose(root: Path, content: Any, split: str = "val") -> Path:
    (root / "json").mkdir(parents=True)
    (root / "json" / f"crowdpose_{split}.json").write_text(json.dumps(content))
    return root


def _error(root: Path, split: str = "val") -> SamkrError:
    with pytest.raises(SamkrError) as caught:
        open_dataset(root, split)
    return caught.value


def test_coco_layout_is_recognised_and_annotations_are_completed(tmp_path: Path) -> None:
    (tmp_path / "val2017").mkdir()
    dataset = open_dataset(_coco(tmp_path, _content()))
    assert (dataset.kind, dataset.skeleton, len(dataset)) == ("coco", COCO17, 2)
    assert dataset.images[0].path == tmp_path / "val2017" / "a.jpg"
    person = dataset.annotations[7][0]
    assert person["num_keypoints"] == 17
    assert person["iscrowd"] == 0
    assert person["area"] == pytest.approx(0.53 * 200)
    assert dataset.annotations[8] == []


def test_images_folder_is_preferred_where_both_coco_layouts_exist(tmp_path: Path) -> None:
    (tmp_path / "val2017").mkdir()
    (tmp_path / "images" / "val2017").mkdir(parents=True)
    assert open_dataset(_coco(tmp_path, _content())).images[0].path.parent.parent.name == "images"


@pytest.mark.parametrize("with_category", [True, False])
def test_crowdpose_layout_is_recognised_with_and_without_its_category(
    tmp_path: Path, with_category: bool
) -> None:
    content = _content(CROWDPOSE14, crowdIndex=0.4)
    if not with_category:
        del content["categories"]
    dataset = open_dataset(_crowdpose(tmp_path, content))
    assert (dataset.kind, dataset.skeleton) == ("crowdpose", CROWDPOSE14)
    assert dataset.images[0].crowd_index == pytest.approx(0.4)
    assert dataset.images[0].path == tmp_path / "images" / "a.jpg"


def test_named_annotation_file_and_image_folder_win(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(_content()))
    dataset = open_dataset(tmp_path, annotations=file, images=tmp_path / "pictures")
    assert dataset.images[0].path == tmp_path / "pictures" / "a.jpg"


def test_missing_folder_and_missing_annotations_name_what_was_tried(tmp_path: Path) -> None:
    assert _error(tmp_path / "nowhere").code == "SE-D10"
    error = _error(tmp_path)
    assert error.code == "SE-D10"
    assert any("crowdpose_val.json" in fact for fact in error.facts)
    assert any("person_keypoints_val2017.json" in fact for fact in error.facts)


def test_absent_split_names_the_splits_that_exist(tmp_path: Path) -> None:
    error = _error(_coco(tmp_path, _content(), "train"), "val")
    assert error.code == "SE-D11"
    assert any("train" in fact for fact in error.facts)


def test_truncated_json_is_one_clear_error(tmp_path: Path) -> None:
    text = json.dumps(_content())
    assert _error(_coco(tmp_path, text[: len(text) // 2])).code == "SE-D03"


def _wrong_count(content: dict[str, Any]) -> None:
    content["annotations"][0]["keypoints"].append(3)


def _nan(content: dict[str, Any]) -> None:
    content["annotations"][0]["keypoints"][0] = float("nan")


def _text(content: dict[str, Any]) -> None:
    content["annotations"][0]["keypoints"][0] = "12"


def _unknown_image(content: dict[str, Any]) -> None:
    content["annotations"][0]["image_id"] = 99


def _bad_box(content: dict[str, Any]) -> None:
    content["annotations"][0]["bbox"] = [1, 2]


def _no_size(content: dict[str, Any]) -> None:
    del content["images"][0]["width"]


def _same_id(content: dict[str, Any]) -> None:
    content["images"][1]["id"] = 7


def _null_count(content: dict[str, Any]) -> None:
    content["annotations"][0]["num_keypoints"] = None


def _list_as_id(content: dict[str, Any]) -> None:
    content["annotations"][0]["image_id"] = [7]


def _no_list(content: dict[str, Any]) -> None:
    content["annotations"] = {"id": 3}


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (_wrong_count, "not 51"),
        (_nan, "NaN"),
        (_text, "not a number"),
        (_unknown_image, "99"),
        (_bad_box, "annotation 1"),
        (_no_size, "width"),
        (_same_id, "image 7"),
        (_null_count, "annotation 1"),
        (_list_as_id, "annotation 1"),
        (_no_list, "annotations"),
    ],
)
def test_wrong_content_names_file_and_entry(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], None], word: str
) -> None:
    content = _content()
    spoil(content)
    error = _error(_coco(tmp_path, content))
    assert error.code == "SE-D12"
    assert "person_keypoints_val2017.json" in error.message
    assert word in " ".join(error.facts)


def test_empty_split(tmp_path: Path) -> None:
    assert _error(_coco(tmp_path, {"images": [], "annotations": [], "categories": []})).code == "SE-D14"


def test_unknown_keypoints_need_a_description_and_take_one(tmp_path: Path) -> None:
    own = Skeleton("x", ("nose", "left_paw", "right_paw"), ((1, 2),), ((0, 1),), (0.1, 0.1, 0.1))
    error = _error(_coco(tmp_path, _content(own)))
    assert error.code == "SE-D13"
    assert "flip_pairs, sigmas" in " ".join(error.facts)
    (tmp_path / "annotations" / "skeleton.yaml").write_text(
        "keypoints: [nose, left_paw, right_paw]\nflip_pairs: [[1, 2]]\nedges: [[0, 1]]\nsigmas: [.1, .1, .1]\n"
    )
    skeleton = open_dataset(tmp_path).skeleton
    assert skeleton.flip_order == (0, 2, 1)


def test_unknown_keypoints_described_in_their_category(tmp_path: Path) -> None:
    own = Skeleton("x", ("nose", "left_paw", "right_paw"), (), (), (0.1, 0.1, 0.1))
    content = _content(own)
    content["categories"][0].update(flip_pairs=[[1, 2]], sigmas=[0.1, 0.2, 0.3], skeleton=[[1, 2], [1, 3]])
    skeleton = open_dataset(_coco(tmp_path, content)).skeleton
    assert skeleton.edges == ((0, 1), (0, 2))
    assert skeleton.sigmas == (0.1, 0.2, 0.3)


def test_what_a_category_says_of_known_keypoints_holds_for_it(tmp_path: Path) -> None:
    def opened(**own: object) -> Skeleton:
        content = _content()
        content["categories"][0].update(own)
        return open_dataset(_coco(tmp_path, content)).skeleton

    ours = [list(pair) for pair in COCO17.flip_pairs]
    assert opened(sigmas=list(COCO17.sigmas), flip_pairs=ours, skeleton=[[1, 2]]) == COCO17
    assert opened(sigmas=None) == COCO17
    assert opened(sigmas=[0.1] * 17) == replace(COCO17, name="custom", sigmas=(0.1,) * 17)
    assert opened(flip_pairs=ours[:1]).flip_order[:5] == (0, 2, 1, 3, 4)


@pytest.mark.parametrize(
    "own", [{"sigmas": [0.1] * 16 + [0]}, {"sigmas": []}, {"flip_pairs": [[0, 1], [1, 2]]}]
)
def test_a_category_of_known_keypoints_with_values_that_cannot_be_used_says_so(
    tmp_path: Path, own: dict[str, object]
) -> None:
    content = _content()
    content["categories"][0].update(own)
    assert _error(_coco(tmp_path, content)).code == "SE-D13"


def test_a_category_without_keypoints_is_an_error_unless_the_count_says_what_they_are(tmp_path: Path) -> None:
    content = _content()
    del content["categories"][0]["keypoints"]
    assert open_dataset(_coco(tmp_path, content)).skeleton == COCO17
    content["annotations"][0]["keypoints"] = [1, 2, 2] * 5
    error = _error(_coco(tmp_path, content))
    assert error.code == "SE-D13"
    assert "category with its keypoint names" in " ".join(error.facts)
    assert "skeleton.yaml" in str(error.fix)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("- nose\n- tail\n", "list"),
        ("keypoints: [nose, tail]\nflip_pairs: []\n", "sigmas"),
        ("keypoints: [nose, tail]\nflip_pairs: [[0, 5]]\nsigmas: [.1, .1]\n", "(0, 5)"),
        ("keypoints: [nose, tail]\nflip_pairs: []\nsigmas: [.1]\n", "1 sigmas"),
        ("keypoints: [nose\n", "line"),
    ],
)
def test_a_skeleton_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, word: str) -> None:
    own = Skeleton("x", ("nose", "tail"), (), (), (0.1, 0.1))
    _coco(tmp_path, _content(own))
    (tmp_path / "annotations" / "skeleton.yaml").write_text(text)
    error = _error(tmp_path)
    assert error.code == "SE-D13"
    assert word in " ".join(error.facts)


def _write(path: Path, pixels: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), pixels)
    return path


def test_images_of_every_kind_become_rgb_bytes(tmp_path: Path) -> None:
    blue = np.zeros((6, 5, 3), np.uint8)
    blue[:, :, 0] = 200
    assert read_image(_write(tmp_path / "c.png", blue))[0, 0].tolist() == [0, 0, 200]
    gray = read_image(_write(tmp_path / "g.png", np.full((6, 5), 90, np.uint8)))
    assert gray.shape == (6, 5, 3)
    assert gray[0, 0].tolist() == [90, 90, 90]
    deep = read_image(_write(tmp_path / "d.png", np.full((6, 5), 256 * 100, np.uint16)))
    assert deep.dtype == np.uint8
    assert deep[0, 0].tolist() == [100, 100, 100]
    alpha = np.dstack((blue, np.full((6, 5), 255, np.uint8)))
    assert read_image(_write(tmp_path / "a.png", alpha)).shape == (6, 5, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_cut_off_image_is_an_error_not_a_gray_picture(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = _write(tmp_path / f"a.{suffix}", noise)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(SamkrError) as caught:
        read_image(path)
    assert caught.value.code == "SE-D15"
    assert f"a.{suffix}" in caught.value.message


def test_missing_and_foreign_files_are_errors_with_their_name(tmp_path: Path) -> None:
    (tmp_path / "t.jpg").write_text("not an image")
    (tmp_path / "e.jpg").write_bytes(b"")
    for name in ("t.jpg", "e.jpg", "none.jpg"):
        with pytest.raises(SamkrError, match=name) as caught:
            read_image(tmp_path / name)
        # Right for an image that `predict` was given as well as for one of a data set.
        assert str(caught.value.fix).startswith("restore the file")
        assert "if annotations name it" in str(caught.value.fix)


def test_a_link_to_a_missing_image_is_told_with_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "x.png").symlink_to("next.png")
    (tmp_path / "next.png").symlink_to("gone/far.png")
    with pytest.raises(SamkrError) as caught:
        read_image(tmp_path / "x.png")
    assert caught.value.code == "SE-D15"
    assert caught.value.facts == (
        f"reason     a link to a file that is not there: {tmp_path / 'gone/far.png'}",
    )
    assert str(caught.value.fix).endswith(f"rm {tmp_path / 'x.png'}")


def _segment(marker: int, payload: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(payload) + 2).to_bytes(2, "big") + payload


def _cmyk_jpeg(*values: int) -> bytes:
    """An 8x8 JPEG of four constant components, as Adobe's programs store them: inverted. One block each, DC only."""
    bits = ""
    for value in values:
        level = 8 * (value - 128)
        size = abs(level).bit_length()
        # Code of the size (all twelve have four bits), then the level; then the end of the block, one zero bit.
        bits += (
            f"{size:04b}" + (f"{level if level > 0 else level + 2**size - 1:0{size}b}" if size else "") + "0"
        )
    bits += "1" * (-len(bits) % 8)
    scan = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)).replace(b"\xff", b"\xff\x00")
    components = b"".join(bytes((number, 0x11, 0)) for number in range(1, 5))
    return b"".join((
        b"\xff\xd8",
        _segment(0xEE, b"Adobe\x00\x64" + bytes(5)),
        _segment(0xDB, bytes((0,)) + bytes((1,)) * 64),
        _segment(0xC0, bytes((8, 0, 8, 0, 8, 4)) + components),
        _segment(0xC4, bytes((0, 0, 0, 0, 12)) + bytes(12) + bytes(range(12))),
        _segment(0xC4, bytes((0x10, 1)) + bytes(15) + bytes((0,))),
        _segment(0xDA, bytes((4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0))),
        scan,
        b"\xff\xd9",
    ))  # fmt: skip


def test_a_cmyk_photograph_is_converted(tmp_path: Path) -> None:
    path = tmp_path / "c.jpg"
    path.write_bytes(_cmyk_jpeg(200, 100, 50, 255))
    image = read_image(path)
    assert image.shape == (8, 8, 3)
    assert np.abs(image.astype(int) - (200, 100, 50)).max() <= 2


def _turned(path: Path, pixels: np.ndarray, orientation: int) -> Path:
    """A JPEG whose EXIF data asks to be turned before it is shown."""
    data = cv2.imencode(".jpg", pixels)[1].tobytes()
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01" + orientation.to_bytes(2, "big") + b"\x00\x00"
    exif = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01" + entry + bytes(4)
    path.write_bytes(data[:2] + _segment(0xE1, exif) + data[2:])
    return path


def test_annotated_images_are_read_as_stored_and_photographs_upright(tmp_path: Path) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255
    path = _turned(tmp_path / "t.jpg", pixels, orientation=6)  # a quarter turn clockwise
    assert read_image(path).shape == (16, 32, 3)
    upright = read_image(path, upright=True)
    assert upright.shape == (32, 16, 3)
    assert upright[:12].min() > 200
    assert upright[20:].max() < 50


def test_one_pixel_is_an_image(tmp_path: Path) -> None:
    assert read_image(_write(tmp_path / "p.png", np.full((1, 1, 3), 7, np.uint8))).tolist() == [[[7, 7, 7]]]
