"""`samkr-edge train`, as a user runs it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from samkr_edge.cli import run
from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.dataset.trained_on import trainings_of
from samkr_edge.files.artefact import sha256_of
from training.checkpoint import load_checkpoint, save_checkpoint, untrained_checkpoint
from training.data.rendered.dataset import SynthSettings, write_dataset
from training.loop.recipe_file import load_recipe, recipe_comment, recipe_names

RECIPE = """
model: samkr_tiny
batch_size: 2
precision: fp32
data: {input_size: [64, 64], sigma: 1.0, center_sigma: 1.5, offset_radius: 2}
schedule: {steps: 2}
decode: {refine_radius: 2}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of both kinds and a recipe of two steps."""
    root = tmp_path_factory.mktemp("train")
    write_dataset(root / "people", SynthSettings(train=4, val=1), processes=1)
    write_dataset(root / "crowd", SynthSettings(train=4, val=1, keypoints="crowdpose"), processes=1)
    (root / "short.yaml").write_text(RECIPE)
    return root


def command(folder: Path, out: Path, *more: str, data: str = "people") -> list[str]:
    where = ["--data", str(folder / data), "--out", str(out), "--threads", "1"]
    return ["train", str(folder / "short.yaml"), *where, *more]


def test_it_writes_a_network_and_says_so_in_json(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command(folder, tmp_path, "--json")) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["checkpoint"] == str(tmp_path / "final.pt")
    assert printed["card"]["input_size"] == [64, 64]
    assert printed["card"]["decode"]["refine_radius"] == 2
    assert printed["recipe"]["schedule"]["steps"] == 2
    assert load_checkpoint(tmp_path / "final.pt").card.to_dict() == printed["card"]


def test_the_keypoints_come_from_the_data(folder: Path, tmp_path: Path) -> None:
    assert run(command(folder, tmp_path, data="crowd")) == 0
    finished = load_checkpoint(tmp_path / "final.pt")
    assert finished.config.keypoints == len(finished.card.skeleton) == 14
    assert finished.card.decode.nms_joints == 7


def test_recipes_are_listed_and_one_is_printed_whole(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["recipes"]) == 0
    assert "ablation_12_samkr_24" in capsys.readouterr().out
    assert run(["recipes", "samkr_w48_crowdpose"]) == 0
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out)
    assert recipe_comment(str(tmp_path / "mine.yaml")) == recipe_comment("samkr_w48_crowdpose")
    assert load_recipe(str(tmp_path / "mine.yaml")) == load_recipe("samkr_w48_crowdpose")
    assert run(["recipes", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["recipes"]) == set(recipe_names())


def test_a_folder_with_a_run_is_only_touched_with_resume(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command(folder, tmp_path)) == 0
    assert run(command(folder, tmp_path)) == 2
    assert "SE-U33" in capsys.readouterr().err
    assert run(command(folder, tmp_path, "--resume")) == 0
    assert "finished" in capsys.readouterr().err
    assert run(command(folder, tmp_path, "--resume", "--set", "seed=5")) == 4
    assert "seed" in capsys.readouterr().err


def test_the_same_command_gives_the_same_network(folder: Path, tmp_path: Path) -> None:
    states = []
    for name in ("first", "second"):
        assert run(command(folder, tmp_path / name)) == 0
        states.append(load_checkpoint(tmp_path / name / "final.pt").state)
    assert all(states[0][name].equal(states[1][name]) for name in states[0])


def test_weights_that_fit_are_taken_over_and_counted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command(folder, tmp_path / "coco")) == 0
    start = ["--set", f"init={tmp_path / 'coco' / 'final.pt'}"]
    assert run(command(folder, tmp_path / "crowd", *start, data="crowd")) == 0
    assert "tensors start from" in capsys.readouterr().err
    # Its weights have seen the images of both.
    card = load_checkpoint(tmp_path / "crowd" / "final.pt").card
    files = [open_dataset(folder / name, "train").annotation_path for name in ("crowd", "people")]
    found = {training.annotations_sha256 for training in trainings_of(card)}
    assert found == {sha256_of(file) for file in files}
    # What a run started from is needed once.
    (tmp_path / "coco" / "final.pt").unlink()
    assert run(command(folder, tmp_path / "crowd", *start, "--resume", data="crowd")) == 0
    told = capsys.readouterr().err
    assert "finished" in told
    assert "start from" not in told
    assert (
        run(command(folder, tmp_path / "crowd", "--resume", data="crowd")) == 4
    )  # without its init: another run
    assert run(command(folder, tmp_path / "new", *start, "--resume", data="crowd")) == 4
    assert "SE-A23" in capsys.readouterr().err


def test_from_scratch_on_purpose_is_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command(folder, tmp_path / "said", "--set", "init=none")) == 0
    assert "samkr_tiny starts from scratch: init is none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["train", "samkr_tinny", "--data", "{data}", "--out", "{out}"], 2, "SE-U30"),
        (["train", "qat", "--data", "{data}", "--out", "{out}"], 2, "SE-U32"),
        (["train", "samkr_tiny", "--data", "nowhere", "--out", "{out}"], 4, "SE-A23"),
        (["train", "samkr_w32_coco", "--data", "nowhere", "--out", "{out}"], 2, "SE-U86"),
        (
            ["train", "samkr_tiny", "--data", "nowhere", "--out", "{out}", "--set", "loss.kind=swahr"],
            2,
            "SE-U87",
        ),
        (["train", "samkr_w32_coco", "--data", "nowhere", "--out", "{out}", "--resume"], 2, "SE-U86"),
        (
            ["train", "samkr_w32_coco", "--data", "nowhere", "--out", "{out}", "--set", "init=none"],
            4,
            "SE-A23",
        ),
        (["train", "samkr_w48_crowdpose_from_coco", "--data", "nowhere", "--out", "{out}"], 4, "SE-A23"),
        (["train", "samkr_tiny", "--data", "{data}", "--out", "{out}", "--set", "lr=1"], 2, "SE-U31"),
        (["train", "samkr_tiny", "--data", "{data}", "--out", "{out}", "--split", "trainval"], 3, "SE-D11"),
        (
            ["train", "samkr_tiny", "--data", "{data}", "--out", "{out}", "--set", "model=samkr_w33"],
            2,
            "SE-U01",
        ),
    ],
)
def test_a_mistake_starts_nothing(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    out = tmp_path / "run"
    places = {"{data}": str(folder / "people"), "{out}": str(out)}
    assert run([places.get(argument, argument) for argument in arguments]) == code
    assert said in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("start", ["none.pt", "other.pt"])
def test_a_start_that_cannot_be_used_names_the_setting(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], start: str
) -> None:
    other = replace(untrained_checkpoint("samkr_tiny"), state={"weight": torch.zeros(1)})
    save_checkpoint(tmp_path / "other.pt", other)
    out = tmp_path / "out"
    assert run(command(folder, out, "--set", f"init={tmp_path / start}")) == 4
    shown = capsys.readouterr().err
    assert f"error {'SE-A23' if start == 'none.pt' else 'SE-A39'}" in shown
    assert "fix: run the same command with --set init=CHECKPOINT of a samkr_tiny, or --set init=none" in shown
    assert not out.exists()
