"""A user's own keypoints, from annotation file to AP; and images and data that are not as they should be."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from samkr_edge.cli import run
from samkr_edge.images import read_image
from training.checkpoint import load_checkpoint
from training.data.rendered.dataset import SynthSettings, write_dataset
from training.data.rendered.scene import SceneSettings

# Five of COCO's keypoints under names of their own.
CHOSEN, NAMES = (0, 5, 6, 11, 12), ["beak", "left_wing", "right_wing", "left_foot", "right_foot"]
DESCRIPTION: dict[str, Any] = {"flip_pairs": [[1, 2], [3, 4]], "sigmas": [0.03, 0.08, 0.08, 0.1, 0.1]}
RECIPE = """
model: samkr_tiny
batch_size: 2
precision: fp32
data: {input_size: [64, 64], sigma: 1.0, center_sigma: 1.5, offset_radius: 2}
schedule: {steps: 2}
decode: {center_threshold: -1.0e+9, max_people: 2}
"""
# 16x16 pixels of cyan 40, magenta 150, yellow 200, black 60 in a CMYK JPEG, written by Pillow (libjpeg).
CMYK = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwADAgIDAgIDAwMDBAMDBAUIBQUEBAUKBwcGCAwKDAwLCgsLDQ4SEA0OEQ4LCxAWEBETFBUVFQwPFxgW"
    "FBgSFBUU/8AAFAgAEAAQBEMRAE0RAFkRAEsRAP/EABYAAQEBAAAAAAAAAAAAAAAAAAAIBv/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAOBEMA"
    "TQBZAEsAAD8AuhgkeKzAAAAf/9k="
)


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """A data set of five keypoints, whose file says nothing but their names."""
    root = tmp_path / "birds"
    write_dataset(root, SynthSettings(train=4, val=2, scene=SceneSettings(size=64)), processes=1)
    for split in ("train", "val"):

        def rename(content: dict[str, Any]) -> None:
            content["categories"][0].update(name="bird", keypoints=NAMES, skeleton=[[1, 2], [1, 3]])
            for annotation in content["annotations"]:
                triples = np.array(annotation["keypoints"]).reshape(-1, 3)[list(CHOSEN)]
                annotation["keypoints"] = triples.ravel().tolist()
                annotation["num_keypoints"] = int((triples[:, 2] > 0).sum())

        change(root, split, rename)
    (tmp_path / "short.yaml").write_text(RECIPE)
    return root


def change(root: Path, split: str, how: Callable[[dict[str, Any]], None]) -> None:
    path = root / "annotations" / f"person_keypoints_{split}2017.json"
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


def train(root: Path) -> int:
    out = root.parent / "run"
    return run(
        ["train", str(root.parent / "short.yaml"), "--data", str(root), "--out", str(out), "--threads", "1"]
    )


def evaluate(root: Path, *more: str) -> int:
    return run(["eval", str(root.parent / "run" / "final.pt"), "--data", str(root), "--json", *more])


@pytest.mark.parametrize("place", ["yaml", "category"])
def test_own_keypoints_train_and_evaluate_once_they_are_described(
    birds: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(birds) == 3
    shown = capsys.readouterr().err
    assert "SE-D13" in shown
    assert "flip_pairs, sigmas" in shown
    if place == "yaml":
        text = json.dumps({"keypoints": NAMES, "edges": [[0, 1], [0, 2]], **DESCRIPTION})  # JSON is YAML
        (birds / "annotations" / "skeleton.yaml").write_text(text)
    else:
        for split in ("train", "val"):
            change(birds, split, lambda content: content["categories"][0].update(DESCRIPTION))
    assert train(birds) == 0
    skeleton = load_checkpoint(birds.parent / "run" / "final.pt").card.skeleton
    assert skeleton.flip_order == (0, 2, 1, 4, 3)
    assert skeleton.edges == ((0, 1), (0, 2))
    capsys.readouterr()
    assert evaluate(birds, "--flip") == 0
    assert {"ap", "ap50", "ap75", "ar"} <= set(json.loads(capsys.readouterr().out)["scores"])


def described(birds: Path) -> None:
    for split in ("train", "val"):
        change(birds, split, lambda content: content["categories"][0].update(DESCRIPTION))


def test_images_of_odd_kinds_and_sizes_are_checked_trained_on_evaluated_and_predicted(birds: Path) -> None:
    described(birds)
    one, gray, deep = (
        cv2.imencode(".png", pixels)[1].tobytes()
        for pixels in (
            np.full((1, 1), 9, np.uint8),
            np.full((40, 64), 90, np.uint8),
            np.full((64, 3, 3), 30000, np.uint16),
        )
    )
    odd = {
        "train": [("1.png", one), ("2.png", gray), ("3.png", deep), ("4.jpg", CMYK)],
        # The same pixels in other files: an image of both splits would be a problem.
        "val": [("5.jpg", CMYK + b"\0"), ("6.png", deep + b"\0")],
    }
    for split, files in odd.items():
        folder = birds / "images" / f"{split}2017"

        def replace_images(
            content: dict[str, Any], files: list[tuple[str, bytes]] = files, folder: Path = folder
        ) -> None:
            for entry, (name, data) in zip(content["images"], files, strict=True):
                (folder / name).write_bytes(data)
                height, width, _ = read_image(folder / name).shape
                entry.update(file_name=name, height=height, width=width)

        change(birds, split, replace_images)
    assert np.abs(read_image(birds / "images" / "val2017" / "5.jpg") - np.array((164, 80, 42))).max() <= 1
    assert run(["data", "check", str(birds)]) == 0
    assert train(birds) == 0
    assert evaluate(birds) == 0
    assert evaluate(birds, "--resize", "paper", "--scales", "0.5,1") == 0
    images = [
        str(birds / "images" / f"{split}2017" / name) for split, files in odd.items() for name, _ in files
    ]
    assert run(["predict", str(birds.parent / "run" / "final.pt"), *images, "-o", str(birds / "poses")]) == 0


@pytest.mark.parametrize("command", ["train", "eval"])
def test_an_image_that_is_not_there_is_named(
    birds: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    described(birds)
    if command == "eval":
        assert train(birds) == 0
    split = "train" if command == "train" else "val"
    for path in (birds / "images" / f"{split}2017").iterdir():
        path.unlink()
    assert (train(birds) if command == "train" else evaluate(birds)) == 3
    shown = capsys.readouterr().err
    assert "SE-D22" in shown
    assert ".jpg" in shown
    assert "Traceback" not in shown


def test_a_network_of_other_keypoints_is_refused(birds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    described(birds)
    assert train(birds) == 0
    coco = birds.parent / "coco"
    write_dataset(coco, SynthSettings(train=1, val=1, scene=SceneSettings(size=64)), processes=1)
    assert run(["eval", str(birds.parent / "run" / "final.pt"), "--data", str(coco)]) == 3
    shown = capsys.readouterr().err
    assert "SE-D26" in shown
    assert "5 keypoints" in shown
