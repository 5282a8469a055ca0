"""What `data check` says of a split is what training, calibration and evaluation do with it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from calibration.images import select_images
from calibration.inputs import calibration_images
from samkr_edge.cli import run
from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.dataset.usable import (
    AnnotatedPeople,
    remarks,
    require_calibration_images,
    require_splits,
    require_usable,
)
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.ap import score
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.skeleton import COCO17
from training.cli.data import app
from training.data.check import check_splits, open_splits
from training.data.settings import AugmentSettings, EncodeSettings
from training.data.subset import write_split, write_subset
from training.data.training_set import TrainingSet
from training.loop.recipe import ValidationSection
from training.loop.recipe_file import load_recipe
from training.loop.validation import Validation

Content = dict[str, Any]
SPLITS = ("train", "val")


def _content() -> Content:
    """Two images of 100 x 120 with one person each."""
    keypoints = [value for k in range(17) for value in (10 + 4 * k, 10 + 5 * k, 2)]
    images = [{"id": n, "file_name": f"cam1/{n}.jpg", "width": 100, "height": 120} for n in (1, 2)]
    people = [
        {"id": n, "image_id": n, "category_id": 1, "keypoints": list(keypoints), "num_keypoints": 17,
         "bbox": [0, 0, 90, 110], "area": 6000, "iscrowd": 0}
        for n in (1, 2)
    ]  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}
    return {"images": images, "annotations": people, "categories": [category]}


def _write(root: Path, change: Callable[[Content], Any] = lambda content: None) -> Path:
    """The same in both splits, but for the pixels."""
    for number, split in enumerate(SPLITS):
        content = _content()
        change(content)
        file = root / "annotations" / f"person_keypoints_{split}2017.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
        for image in _content()["images"]:
            path = root / "images" / f"{split}2017" / image["file_name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((120, 100, 3), 50 * number + image["id"], np.uint8))
    return root


def _people(**values: Any) -> Callable[[Content], Any]:
    return lambda content: [person.update(values) for person in content["annotations"]]


def _check(root: Path) -> tuple[int, Content]:
    result = CliRunner().invoke(app, ["check", str(root), "--json"])
    return result.exit_code, json.loads(result.stdout)


@pytest.mark.parametrize(
    ("change", "words", "fix", "refusing"),
    [
        (lambda content: content.update(annotations=[]), "with 0 annotations", "people", 3),
        (_people(num_keypoints=0), "uncounted 2 of them", "leave num_keypoints out", 2),
        (_people(category_id=0), "annotation 1 (image 1): 0", "id of a category", 3),
        (_people(keypoints=[0] * 51, num_keypoints=0), "with 2 annotations", "people", 3),
        (_people(iscrowd=1), "with 2 annotations", "people", 3),
    ],
)
def test_what_later_steps_refuse_fails_the_check(
    tmp_path: Path, change: Callable[[Content], Any], words: str, fix: str, refusing: int
) -> None:
    root = _write(tmp_path, change)
    train, val = (open_dataset(root, split) for split in SPLITS)
    steps: dict[str, Callable[[], object]] = {
        "train": lambda: TrainingSet(train, (64, 64)),
        "quantize": lambda: select_images(train, None, 2),
        "eval": lambda: score(val, []),
    }
    raised = {}
    for step, work in steps.items():
        try:
            work()
        except SamkrError as error:
            raised[step] = error
    code, payload = _check(root)
    assert code == 3
    assert len(raised) == refusing
    told = {step: error for split in payload["splits"] for step, error in split["refused"].items()}
    assert told == {step: error.to_dict() for step, error in raised.items()}
    assert words in raised["train"].sentence()
    assert fix in payload["error"]["fix"]
    assert payload["error"]["code"] == "SE-D16"


@pytest.mark.parametrize(
    ("values", "places", "words", "fix"),
    [
        ({"area": 60}, "small", "too small 2: annotation 1 (image 1)", "show people larger"),
        # One keypoint has no extent, and nothing else says how large these people are.
        (
            {"keypoints": [50, 60, 2] + [0] * 48, "num_keypoints": 1, "area": 0, "bbox": [0, 0, 0, 0]},
            "no_area", "no size 2: annotation 1 (image 1)", "an area or a bbox",
        ),
        # As somebody labels who works on pictures of another size.
        ({"keypoints": [400, 500, 2] * 17}, "outside", "outside 2 centred outside", "pixels of the image"),
    ],
)  # fmt: skip
def test_people_without_a_centre_are_refused_by_training_alone(
    tmp_path: Path, values: dict[str, Any], places: str, words: str, fix: str
) -> None:
    root = _write(tmp_path, _people(**values))
    code, payload = _check(root)
    assert code == 3
    assert payload["splits"][0]["places"][places] == ["annotation 1 (image 1)", "annotation 2 (image 2)"]
    assert [[*split["refused"]] for split in payload["splits"]] == [["train"], []]
    with pytest.raises(SamkrError) as caught:
        TrainingSet(open_dataset(root, "train"), (64, 64))
    assert words in caught.value.sentence()
    assert fix in str(caught.value.fix)


@pytest.mark.parametrize(
    ("values", "by_parity"),
    [({"iscrowd": 1}, True), ({"num_keypoints": 0}, True), ({"iscrowd": 1, "num_keypoints": 0}, False)],
)
def test_parity_keeps_the_official_rule_of_who_is_trained_on(
    tmp_path: Path, values: dict[str, Any], by_parity: bool
) -> None:
    def change(content: Content) -> None:
        content["annotations"][1].update(values, area=2500)

    dataset = open_dataset(_write(tmp_path, change))
    for settings, trained in ((EncodeSettings(), False), (EncodeSettings(parity=True), by_parity)):
        samples = TrainingSet(dataset, (64, 64), settings, AugmentSettings.off())
        assert bool(samples[1]["offset_weight"].any()) == trained


@pytest.mark.parametrize(
    ("values", "trained", "counted", "calibrated"),
    [
        ({}, True, True, True),
        ({"num_keypoints": None}, True, True, True),  # left out: the labelled keypoints are counted
        ({"keypoints": [10, 10, 1, 60, 60, 1] + [0] * 45, "num_keypoints": 2}, True, True, True),  # hidden ones
        ({"num_keypoints": 3}, True, True, True),
        ({"num_keypoints": 0}, False, False, True),
        ({"num_keypoints": 0, "segmentation": [[0, 0, 1, 0, 1, 1]]}, False, False, True),
        ({"keypoints": [0] * 51, "num_keypoints": 17}, False, True, False),
        ({"keypoints": [0] * 51, "num_keypoints": 0}, False, False, False),
        ({"iscrowd": 1}, False, False, False),
        ({"iscrowd": 1, "num_keypoints": 0}, False, False, False),
        ({"area": 0, "bbox": [0, 0, 0, 0]}, True, True, True),
        ({"area": 60}, False, True, True),
    ],
)  # fmt: skip
def test_every_step_counts_the_same_people(
    tmp_path: Path, values: dict[str, Any], trained: bool, counted: bool, calibrated: bool
) -> None:
    def change(content: Content) -> None:
        content["annotations"][1].update(values)
        if content["annotations"][1]["num_keypoints"] is None:
            del content["annotations"][1]["num_keypoints"]

    dataset = open_dataset(_write(tmp_path, change))
    people = AnnotatedPeople.of(dataset)
    assert (people.learnable, people.counted, len(people.labelled)) == (
        1 + trained,
        1 + counted,
        1 + calibrated,
    )
    sample = TrainingSet(dataset, (64, 64), augment_settings=AugmentSettings.off())[1]
    assert bool(sample["offset_weight"].any()) == trained
    found = [
        {
            "image_id": 1,
            "category_id": 1,
            "score": 1.0,
            "keypoints": _content()["annotations"][0]["keypoints"],
        }
    ]
    # Nobody is found in image 2, which costs recall where the person of it counts.
    assert score(dataset, found).ar == pytest.approx(100 / (1 + counted))
    assert len(select_images(dataset, None, 2).images) == 1 + calibrated
    told = check_splits(open_splits(tmp_path))[0].found
    assert bool(told.get("uncounted")) == (calibrated and not counted)
    assert bool(told.get("small")) == (counted and calibrated and not trained)


def test_perfect_poses_of_people_without_a_size_have_all_ap(tmp_path: Path) -> None:
    root = _write(tmp_path, _people(area=0, bbox=[0, 0, 0, 0]))
    dataset = open_dataset(root)
    results = [
        # Not quite the labels: a real network's numbers are rounded somewhere.
        {"image_id": n, "category_id": 1, "score": 1.0, "keypoints": [v + 1e-4 for v in p[0]["keypoints"]]}
        for n, p in dataset.annotations.items()
    ]
    assert score(dataset, results).ap == pytest.approx(100)
    assert TrainingSet(dataset, (64, 64))[0]["offset_weight"].any()
    assert remarks(dataset) == [
        "data: people without a size, taken from their box or keypoints (2): "
        "annotation 1 (image 1), annotation 2 (image 2)"
    ]
    code, payload = _check(root)
    assert (code, payload["splits"][0]["notes"]["filled"]) == (0, 2)


def test_every_missing_image_is_in_the_json_with_its_folder(tmp_path: Path) -> None:
    def more(content: Content) -> None:
        content["images"] += [
            {**content["images"][0], "id": n, "file_name": f"cam2/{n}.jpg"} for n in range(5, 10)
        ]

    code, payload = _check(_write(tmp_path, more))
    assert code == 3
    expected = [f"images/train2017/cam2/{n}.jpg (image {n})" for n in range(5, 10)]
    assert payload["splits"][0]["places"]["missing"] == expected
    assert f"missing image files (10): {', '.join(expected[:3])}, ..." in payload["error"]["facts"]["problem"]


@pytest.mark.parametrize("split", SPLITS)
def test_missing_images_are_refused_before_the_work_with_the_count_of_data_check(
    tmp_path: Path, split: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = _write(tmp_path / "my data", _shown(9))
    (root / "images" / f"{split}2017" / "cam1" / "1.jpg").unlink()
    out = tmp_path / "out"
    for command in (["train", "smoke"], ["demo"]):
        assert run([*command, "--data", str(root), "--out", str(out)]) == 3
        printed = capsys.readouterr().err
        file = root / "annotations" / f"person_keypoints_{split}2017.json"
        assert f"error SE-D22: 9 of 9 images of {file} cannot be found" in printed
        assert f"samkr-edge data check '{root}'" in printed
        assert not out.exists()
    found = {report.split: report.found.get("missing", []) for report in check_splits(open_splits(root))}
    assert {name: len(places) for name, places in found.items()} == {**dict.fromkeys(SPLITS, 0), split: 9}


def test_an_image_of_nobody_that_is_missing_stops_no_training(tmp_path: Path) -> None:
    root = _write(tmp_path, lambda content: content["annotations"].pop())
    (root / "images" / "train2017" / "cam1" / "2.jpg").unlink()
    require_usable(open_dataset(root, "train"), "train")
    with pytest.raises(SamkrError, match="1 of 2 images"):
        require_usable(open_dataset(root, "train"), "eval")


def test_predictions_are_scored_without_the_images(tmp_path: Path) -> None:
    root = _write(tmp_path)
    for image in (root / "images" / "val2017" / "cam1").iterdir():
        image.unlink()
    assert score(open_dataset(root), []).ap == 0


def test_a_demo_asks_first_whether_it_would_calibrate_on_what_it_evaluates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = _write(tmp_path, _shown(9))
    train, val = (root / "images" / f"{split}2017" / "cam1" / "1.jpg" for split in SPLITS)
    train.write_bytes(val.read_bytes())
    assert run(["demo", "--data", str(root), "--out", str(tmp_path / "out")]) == 3
    assert "error SE-D41" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_that_was_named_is_what_fixes_name(tmp_path: Path) -> None:
    root = _write(tmp_path)
    assert open_dataset(root, "train").named == root
    other = root / "annotations" / "instances.json"
    other.write_text(json.dumps(_content()))
    dataset = open_dataset(other, "train")
    assert dataset.named == other
    for image in dataset.images:
        image.path.unlink()
    with pytest.raises(SamkrError) as caught:
        require_usable(open_dataset(other, "train"), "train")
    assert shlex.split(str(caught.value.fix))[-4:] == ["samkr-edge", "data", "check", str(other)]


def _turn(path: Path, orientation: int) -> None:
    data = path.read_bytes()
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01" + orientation.to_bytes(2, "big") + b"\x00\x00"
    exif = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01" + entry + bytes(4)
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])


@pytest.mark.parametrize(
    ("orientation", "exchanged", "kind", "code"),
    [
        (1, False, None, 0),
        (3, False, "exif", 0),
        (6, False, "exif", 0),
        (6, True, "turned", 3),
        (None, True, "swapped", 0),
    ],
)
def test_exif_orientation_is_named_wherever_labels_are_used(
    tmp_path: Path, orientation: int | None, exchanged: bool, kind: str | None, code: int
) -> None:
    root = _write(
        tmp_path,
        lambda content: [image.update(width=120, height=100) for image in content["images"] if exchanged],
    )
    if orientation is not None:
        _turn(root / "images" / "val2017" / "cam1" / "1.jpg", orientation)
    dataset = open_dataset(root)
    found = check_splits(open_splits(root))[1].found
    wanted = {kind: ["images/val2017/cam1/1.jpg (image 1)"]} if kind else {}
    assert {name: found[name][:1] for name in found if name in ("exif", "turned", "size", kind)} == wanted
    assert _check(root)[0] == code
    lines = remarks(dataset, dataset.images)
    assert ["1 of 2 images have an EXIF orientation" in line for line in lines] == (
        [True] if orientation in (3, 6) else []
    )


def test_an_annotation_file_is_checked_as_the_split_of_its_name(tmp_path: Path) -> None:
    file = _write(tmp_path, lambda content: content.update(annotations=[])) / "annotations"
    code, payload = _check(file / "person_keypoints_val2017.json")
    assert code == 3
    (split,) = payload["splits"]
    assert (split["split"], split["images"], [*split["refused"]]) == ("val", 2, ["eval"])
    assert split["problems"]["missing"] == 0


def test_a_demo_is_not_judged_by_the_file_it_trains_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _write(tmp_path) / "annotations" / "person_keypoints_train2017.json"
    assert run(["demo", "--data", str(file), "--out", str(tmp_path / "out")]) == 3
    assert "SE-D74" in capsys.readouterr().err


@pytest.mark.parametrize("there", SPLITS)
def test_the_split_that_is_missing_is_made_by_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    root = _write(tmp_path / "only one")
    monkeypatch.chdir(tmp_path)
    (other,) = {*SPLITS} - {there}
    (root / "annotations" / f"person_keypoints_{other}2017.json").unlink()
    with pytest.raises(SamkrError) as caught:
        require_splits(root, SPLITS)
    program, *command = shlex.split(str(caught.value.fix), comments=True)
    assert (program, run(command)) == ("samkr-edge", 0)
    made = Path(str(caught.value.fix).rpartition("--data ")[2])
    require_splits(made, SPLITS)
    assert [len(open_dataset(made, split)) for split in SPLITS] == [1, 1]


def _shown(count: int) -> Callable[[Content], Any]:
    def change(content: Content) -> None:
        for key, link in (("images", "id"), ("annotations", "image_id")):
            content[key] = [{**content[key][0], "id": n, link: n} for n in range(1, count + 1)]

    return change


def test_too_few_images_to_calibrate_on_are_refused_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = _write(tmp_path, _shown(5))
    assert run(["demo", "--data", str(root), "--out", str(tmp_path / "out")]) == 3
    assert "SE-D43" in (printed := capsys.readouterr().err)
    assert "found      5 that show people" in printed
    with pytest.raises(SamkrError) as caught:
        calibration_images(ModelCard("small", COCO17, (64, 64)), data=root, count=128, seed=0)
    assert caught.value.code == "SE-D43"


def test_too_few_asked_for_are_answered_with_as_many_as_there_are(tmp_path: Path) -> None:
    train = open_dataset(_write(tmp_path, _shown(9)), "train")
    require_calibration_images(train)
    with pytest.raises(SamkrError) as caught:
        require_calibration_images(train, asked=7)
    assert caught.value.fix == "run the same command with --images 9"


def test_a_demo_is_not_begun_whose_val_split_shows_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = _write(tmp_path)
    file = root / "annotations" / "person_keypoints_val2017.json"
    file.write_text(json.dumps({**_content(), "annotations": []}))
    assert run(["demo", "--data", str(root), "--out", str(tmp_path / "out")]) == 3
    assert "SE-D27" in capsys.readouterr().err


def test_a_run_without_the_split_to_validate_on_is_told_how_to_start(tmp_path: Path) -> None:
    root = _write(tmp_path)
    (root / "annotations" / "person_keypoints_val2017.json").unlink()
    train = open_dataset(root, "train")
    with pytest.raises(SamkrError) as caught:
        Validation(load_recipe("smoke").validation, train)
    assert caught.value.code == "SE-D21"
    words = shlex.split(str(caught.value.fix), comments=True)
    assert not load_recipe("smoke", words[words.index("--set") + 1 :]).validation.wanted


_STRANGE: list[Any] = [
    None, True, -1, 1.5, 10**20, 1e300, float("nan"), "", "x", "a\0b", [], [None], [1e300] * 51, {}, {"size": None},
]  # fmt: skip


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_whatever_an_entry_holds_it_is_read_or_refused_in_words(tmp_path: Path, key: str) -> None:
    root = _write(tmp_path)
    content = _content()
    content["annotations"][0].update(iscrowd=1, segmentation=[[1, 1, 9, 1, 9, 9]])
    content["categories"][0]["skeleton"] = [[1, 2]]
    found = [{"image_id": 2, "category_id": 1, "score": 0.5, "keypoints": [1.0] * 51}]
    file = root / "annotations" / "person_keypoints_val2017.json"
    refused = 0
    for name in content[key][0]:
        for value in _STRANGE:
            entries = [{**content[key][0], name: value}, *content[key][1:]]
            file.write_text(json.dumps({**content, key: entries}))
            try:
                dataset = open_dataset(root)
                samples = TrainingSet(dataset, (64, 64))
                samples.sample(0, len(samples) - 1)
                score(dataset, found)
            except SamkrError:
                refused += 1
    assert refused > 0


def test_images_without_labels_are_neither_checked_nor_copied_nor_validated_on(tmp_path: Path) -> None:
    root = _write(tmp_path / "coco")
    file = root / "annotations" / "image_info_test-dev2017.json"
    file.write_text(json.dumps({"images": _content()["images"], "categories": [{"id": 1, "name": "person"}]}))
    bare = open_dataset(root, "test-dev")
    for refused in (
        lambda: open_splits(file),
        lambda: write_subset(bare, tmp_path / "few", 1),
        lambda: write_split(bare, tmp_path / "two", 0.5),
        lambda: Validation(ValidationSection(split="test-dev"), open_dataset(root, "train")),
    ):
        with pytest.raises(SamkrError) as caught:
            refused()
        assert caught.value.code == "SE-D81"
    assert [dataset.split for dataset in open_splits(root)] == [*SPLITS]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coco"]


@pytest.mark.parametrize(("area", "helps"), [(500.0, True), (20.0, False)])
def test_a_flat_limit_that_leaves_nobody_is_lifted_where_that_helps(
    tmp_path: Path, area: float, helps: bool
) -> None:
    dataset = open_dataset(_write(tmp_path, _people(area=area)), "train")
    with pytest.raises(SamkrError) as caught:
        require_usable(dataset, "train", smallest_person=32.0)
    assert caught.value.code == "SE-D18"
    assert ("--set data.smallest_person=null" in caught.value.fix) == helps
    if helps:
        require_usable(dataset, "train")
