"""A place that cannot be written to is refused before anything is opened, by every command that writes a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from samkr_edge.artefact import require_writable
from samkr_edge.cli import COMMANDS, run
from samkr_edge.errors import SamkrError

# IN is a file that is not there and DATA a folder that is not: neither is missed, since OUT is asked about first.
WRITING = [
    "train samkr_tiny --data DATA --out OUT",
    "import IN --model dekr_w32 -o OUT",
    "rescore IN --data DATA -o OUT",
    "quantize IN --data DATA -o OUT",
    "qat IN --data DATA -o OUT",
    "export IN -o OUT",
    "sensitivity IN --data DATA --out OUT",
    "search IN --data DATA -o OUT",
    "ledger IN IN --data DATA -o OUT",
    "build IN --target cpu -o OUT.onnx",
    "build IN --target rtx-4090 -o OUT.engine",
    "build IN --target rtx-4090 --prepared OUT.onnx",
    "bundle IN -o OUT.samkr",
    "predict IN SOURCE -o OUT",
    "eval IN --data DATA --predictions OUT",
    "bench IN --data DATA --out OUT",
    "bench IN --data DATA --out OUT.json",
    "sweep quick --out OUT",
    "report IN -o OUT",
    "demo --out OUT",
]


def words(command: str, folder: Path) -> list[str]:
    places = {
        "IN": folder / "missing.onnx",
        "DATA": folder / "missing",
        "SOURCE": Path(__file__).parents[2] / "docs",
        "OUT": folder / "file" / "out",
    }
    found = []
    for word in command.split():
        name, _, suffix = word.partition(".")
        found.append(str(places[name]) + (f".{suffix}" if suffix else "") if name in places else word)
    return found


@pytest.mark.parametrize("command", WRITING)
def test_an_impossible_place_is_refused_first(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert run(words(command, tmp_path)) == 3
    said = capsys.readouterr().err
    assert "SE-D01" in said
    assert str(tmp_path / "file" / "out") in said
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_every_command_with_a_place_to_write_to_is_tried() -> None:
    told_elsewhere = {"data", "selftest"}  # folders that are made whole; a GPU is asked for first
    silent = {"doctor", "models", "targets", "recipes", "inspect"}
    assert {command.split()[0] for command in WRITING} == set(COMMANDS) - told_elsewhere - silent


def test_what_a_file_cannot_replace_is_refused_and_stays(tmp_path: Path) -> None:
    folder, pipe = tmp_path / "folder", tmp_path / "pipe"
    folder.mkdir()
    os.mkfifo(pipe)
    for place, reason in ((folder, "folder"), (pipe, "device or a pipe")):
        with pytest.raises(SamkrError) as caught:
            require_writable(place)
        assert caught.value.code == "SE-D01"
        assert reason in caught.value.facts[0]
    assert folder.is_dir()
    assert pipe.is_fifo()


def test_several_places_are_asked_about_and_none_is_touched(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text("{}")
    require_writable(kept, tmp_path / "new" / "newer" / "other.json")
    assert kept.read_text() == "{}"
    assert list(tmp_path.rglob("*")) == [kept]
