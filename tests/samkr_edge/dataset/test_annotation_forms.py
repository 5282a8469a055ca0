"""Annotation files as tools write them: each form that is read is seen in the records, each other one is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from samkr_edge.dataset.keypoint_dataset import KeypointDataset, open_dataset
from samkr_edge.errors import SamkrError
from samkr_edge.pose.skeleton import COCO17

Content = dict[str, Any]
Change = Callable[[Content], Any]


def _content(people: int = 2) -> Content:
    """Two images; the people are in the first, their keypoints span 32 x 48 pixels."""
    keypoints = [value for k in range(17) for value in (4 + 2 * k, 1 + 3 * k, 2)]
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 40, "height": 50},
            {"id": 8, "file_name": "b.png", "width": 40, "height": 50},
        ],
        "annotations": [
            {
                "id": number, "image_id": 7, "category_id": 1, "keypoints": list(keypoints), "num_keypoints": 17,
                "bbox": [2, 0, 36, 50], "area": 900, "iscrowd": 0,
            }
            for number in range(1, people + 1)
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}],
    }  # fmt: skip


def write(root: Path, content: Content, split: str = "val") -> Path:
    path = root / "annotations" / f"person_keypoints_{split}2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return root


def _read(root: Path, change: Change) -> KeypointDataset:
    content = _content()
    change(content)
    return open_dataset(write(root, content))


def _person(**values: Any) -> Change:
    return lambda content: content["annotations"][0].update(values)


def _image(**values: Any) -> Change:
    return lambda content: content["images"][0].update(values)


def _all_ids_as_text(content: Content) -> None:
    for image in content["images"]:
        image["id"] = f"{image['id']:06d}"
    for person in content["annotations"]:
        person["image_id"] = "7"


def _species(content: Content) -> None:
    content["categories"] = [
        {"id": number, "name": name, "keypoints": list(COCO17.keypoints)}
        for number, name in ((3, "antelope"), (4, "sheep"))
    ]
    content["categories"].append({"id": 5, "name": "car"})
    template = content["annotations"][0]
    content["annotations"] = [
        {**template, "id": number, "category_id": category} for number, category in enumerate((3, 4, 4, 5), 1)
    ]


def test_all_categories_with_the_same_keypoints_are_read(tmp_path: Path) -> None:
    dataset = _read(tmp_path, _species)
    assert [person["category_id"] for person in dataset.annotations[7]] == [3, 4, 4]
    assert dataset.category_id == 3
    assert dataset.told["several"] == ["sheep (2)", "antelope (1)"]
    assert dataset.told["others"] == ["annotation 4 (image 7): 5"]


@pytest.mark.parametrize(
    ("change", "people", "told"),
    [
        (_person(category_id="1"), 2, {}),
        (lambda content: content["categories"][0].update(id="1"), 2, {}),
        (_person(category_id=0), 1, {"category": ["annotation 1 (image 7): 0"]}),
        (_person(category_id=[1]), 1, {"category": ["annotation 1 (image 7): [1]"]}),
        (_person(category_id=None), 2, {}),
    ],
)
def test_a_category_is_matched_by_its_number_or_left_out_by_name(
    tmp_path: Path, change: Change, people: int, told: dict[str, list[str]]
) -> None:
    dataset = _read(tmp_path, change)
    assert len(dataset.annotations[7]) == people
    assert dataset.told == told


@pytest.mark.parametrize(
    ("values", "box", "area", "told"),
    [
        ({"area": 0, "bbox": [0, 0, 0, 0]}, [4, 1, 32, 48], 0.53 * 32 * 48, True),
        ({"area": None, "bbox": None}, [4, 1, 32, 48], 0.53 * 32 * 48, True),
        ({"area": 0}, [2, 0, 36, 50], 0.53 * 36 * 50, True),
        ({"area": 700, "bbox": [5, 5, 0, 9]}, [4, 1, 32, 48], 700, True),
        ({"area": 700, "bbox": []}, [4, 1, 32, 48], 700, False),
        ({"area": 700}, [2, 0, 36, 50], 700, False),
    ],
)
def test_a_person_without_a_size_has_that_of_the_box_or_the_keypoints(
    tmp_path: Path, values: Content, box: list[float], area: float, told: bool
) -> None:
    dataset = _read(tmp_path, _person(**values))
    person = dataset.annotations[7][0]
    assert person["bbox"] == box
    assert person["area"] == pytest.approx(area)
    assert dataset.told == ({"filled": ["annotation 1 (image 7)"]} if told else {})


_SQUARE = [5, 5, 15, 5, 15, 15, 5, 15]
_RUNS = [5, 100, 1895]  # 100 pixels of 40 x 50
_COMPRESSED = "5T3Wk1"  # the same


@pytest.mark.parametrize(
    ("segmentation", "covered"),
    [
        ([_SQUARE], 100),
        (_SQUARE, 100),
        ([_SQUARE, [1, 2, 3, 4]], 100),
        ([], 0),
        (None, 0),
        ({"size": [50, 40], "counts": _RUNS}, 100),
        ({"size": [50, 40], "counts": _COMPRESSED}, 100),
    ],
)
def test_segmentations_that_can_be_drawn(tmp_path: Path, segmentation: Any, covered: int) -> None:
    from training.data.valid_area import _erase

    dataset = _read(tmp_path, _person(iscrowd=1, segmentation=segmentation))
    assert dataset.told == {}
    known = np.ones((50, 40), np.float32)
    _erase(known, dataset.annotations[7][0]["segmentation"])
    assert int((known == 0).sum()) == covered


@pytest.mark.parametrize(
    ("segmentation", "word"),
    [
        ({"size": [50, 40], "counts": [5, 100, 9999]}, "10104 pixels"),
        ({"size": [50, 40], "counts": [5, 100]}, "105 pixels"),
        ({"size": [50, 40], "counts": [5, -5, 2000]}, "pixels"),
        ({"size": [50, 40], "counts": [5, 2**40]}, "pixels"),
        ({"size": [50, 40], "counts": _COMPRESSED[:-1]}, "cut off"),
        ({"size": [50, 40], "counts": "5T3é"}, "characters"),
        ({"size": [50, 40], "counts": "o" * 5000}, "characters"),
        ({"size": [50, 40]}, "without counts"),
        ({"size": [40, 50], "counts": _RUNS}, "[40, 50]"),
        ({"counts": _RUNS}, "None"),
        ([[1, 2, 3, 4, 5, "x"]], "pairs"),
        ([[1, 2, 3, 4, 5, 6, 7]], "pairs"),
        ([[1, 2, 3, 4, 5, 1e9]], "far outside"),
        ([[1, 2, 3, 4, 5, float("nan")]], "far outside"),
        ([[1, 2, 3, 4, 5, None]], "pairs"),
        ([{"counts": 3}], "pairs"),
        ("runs", "str"),
    ],
)
def test_segmentations_that_cannot_be_drawn_are_left_out_by_name(
    tmp_path: Path, segmentation: Any, word: str
) -> None:
    dataset = _read(tmp_path, _person(iscrowd=1, segmentation=segmentation))
    assert dataset.annotations[7][0]["segmentation"] is None
    (line,) = dataset.told["segmentation"]
    assert line.startswith("annotation 1 (image 7): ")
    assert word in line
    # Of somebody with keypoints nothing is drawn, so nothing of it arrives.
    assert "segmentation" not in _read(tmp_path, _person(segmentation=segmentation)).annotations[7][0]


def test_what_pycocotools_compresses_is_read(tmp_path: Path) -> None:
    from pycocotools import mask

    region = np.zeros((50, 40), np.uint8, order="F")
    region[np.random.default_rng(0).random((50, 40)) > 0.6] = 1
    runs = mask.encode(region)
    dataset = _read(
        tmp_path,
        _person(iscrowd=1, segmentation={"size": [50, 40], "counts": runs["counts"].decode()}),
    )
    assert (mask.decode(dataset.annotations[7][0]["segmentation"]) == region).all()


def test_ids_written_as_text_are_numbers(tmp_path: Path) -> None:
    dataset = _read(tmp_path, _all_ids_as_text)
    assert [image.id for image in dataset.images] == [7, 8]
    assert [person["image_id"] for person in dataset.annotations[7]] == [7, 7]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_image(id=2**63), f"1 of 2 images have an id that is not a 63-bit integer: image {2**63}"),
        (_image(id="a"), "1 of 2 images have an id that is not a 63-bit integer: image a"),
        (_image(id=True), "63-bit integer"),
        (_image(width=None), "1 of 2 images have no width and height in pixels: image 7: None x 50"),
        (_image(width="wide"), "width and height"),
        (_image(file_name=None), "1 of 2 images have no file_name: image 7: None"),
        (_image(file_name="a\0b"), "no file_name"),
        (_image(crowdIndex="x"), "crowdIndex"),
        (
            lambda content: [person.update(image_id=9) for person in content["annotations"]],
            "2 of 2 annotations have an image that is not in the file: annotation 1 (image 9), annotation 2 (image 9)",
        ),
        (_person(keypoints=[10**400] * 51), "NaN or beyond any image"),
        (_person(keypoints=[1e300] * 51), "NaN or beyond any image"),
        (_person(bbox={"x": 1}), "not a number"),
        (_person(area=float("inf")), "box or area"),
        (lambda content: content.update(categories={"id": 1}), "'categories' is not a list"),
    ],
)
def test_what_cannot_be_read_is_counted_and_named(tmp_path: Path, change: Change, words: str) -> None:
    with pytest.raises(SamkrError) as caught:
        _read(tmp_path, change)
    assert caught.value.code == "SE-D12"
    assert words in caught.value.sentence()


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    path = write(tmp_path, _content()) / "annotations" / "person_keypoints_val2017.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(open_dataset(tmp_path).annotations[7]) == 2


def test_json_without_end_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, _content()) / "annotations" / "person_keypoints_val2017.json"
    for text in ("[" * 100_000, '{"images": ' + "9" * 5000 + "}"):
        path.write_text(text)
        with pytest.raises(SamkrError) as caught:
            open_dataset(tmp_path)
        assert caught.value.code == "SE-D03"


def _pixels(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((50, 40, 3), np.uint8))


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("a.png", "images/val2017/a.png"),
        ("a.png", "val2017/a.png"),
        ("a.png", "images/a.png"),
        ("a.png", "val/a.png"),
        ("a.png", "annotations/a.png"),
        ("cam1/a.png", "images/cam1/a.png"),
        ("cam1\\a.png", "images/val2017/cam1/a.png"),
        ("images/val2017/a.png", "images/val2017/a.png"),
    ],
)
def test_images_are_found_where_tools_put_them(tmp_path: Path, name: str, place: str) -> None:
    (tmp_path / "images" / "val2017").mkdir(parents=True)
    _pixels(tmp_path / place)
    dataset = _read(tmp_path, _image(file_name=name))
    assert dataset.images[0].path.samefile(tmp_path / place)


def test_an_annotation_file_of_another_name_is_offered_and_can_be_given(tmp_path: Path) -> None:
    write(tmp_path, _content())
    file = tmp_path / "annotations" / "person_keypoints_default.json"
    (tmp_path / "annotations" / "person_keypoints_val2017.json").rename(file)
    _pixels(tmp_path / "images" / "default" / "a.png")
    with pytest.raises(SamkrError) as caught:
        open_dataset(tmp_path)
    assert caught.value.code == "SE-D10"
    assert "annotations/person_keypoints_default.json" in caught.value.sentence()
    assert str(file) in str(caught.value.fix)
    dataset = open_dataset(file)
    assert (dataset.root, len(dataset.annotations[7])) == (tmp_path, 2)
    assert dataset.images[0].path.is_file()


@pytest.mark.parametrize(
    ("skeleton", "edges"),
    [
        (None, ()),
        ([[1, 2], [2, 3]], ((0, 1), (1, 2))),
        ([[0, 1], [1, 2]], ((0, 1), (1, 2))),
        ([[1, 9], [1, "x"], 5, [2, 3]], ((1, 2),)),
        ("nose-tail", ()),
    ],
)
def test_bones_that_cannot_be_drawn_are_left_out(
    tmp_path: Path, skeleton: Any, edges: tuple[tuple[int, int], ...]
) -> None:
    assert _own(tmp_path, skeleton=skeleton).skeleton.edges == edges


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"sigmas": [0.1, 0, 0.1]}, "sigma of 0"),
        ({"sigmas": [0.1, -0.2, 0.1]}, "sigma of -0.2"),
        ({"sigmas": [0.1, float("nan"), 0.1]}, "sigma of nan"),
        ({"flip_pairs": [[0, 1], [1, 2]]}, "keypoint 1 (left) is in two flip pairs"),
        ({"flip_pairs": [[0, 10**400]]}, "outside"),
        ({"flip_pairs": 3}, "not iterable"),
    ],
)
def test_sigmas_and_flip_pairs_that_mean_nothing_are_refused(
    tmp_path: Path, values: Content, word: str
) -> None:
    with pytest.raises(SamkrError) as caught:
        _own(tmp_path, **values)
    assert caught.value.code == "SE-D23"
    assert word in caught.value.sentence()


def _own(root: Path, **values: Any) -> KeypointDataset:
    content = _content()
    category = {"keypoints": ["nose", "left", "right"], "flip_pairs": [[1, 2]], "sigmas": [0.1, 0.1, 0.1]}
    content["categories"][0].update({**category, **values})
    for person in content["annotations"]:
        person["keypoints"] = person["keypoints"][:9]
    return open_dataset(write(root, content))
