"""COCO's test images: what is written for its server, read back by json and by pycocotools; no AP, and no labels."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from red_dot import dots

from samkr_edge.cli import run
from samkr_edge.dataset.keypoint_dataset import available_splits, open_dataset, unlabelled_splits
from samkr_edge.dataset.usable import refusal, remarks, require_splits
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.coco_server import doubts, places_of, results_name, write_results
from samkr_edge.evaluation.predictions import Predictions
from samkr_edge.evaluation.protocol import Protocol
from samkr_edge.pose.poses import Poses
from samkr_edge.pose.skeleton import COCO17

# As COCO has them: in no order, and with gaps.
PEOPLE = {581929: ((40, 30),), 1: (), 69: ((30, 60), (95, 40))}
CATEGORIES = [
    {"supercategory": "person", "id": 1, "name": "person"},
    {"supercategory": "vehicle", "id": 2, "name": "bicycle"},
]
STEM = "person_keypoints_test-dev2017_samkr-edge-red-dot-red-deployment_results"  # the network, its file


def content() -> dict[str, Any]:
    images = [
        {"license": 1, "file_name": f"{i:012}.jpg", "height": 96, "width": 128, "id": i} for i in PEOPLE
    ]
    return {
        "info": {"year": 2017},
        "images": images,
        "licenses": [{"id": 1, "name": "none"}],
        "categories": CATEGORIES,
    }


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("coco")
    (root / "annotations").mkdir()
    (root / "annotations" / "image_info_test-dev2017.json").write_text(json.dumps(content()))
    folder = root / "images" / "test2017"
    folder.mkdir(parents=True)
    for number, places in PEOPLE.items():
        cv2.imwrite(str(folder / f"{number:012}.jpg"), dots(*places))
    return root


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def people(count: int, seed: int) -> Poses:
    random = np.random.default_rng(seed)
    numbers = (
        random.uniform(0, 640, (count, 17, 2)),
        random.random((count, 17)),
        np.sort(random.random(count))[::-1],
    )
    return Poses(*(values.astype(np.float32) for values in numbers))


def truth() -> Any:
    """pycocotools, as the server has it: the split's images, and keypoints of people."""
    from pycocotools.coco import COCO

    with redirect_stdout(io.StringIO()):
        found = COCO()
        found.dataset = {**content(), "annotations": []}
        found.createIndex()
    return found


def test_test_dev_is_a_split_of_images_alone(coco: Path) -> None:
    by_split = open_dataset(coco, "test-dev")
    by_file = open_dataset(coco / "annotations" / "image_info_test-dev2017.json")
    assert by_file == by_split  # the file says what it is
    assert (by_split.labelled, by_split.kind, by_split.skeleton) == (False, "coco", COCO17)
    assert [image.id for image in by_split.images] == [*PEOPLE]
    assert by_split.images[1].path == coco / "images" / "test2017" / "000000000001.jpg"
    assert by_split.named == coco
    assert (available_splits(coco), unlabelled_splits(coco)) == ([], ["test-dev"])
    assert remarks(by_split) == []


def test_what_needs_labels_refuses_and_names_eval(coco: Path) -> None:
    dataset = open_dataset(coco, "test-dev")
    command = f"samkr-edge eval MODEL --data {coco} --split test-dev"
    for step in ("train", "eval", "quantize"):
        error = refusal(dataset, step)  # type: ignore[arg-type]
        assert error is not None
        assert (error.code, error.fix.startswith(f"{command}   #")) == ("SE-D81", True)
    with pytest.raises(SamkrError, match="without labels") as caught:
        require_splits(coco, ("test-dev",))
    assert caught.value.code == "SE-D81"
    with pytest.raises(SamkrError) as caught:
        open_dataset(coco, "train")
    assert (caught.value.code, caught.value.fix) == ("SE-D11", command)


