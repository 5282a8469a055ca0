"""Where a command writes is asked before it works: no minutes of measuring end in a folder that cannot be written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import typer

from samkr_edge.cli import COMMANDS, load_command, run
from samkr_edge.cli.places import file_to_write, folder_to_write
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import replacing, require_writable

# What these options of every command name is written.
WRITTEN = {"out", "output", "predictions", "prepared", "triton", "deepstream"}
KNOWN = {
    *(
        "bench",
        "build",
        "bundle",
        "data split",
        "data subset",
        "data synth",
        "demo",
        "eval",
        "export",
        "import",
    ),
    *(
        "ledger",
        "predict",
        "qat",
        "quantize",
        "report",
        "rescore",
        "search",
        "selftest",
        "sensitivity",
        "sweep",
    ),
    "train",
    "zoo get",
}


def leaves(name: str) -> Iterator[tuple[str, click.Command]]:
    command = typer.main.get_command(load_command(name))
    inner = getattr(command, "commands", None)
    yield from ((f"{name} {word}", one) for word, one in inner.items()) if inner else [(name, command)]


def written_by() -> dict[str, list[click.Parameter]]:
    found = {
        name: [parameter for parameter in command.params if parameter.name in WRITTEN]
        for entry in COMMANDS
        for name, command in leaves(entry)
    }
    return {name: parameters for name, parameters in found.items() if parameters}


def test_what_is_written_is_named_by_o_or_out_everywhere() -> None:
    """But for the graph that `build` prepares and the folders that `bundle` fills for servers of others', in place of
    a model, and the folders that `data` has as arguments.
    """
    others = {"prepared", "triton", "deepstream"}
    for name, parameters in written_by().items():
        options = [one for one in parameters if one.param_type_name == "option" and one.name not in others]
        assert options or name.startswith("data "), name
        assert all({"-o", "--out"} <= set(one.opts) for one in options), name


def test_an_option_of_several_commands_reads_the_same_in_all() -> None:
    said: dict[str, set[object]] = {}
    for entry in COMMANDS:
        for _, command in leaves(entry):
            for one in command.params:
                if "--json" in one.opts or "--cuda-graph" in one.opts or "--anyway" in one.opts:
                    said.setdefault(one.opts[0], set()).add(getattr(one, "help", None))
    assert {name: len(words) for name, words in said.items()} == {
        "--json": 1,
        "--cuda-graph": 1,
        "--anyway": 1,
    }


def test_no_command_begins_before_it_knows_that_it_can_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = written_by()
    assert set(places) == KNOWN
    (tmp_path / "file").write_text("")
    blocked = str(tmp_path / "file" / "there.json")
    for name, parameters in places.items():
        for parameter in parameters:
            is_argument = parameter.param_type_name == "argument"
            # Nothing else is given: what is written comes before what is read, and so before all work.
            words = [] if is_argument else [parameter.opts[-1]]
            others = ["x"] * (name in ("data split", "data subset"))
            assert run([*name.split(), *others, *words, blocked]) == 3, name
            assert "SE-D01" in capsys.readouterr().err, name
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "given", ["rtsp://u:s3cret@h/x", "rtsp//u:s3cret@h/x", "s3://runs/a", " http://h/s3cret"]
)
@pytest.mark.parametrize("ask", [file_to_write, folder_to_write])
def test_no_file_is_called_like_an_address(
    given: str, ask: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(typer.BadParameter, match="an address") as caught:
        ask(Path(given))
    assert "s3cret" not in str(caught.value)
    assert ask(tmp_path / "12:30:05" / "a@2x.json") == tmp_path / "12:30:05" / "a@2x.json"


@pytest.mark.parametrize(
    "name", ["runs/12:30:05@lab", "run 12:30@lab", "12:30@lab", "exp/12:30@gpu", "a!b=c"]
)
def test_a_time_and_a_place_are_no_password(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert folder_to_write(Path(name)) == Path(name)


def test_a_folder_called_like_an_address_is_taken_once_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(typer.BadParameter, match="mkdir"):
        folder_to_write(Path("lab:12@night"))
    Path("lab:12@night").mkdir()
    assert folder_to_write(Path("lab:12@night")) == Path("lab:12@night")


def test_what_can_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "deep" / "a.json")
    require_writable(tmp_path / "new" / "deep", folder=True)
    require_writable(tmp_path, folder=True)
    (tmp_path / "old.json").write_text("kept")
    require_writable(tmp_path / "old.json")
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "kept"


@pytest.mark.parametrize(
    ("name", "folder", "reason"),
    [
        ("folder", False, "Is a directory"),
        ("file", True, "Not a directory"),
        ("file/new", False, "Not a directory"),
        (300 * "x", False, "File name too long"),
        ("pipe", False, "a device or a pipe"),
    ],
)
def test_what_cannot_be_written_is_refused_with_the_reason(
    tmp_path: Path, name: str, folder: bool, reason: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SamkrError) as caught:
        require_writable(tmp_path / name, folder=folder)
    assert caught.value.code == "SE-D01"
    assert reason in caught.value.facts["reason"]


def test_a_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    """As root, `-o /dev/null` would put a file in its place."""
    os.mkfifo(tmp_path / "device")
    with pytest.raises(SamkrError) as caught, replacing(tmp_path / "device") as temporary:
        temporary.write_text("result")
    assert caught.value.code == "SE-D01"
    assert (tmp_path / "device").is_fifo()
