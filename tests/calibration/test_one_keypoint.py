"""A data set of a single keypoint goes the whole road: such a person has no extent, no bones and no shape."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from samkr_edge.builder.check.agreement import Reference, judge_pairs
from samkr_edge.builder.check.maps import Maps
from samkr_edge.builder.check.seen_people import People, Staying
from samkr_edge.cli import run
from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.frames.track import Tracker
from samkr_edge.pose.decode import suppress
from samkr_edge.pose.decode_settings import DecodeSettings
from samkr_edge.pose.poses import Poses
from samkr_edge.pose.skeleton import Skeleton
from training.checkpoint import Checkpoint
from training.models import zoo

HEAD = Skeleton("heads", ("head",), (), (), (0.05,))


def test_it_is_trained_quantized_exported_built_evaluated_and_drawn(
    people: Path,
    source: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "heads"
    shutil.copytree(people, data)
    for split in ("train", "val"):
        file = data / "annotations" / f"person_keypoints_{split}2017.json"
        content = json.loads(file.read_text())
        for person in content["annotations"]:
            person["keypoints"] = person["keypoints"][:3]
            del person["num_keypoints"]
        content["categories"] = [
            {"id": 1, "name": "head", "keypoints": ["head"], "flip_pairs": [], "sigmas": [0.05]}
        ]
        file.write_text(json.dumps(content))
    monkeypatch.setattr(zoo, "_ZOO", (source.config,))
    names = ("out", "ptq.pt", "qat.pt", "qat.onnx", "qat.cpu.onnx", "found.json", "overlays")
    out, ptq, qat, onnx, built, found, overlays = (str(tmp_path / name) for name in names)
    short = ["--set", "batch_size=8", "--set", "precision=fp32", "--threads", "1", "--data", str(data)]
    images = str(data / "images" / "val2017")
    for command in (
        ["train", "samkr_tiny", "--out", out, "--set", "model=small", "--set", "schedule.steps=8", *short],
        ["quantize", f"{out}/final.pt", "--data", str(data), "-o", ptq, "--images", "8", "--threads", "1"],
        ["qat", ptq, "-o", qat, "--set", "schedule.steps=1", *short],
        ["export", qat, "-o", onnx],
        ["build", onnx, "--target", "cpu", "-o", built],
        ["eval", built, "--data", str(data), "--predictions", found],
        ["predict", built, images, "-o", overlays, "--threshold", "0"],
    ):
        assert run(command) == 0, capsys.readouterr().err
    assert open_dataset(data, "val").skeleton.keypoints == ("head",)
    assert {len(pose["keypoints"]) for pose in json.loads(Path(found).read_text())} == {3}


def test_int8_may_move_a_joint_by_the_part_of_a_pixel_that_fp16_may() -> None:
    maps = Maps(np.ones((1, 2, 4, 4), np.float32), np.ones((1, 2, 4, 4), np.float32))
    joints, clear = np.full((1, 1, 2), 4.0), np.ones((1, 1), bool)
    seen = People(np.array([0]), np.array([[1, 1]]), np.array([0.5]), joints, clear)
    reference, quantizing = Reference(maps, maps, seen, (), "one"), Staying(1, 1, np.zeros(1))
    for moved, holds in ((0.4, True), (0.6, False)):
        agreement = judge_pairs(
            reference, maps, Staying(1, 1, np.full(1, moved)), quantizing, ("heatmap", "offset"), "int8"
        )
        assert agreement.holds == holds


def test_two_centres_that_lead_to_one_joint_are_one_person() -> None:
    joints = np.array([[[100, 100]], [[104, 100]], [[140, 100]]], np.float32)
    kept = suppress(joints, np.array([0.4, 0.9, 0.5]), DecodeSettings(nms_joints=0))
    assert kept.tolist() == [1, 2]


def test_somebody_who_moves_keeps_the_number() -> None:
    tracker = Tracker(HEAD)
    scores = np.full((2, 1), 0.8, np.float32)
    for frame in range(20):
        joints = np.array([[[100 + 4 * frame, 100]], [[300, 100]]], np.float32)
        ids = tracker(Poses(joints, scores, scores[:, 0]), frame / 25).ids
        assert ids is not None
        assert ids.tolist() == [1, 2]
