from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from training.cli.data import app
from training.data.check import check_splits, open_splits, problems_error
from training.data.rendered.dataset import SynthSettings, write_dataset
from training.data.rendered.scene import SceneSettings


@pytest.fixture
def people(tmp_path: Path) -> Path:
    root = tmp_path / "people"
    write_dataset(root, SynthSettings(train=6, val=2, scene=SceneSettings(size=64)))
    return root


def _images(root: Path, split: str) -> list[Path]:
    return sorted((root / "images" / f"{split}2017").iterdir())


def test_a_sound_data_set_passes(people: Path) -> None:
    result = CliRunner().invoke(app, ["check", str(people), "--json"])
    assert result.exit_code == 0
    payload = json.loads(result.stdout.splitlines()[-1])
    assert [split["images"] for split in payload["splits"]] == [6, 2]
    assert not any(any(split["problems"].values()) for split in payload["splits"])


def test_every_kind_of_problem_is_found_and_counted(people: Path) -> None:
    train, val = _images(people, "train"), _images(people, "val")
    train[0].unlink()
    train[1].write_bytes(train[1].read_bytes()[:900])
    shutil.copy(val[0], train[2])
    shutil.copy(train[4], train[3])
    file = people / "annotations" / "person_keypoints_train2017.json"
    content = json.loads(file.read_text())
    content["images"][5]["width"] = 65
    people_of = content["annotations"]
    people_of[1]["id"] = people_of[0]["id"]
    people_of[2].update(area=0, bbox=[5, 5, 0, 0], keypoints=[5, 5, 2] + [0] * 48, num_keypoints=1)
    people_of[3]["keypoints"][:3] = [500, 10, 2]
    people_of[4]["num_keypoints"] += 1
    file.write_text(json.dumps(content))

    reports = check_splits(open_splits(people))
    found = {kind: len(places) for kind, places in reports[0].found.items()}
    assert {kind: found.get(kind) for kind in ("missing", "corrupt", "size", "shared", "repeated")} == {
        "missing": 1, "corrupt": 1, "size": 1, "shared": 1, "repeated": 1,
    }  # fmt: skip
    assert (found["duplicate_id"], found["no_area"], found["outside"]) == (1, 1, 1)
    assert found["count"] >= 1
    assert len(reports[1].found["shared"]) == 1
    error = problems_error(people, reports)
    assert error is not None
    assert (error.code, error.exit_code, len(error.facts["problem"])) == ("SE-D16", 3, 6)
    assert train[0].name in error.sentence()


def test_splits_of_different_keypoints_fail_the_check(people: Path) -> None:
    path = people / "annotations" / "person_keypoints_val2017.json"
    content = json.loads(path.read_text())
    content["categories"][0].update(
        keypoints=[f"k{k}" for k in range(17)], flip_pairs=[], sigmas=[0.1] * 17, name="own"
    )
    path.write_text(json.dumps(content))
    error = problems_error(people, check_splits(open_splits(people)))
    assert error is not None
    assert error.facts == {
        "problem": ["the splits have different keypoints: train 17 (coco17), val 17 (own)"]
    }


def test_the_command_shows_the_table_and_fails(people: Path) -> None:
    _images(people, "val")[0].unlink()
    result = CliRunner().invoke(app, ["check", str(people)])
    assert isinstance(result.exception, SamkrError)
    assert result.exception.exit_code == 3
    facts = result.exception.facts
    assert facts["problem"][0].startswith("missing image files (1): images/val2017/")
    assert facts["looked in"].startswith(f"{people / 'images' / 'val2017'}, {people / 'val2017'}, ")
    assert "missing image files" in result.stdout


def test_images_that_decoders_complain_about_are_named(
    people: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """libjpeg itself names no file."""
    content = json.loads((people / "annotations" / "person_keypoints_train2017.json").read_text())
    for number in (1, 4):
        record = content["images"][number]
        image = people / "images" / "train2017" / record["file_name"]
        data = cv2.imencode(".jpg", np.full((record["height"], record["width"], 3), 90, np.uint8))[
            1
        ].tobytes()
        image.write_bytes(data[:-2] + bytes(range(1, 16)) + data[-2:])
    reports = check_splits(open_splits(people))
    assert [len(report.found.get("damaged", [])) for report in reports] == [2, 0]
    assert content["images"][1]["file_name"] in reports[0].found["damaged"][0]
    assert "Corrupt JPEG data" in reports[0].found["damaged"][0]
    assert problems_error(people, reports) is None  # they can be used
    assert capfd.readouterr().err == ""
    assert run(["data", "check", str(people)]) == 0
    assert "2 images are partly damaged" in capfd.readouterr().err
