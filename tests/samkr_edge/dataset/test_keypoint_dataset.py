from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.errors import SamkrError
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
    assert _error(tmp_path / "nowhere").code == "SE-A23"
    error = _error(tmp_path)
    assert error.code == "SE-D10"
    assert "crowdpose_val.json" in error.sentence()
    assert "person_keypoints_val2017.json" in error.sentence()


def test_absent_split_names_the_splits_that_exist(tmp_path: Path) -> None:
    error = _error(_coco(tmp_path, _content(), "train"), "val")
    assert error.code == "SE-D11"
    assert "train" in error.sentence()


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
        (_wrong_count, "do not have 51"),
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
    assert word in error.sentence()


def test_empty_split(tmp_path: Path) -> None:
    assert _error(_coco(tmp_path, {"images": [], "annotations": [], "categories": []})).code == "SE-D14"


def test_unknown_keypoints_need_a_description_and_take_one(tmp_path: Path) -> None:
    own = Skeleton("x", ("nose", "left_paw", "right_paw"), ((1, 2),), ((0, 1),), (0.1, 0.1, 0.1))
    error = _error(_coco(tmp_path, _content(own)))
    assert error.code == "SE-D13"
    assert "flip_pairs, sigmas" in error.sentence()
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
    assert _error(_coco(tmp_path, content)).code == "SE-D23"


def test_a_category_without_keypoints_is_an_error_unless_the_count_says_what_they_are(tmp_path: Path) -> None:
    content = _content()
    del content["categories"][0]["keypoints"]
    assert open_dataset(_coco(tmp_path, content)).skeleton == COCO17
    content["annotations"][0]["keypoints"] = [1, 2, 2] * 5
    error = _error(_coco(tmp_path, content))
    assert error.code == "SE-D13"
    assert "category with its keypoint names" in error.sentence()
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
    assert error.code == "SE-D23"
    assert word in error.sentence()
