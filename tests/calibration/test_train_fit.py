"""Every command that judges a network asks what it was trained on, before it measures anything."""

import json
from pathlib import Path

import pytest

from samkr_edge.cli import run
from samkr_edge.model_card import ModelCard
from training.checkpoint import Checkpoint, save_checkpoint

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def twin(source: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network in a file of another name, whose card says nothing of its training."""
    card = ModelCard(**{**vars(source.card), "provenance": {}})
    path = tmp_path_factory.mktemp("twin") / "twin.pt"
    save_checkpoint(path, Checkpoint(card, source.config, source.state))
    return path


@pytest.mark.parametrize(
    "command",
    [["eval"], ["bench", "--no-memory", "--rounds", "1"], ["ledger"], ["sensitivity", "--images", "8"],
     ["search", "--images", "8"]],
    ids=lambda command: command[0],
)  # fmt: skip
def test_images_that_were_trained_on_are_refused(
    command: list[str], fp32: Path, twin: Path, people: Path, tmp_path: Path, capsys: Captured
) -> None:
    name, *more = command
    models = [str(twin), str(fp32)] if name == "ledger" else [str(fp32)]
    out = {"sensitivity": ["--out", str(tmp_path / "s")], "search": ["-o", str(tmp_path / "p.yaml")]}
    where = ["--data", str(people), "--split", "train", *out.get(name, [])]
    assert run([name, *models, *where, *more]) == 3
    said = capsys.readouterr().err
    assert "SE-D45" in said
    assert "trained on train, 24 images" in said
    assert "fix: run the same command with --split val" in said
    assert list(tmp_path.iterdir()) == []


def test_on_purpose_it_is_train_fit_ap(fp32: Path, twin: Path, people: Path, capsys: Captured) -> None:
    where = ["--data", str(people), "--split", "train", "--limit", "4", "--anyway"]
    assert run(["eval", str(fp32), *where]) == 0
    shown = capsys.readouterr()
    assert "final.pt on 4 images of people/train, deployment: train-fit AP" in shown.out
    assert "train-fit AP: final.pt was trained on train, 24 images" in shown.err
    found = []
    for command in (["eval", str(fp32)], ["eval", str(twin)], ["ledger", str(fp32), str(twin)]):
        assert run([*command, *where, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["trained_on"])
    assert found == [True, False, True]


def test_a_ledgers_table_says_so_too(fp32: Path, twin: Path, people: Path, capsys: Captured) -> None:
    where = ["--data", str(people), "--split", "train", "--limit", "4", "--anyway"]
    assert run(["ledger", str(fp32), str(twin), *where]) == 0
    assert "4 images; train-fit AP; differences" in " ".join(capsys.readouterr().out.split())
