"""``zoo:NAME`` stands for a ready network wherever a model is named."""

import json
import re
import shutil
from pathlib import Path
from typing import Any, get_type_hints

import cv2
import numpy as np
import pytest
import torch
import typer
from published import Publisher

from calibration.inputs import float_checkpoint
from samkr_edge.cli import COMMANDS, run
from samkr_edge.cli.places import model_named, models_named, rescoring_named
from samkr_edge.deploy.bundle import write_bundle
from samkr_edge.errors import SamkrError
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from samkr_edge.packages import resolve
from samkr_edge.pose_model import load_model
from samkr_edge.ready_name import is_ready_name
from training.checkpoint import load_checkpoint
from training.loop.start_weights import load_start, require_start
from training.models.zoo import build_model, model_config
from training.ready import table
from training.ready.get import checkpoint_of


def test_every_line_of_the_list_fills_a_network_of_ours_and_names_its_file_by_its_hash() -> None:
    names = [network.name for network in table.NETWORKS]
    assert len({*names}) == len(names) >= 6
    for network in table.NETWORKS:
        assert model_config(network.model, network.keypoints)
        if not network.shipped:
            assert network.address.startswith("https://")
            assert network.file.endswith(".pth")
            assert network.sha256[:8] in network.file
            assert len(network.sha256) in (8, 64)
        assert network.published == "" or network.published.endswith(f"by {network.by}")


def test_the_list_is_printed_with_addresses_and_asks_nobody(
    nowhere: str, published_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["zoo", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["networks"]
    assert (row["address"], row["file"], row["here"], row["bytes"]) == (
        nowhere,
        published_file.name,
        False,
        None,
    )
    assert run(["zoo", "--sizes"]) == 0
    assert "12.3 AP on drawn images" in capsys.readouterr().out


def test_the_servers_say_how_large_the_files_are(
    publisher: Publisher, published_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["zoo", "--sizes", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["networks"]
    assert row["bytes"] == published_file.stat().st_size
    assert [method for method, _, _ in publisher.asked] == ["HEAD"]


# They take what `export` or `build` made, and what is written.
BUILT = {"bundle add", "bundle model", "bundle triton", "inspect model"}


def test_whatever_takes_a_checkpoint_takes_a_ready_network() -> None:
    """By a callback, so that all that follows sees a file; what is no path is resolved where the checkpoint is read."""
    resolving = {model_named, models_named, rescoring_named}
    seen, lacking = set(), set()
    for command, entry in COMMANDS.items():
        function: Any = resolve(entry.target)
        hints = {} if isinstance(function, typer.Typer) else get_type_hints(function, include_extras=True)
        for name, hint in hints.items():
            said = next((one for one in getattr(hint, "__metadata__", ()) if hasattr(one, "help")), None)
            words = (
                re.search("(?i)(model|checkpoint|rescoring network)", said.help)
                if said and said.help
                else None
            )
            if words is None or name in ("out", "prepared") or "Path" not in str(hint).partition("typer")[0]:
                continue
            seen.add(command)
            if said.callback not in resolving:
                lacking.add(f"{command} {name}")
    assert lacking == BUILT
    assert seen >= {"bench", "eval", "ledger", "predict", "qat", "rescore", "search", "sensitivity", "sweep"}


def test_a_file_of_such_a_name_is_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_ready_name("zoo:dekr_tiny")
    Path("zoo:dekr_tiny").touch()
    assert not is_ready_name("zoo:dekr_tiny")


@pytest.mark.parametrize(
    "how", [load_model, load_checkpoint, lambda name: require_start(name, model_config("samkr_w32"))]
)
def test_its_name_without_the_prefix_is_told_the_prefix(
    how: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("dekr_w32_coco", "samkr_tiny"):
        with pytest.raises(SamkrError) as caught:
            how(name)
        assert caught.value.code == "SE-A23"
        assert caught.value.fix is not None
        assert f"zoo:{name}" in caught.value.fix


@pytest.mark.parametrize("name", ["zoo:dekr_w32_coco", "dekr_w32_coco"])
@pytest.mark.parametrize("how", [read_onnx, lambda path: write_bundle(path, Path("a.samkr"))])
def test_where_its_onnx_is_needed_the_way_there_is_told(
    how: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SamkrError) as caught:
        how(Path(name))
    assert (caught.value.code, caught.value.fix) == (
        "SE-A23", "samkr-edge export zoo:dekr_w32_coco -o dekr_w32_coco.onnx"
    )  # fmt: skip


def test_a_ready_network_goes_through_the_commands_and_says_where_it_is_from(
    publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "a.png"
    cv2.imwrite(str(picture), np.zeros((80, 60, 3), np.uint8))
    onnx = tmp_path / "a.onnx"
    assert run(["export", "zoo:dekr_tiny", "-o", str(onnx), "--size", "64x64"]) == 0
    assert run(["predict", "zoo:dekr_tiny", str(picture), "-o", str(tmp_path / "out")]) == 0
    assert float_checkpoint("zoo:dekr_tiny").config.name == "samkr_tiny"  # as quantize reads it
    capsys.readouterr()
    assert run(["inspect", str(onnx)]) == 0
    shown = capsys.readouterr().out
    for said in (
        "dekr_tiny, by nobody",
        "published as 12.3 AP on drawn images",
        publisher.root,
        "Apache-2.0",
    ):
        assert said in shown
    assert len(publisher.asked) == 1


def test_its_rescoring_network_has_the_same_name(publisher: Publisher) -> None:
    found = rescoring_named(Path("zoo:dekr_tiny"))
    assert found is not None
    assert found.name == "dekr_tiny.rescore.npz"
    found.unlink()
    with pytest.raises(SamkrError, match="there is no rescoring network zoo:dekr_tiny"):
        rescoring_named(Path("zoo:dekr_tiny"))


def test_a_run_starts_from_what_fits_of_it(publisher: Publisher) -> None:
    config = model_config("samkr_tiny", 14)
    require_start("zoo:dekr_tiny", config)
    assert publisher.asked == []  # only the name is looked up before the data is
    with pytest.raises(SamkrError, match="no ready network named 'dekr_teeny'"):
        require_start("zoo:dekr_teeny", config)
    network = build_model(config)
    start = load_start(network, "zoo:dekr_tiny")
    backbone = sum(name.startswith("backbone.") for name in network.state_dict())
    assert f"{backbone} of the backbone's {backbone}" in start.told
    assert start.provenance["init"]["imported"]["ready"] == "dekr_tiny"
    theirs = load_checkpoint(checkpoint_of("dekr_tiny")).state
    assert torch.equal(network.state_dict()["backbone.conv1.weight"], theirs["backbone.conv1.weight"])


def test_a_run_that_began_from_it_resumes_without_it(
    publisher: Publisher, cache: Path, people_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "train",
        "samkr_tiny",
        "--data",
        str(people_folder),
        "--out",
        str(tmp_path / "run"),
        "--threads",
        "1",
    ]
    command += ["--set", "init=zoo:dekr_tiny", "--set", "schedule.minutes=null", "--set", "schedule.steps=1"]
    command += ["--set", "batch_size=2", "--set", "norm_batches=0"]
    assert run(command) == 0, capsys.readouterr().err
    card = load_checkpoint(tmp_path / "run" / "final.pt").card
    assert card.provenance["init"]["imported"]["ready"] == "dekr_tiny"
    assert any("started from dekr_tiny" in line for line in card.weights_from)
    shutil.rmtree(cache)
    publisher.files.clear()
    assert run([*command, "--resume"]) == 0, capsys.readouterr().err
