"""Poses of many images, kept on disk: what comes back is what was put in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.predictions import Predictions
from samkr_edge.pose.poses import Poses

KEYPOINTS = 17


def people(count: int, seed: int) -> Poses:
    random = np.random.default_rng(seed)
    numbers = (
        random.normal(50, 30, (count, KEYPOINTS, 2)),
        random.random((count, KEYPOINTS)),
        random.random(count),
    )
    return Poses(*(values.astype(np.float32) for values in numbers))


@pytest.fixture
def added() -> tuple[Predictions, dict[int, Poses]]:
    poses = {7: people(3, 0), 2: people(0, 1), 9: people(30, 2)}
    found = Predictions(KEYPOINTS, category_id=4)
    for image_id, seen in poses.items():
        found.add(image_id, seen)
    return found, poses


def test_entries_come_back_as_they_were_added(added: tuple[Predictions, dict[int, Poses]]) -> None:
    found, poses = added
    expected = [entry for image_id, seen in poses.items() for entry in seen.to_coco(image_id, 4)]
    assert len(found) == len(expected) == 33
    assert list(found) == expected
    assert found.of([9, 2, 5]) == poses[9].to_coco(9, 4)
    found.add(5, people(1, 3))  # reading has not moved the place to write to
    assert found.of([5, 7]) == [*people(1, 3).to_coco(5, 4), *poses[7].to_coco(7, 4)]


def test_the_file_is_json_with_an_entry_a_line(
    added: tuple[Predictions, dict[int, Poses]], tmp_path: Path
) -> None:
    found, _ = added
    found.write(tmp_path / "predictions.json")
    text = (tmp_path / "predictions.json").read_text()
    assert json.loads(text) == list(found)
    assert len(text.splitlines()) == 35
    Predictions(KEYPOINTS).write(tmp_path / "none.json")
    assert json.loads((tmp_path / "none.json").read_text()) == []


def test_a_full_disk_is_an_error_that_names_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    found: Any = Predictions(KEYPOINTS)
    with open("/dev/full", "wb") as full:
        monkeypatch.setattr(found, "_file", full)
        with pytest.raises(SamkrError) as caught:
            found.add(1, people(2, 0))
        monkeypatch.undo()
        full.raw.close()  # closing the buffer would write again
    assert caught.value.code == "SE-D09"
    assert "No space left" in caught.value.facts["reason"]