def test_labels_in_such_a_file_count(coco: Path, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    labelled = {**content(), "annotations": [{"id": 1, "image_id": 69, "keypoints": [1, 1, 2] * 17}]}
    path = tmp_path / "annotations" / "image_info_test2017.json"
    path.write_text(json.dumps(labelled))
    assert open_dataset(tmp_path, "test").labelled
    path.write_text("{}")
    with pytest.raises(SamkrError, match="not usable"):
        open_dataset(tmp_path, "test")


def test_eval_writes_what_the_server_takes(
    coco: Path, red_dot_model: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["eval", str(red_dot_model), "--data", str(coco), "--split", "test-dev"]
    assert run([*command, "--json"]) == 0
    shown = capsys.readouterr()
    printed = json.loads(shown.out)
    assert (printed["scores"], printed["images"], printed["people"], printed["notes"]) == (None, 3, 3, [])
    assert printed["written"] == [f"{STEM}.json", f"{STEM}.zip"]
    assert "3 of 3 images" in shown.err  # the progress
    assert sorted(path.name for path in here.iterdir()) == [f"{STEM}.json", f"{STEM}.zip"]

    text = (here / f"{STEM}.json").read_bytes()
    with zipfile.ZipFile(here / f"{STEM}.zip") as archive:
        assert archive.namelist() == [f"{STEM}.json"]
        assert archive.read(f"{STEM}.json") == text
    entries = json.loads(text)
    assert [entry["image_id"] for entry in entries] == [581929, 69, 69]
    for entry in entries:
        assert entry.keys() == {"image_id", "category_id", "keypoints", "score"}
        assert entry["category_id"] == 1
        middle = np.reshape(entry["keypoints"], (17, 3))[:, :2].mean(axis=0)
        # A pixel of the map is 8 of the image.
        assert min(np.abs(np.subtract(middle, at)).max() for at in PEOPLE[entry["image_id"]]) < 8
    with redirect_stdout(io.StringIO()):
        assert len(truth().loadRes(f"{STEM}.json").anns) == 3

    assert run([*command, "--limit", "1"]) == 0
    assert (here / f"{STEM}.json").read_bytes() == text  # a trial does not replace the results of all
    capsys.readouterr()
    assert run([*command, "--flip", "--limit", "1"]) == 0
    shown = capsys.readouterr()
    assert "people found: 1; no AP" in shown.out
    assert "only 1 of 3 images" in shown.err
    # What the server calls the algorithm says how it was run; the first file is not replaced by another protocol's.
    assert (here / f"{STEM.replace('deployment', 'flip-first-1')}.zip").is_file()
    assert (here / f"{STEM}.json").read_bytes() == text


@pytest.mark.parametrize("blocked", [f"{STEM}.json", f"{STEM}.zip"])
def test_eval_asks_for_both_places_before_the_work(
    coco: Path, red_dot_model: Path, here: Path, capsys: pytest.CaptureFixture[str], blocked: str
) -> None:
    (here / blocked).mkdir()
    assert run(["eval", str(red_dot_model), "--data", str(coco), "--split", "test-dev"]) == 3
    shown = capsys.readouterr().err
    assert "SE-D01" in shown
    assert "evaluating" not in shown


def test_eval_misses_images_before_the_work(
    coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "annotations").symlink_to(coco / "annotations")
    assert run(["eval", "none.onnx", "--data", str(tmp_path), "--split", "test-dev"]) == 3
    shown = capsys.readouterr().err
    assert "SE-D22" in shown
    assert f"unzip test2017.zip -d {tmp_path / 'images'}" in shown


def test_coordinates_are_tenths_and_an_image_has_its_20_best_people(tmp_path: Path) -> None:
    seen = {69: people(30, 0), 1: people(0, 1), 581929: people(2, 2)}
    results = Predictions(17, category_id=4)
    for number, poses in seen.items():
        results.add(number, poses)
    path = tmp_path / f"{STEM}.json"
    assert write_results(results, path) == 22
    lines = path.read_text().splitlines()
    assert len(lines) == 24  # an entry a line
    entries = json.loads("".join(lines))
    assert [entry["image_id"] for entry in entries] == [69] * 20 + [581929] * 2
    assert {entry["category_id"] for entry in entries} == {1}
    assert [entry["score"] for entry in entries[:20]] == seen[69].scores[:20].tolist()
    places = np.array([entry["keypoints"] for entry in entries]).reshape(-1, 17, 3)
    assert np.array_equal(places[..., :2], places[..., :2].round(1))
    assert np.abs(places[:20, :, :2] - seen[69].keypoints[:20]).max() < 0.0501
    assert np.abs(places[:20, :, 2] - seen[69].joint_scores[:20]).max() < 0.000501
    with redirect_stdout(io.StringIO()):
        assert len(truth().loadRes(str(path)).anns) == 22


def test_the_memory_of_one_image_is_needed(tmp_path: Path) -> None:
    results, poses = Predictions(17), people(20, 0)
    for number in range(50):
        results.add(number, poses)
    tracemalloc.start()
    write_results(results, tmp_path / f"{STEM}.json")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / f"{STEM}.json").stat().st_size > 300_000
    assert peak < 600_000  # a third of what the entries would take


def test_names_hold_what_the_server_takes(tmp_path: Path) -> None:
    how = Protocol(flip=True, scales=(0.5, 1.0, 2.0), paper_resize=True).label
    name = results_name("test-dev", "mein_Netz ü", how)
    algorithm = "samkr-edge-mein-Netz-flip-paper-resize-scales-0-5-1-2"
    assert name == f"person_keypoints_test-dev2017_{algorithm}_results.json"
    assert doubts(Path(name), 3, 3) == []
    assert results_name("test-dev", "red_dot", "red", Protocol().label) == f"{STEM}.json"
    (refused,) = doubts(Path("results.json"), 3, 3)
    assert "results.json is not like person_keypoints_test-dev2017_NAME_results.json" in refused
    assert len(doubts(Path(results_name("test", "final")), 1, 3)) == 2
    for given in ("a.v2", "a.v2.json", "a.v2.zip"):
        assert places_of(tmp_path / given) == (tmp_path / "a.v2.json", tmp_path / "a.v2.zip")
