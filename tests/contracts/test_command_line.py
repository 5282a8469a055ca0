"""What every command promises: help with an example, errors on one screen, exit codes that mean something."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer

from samkr_edge.cli import COMMANDS, run
from samkr_edge.packages import resolve


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"samkr-edge {name}" in shown
    if name != "data":  # a group: its subcommands have the examples
        assert "Examples:" in shown


def parameters() -> Iterator[tuple[str, str, Any]]:
    """Command, parameter and what its annotation says of it."""
    for name, command in COMMANDS.items():
        found = resolve(command.target)
        group = isinstance(found, typer.Typer)
        for function in [c.callback for c in found.registered_commands] if group else [found]:
            for parameter, hint in get_type_hints(function, include_extras=True).items():
                for said in getattr(hint, "__metadata__", ()):
                    yield f"{name} {function.__name__}", parameter, said


def test_options_that_say_the_same_are_one() -> None:
    """Else the words, the default or the limits of one of them change alone."""
    found: dict[tuple[str, str], list[tuple[str, Any]]] = defaultdict(list)
    for command, parameter, said in parameters():
        found[parameter, said.help].append((command, said))
    twice = {
        words: [command for command, _ in options]
        for words, options in found.items()
        if any(said is not options[0][1] for _, said in options)
    }
    assert twice == {}


@pytest.mark.parametrize("name", ["synth", "check", "subset"])
def test_every_data_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", name, "--help"]) == 0
    assert "Examples:" in capsys.readouterr().out


def test_a_mistyped_command_is_a_usage_error_with_the_nearest_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["trian"]) == 2
    assert "train" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["inspect", "build", "bundle", "eval", "sweep", "data check", "data synth"])
def test_a_missing_argument_is_a_usage_error(capsys: pytest.CaptureFixture[str], line: str) -> None:
    assert run(line.split()) == 2
    assert "Missing argument" in capsys.readouterr().err


def test_a_mistyped_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--jsn"]) == 2
    assert "--json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["predict", "m.onnx", "a.jpg", "-o", ""], "what follows -o is empty"),
        (["eval", "m.onnx", "--out="], "--out is empty"),
        (["predict", "m.onnx", ""], "what follows m.onnx is empty"),
        ([""], "the first word is empty"),
    ],
)
def test_an_empty_word_is_not_taken_for_the_folder_here(
    words: list[str],
    where: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(words) == 2
    shown = capsys.readouterr().err
    assert "SE-U00" in shown
    assert where in shown


@pytest.mark.parametrize("name", ["-dash.mp4", "-out.mp4"])
def test_a_file_that_was_read_as_options_is_named_with_what_to_write(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).touch()
    assert run(["predict", "my model.onnx", name]) == 2
    shown = capsys.readouterr().err
    assert f"{name} is one here" in shown
    assert f"fix: samkr-edge predict 'my model.onnx' ./{name}\n" in shown


def test_an_error_is_one_json_object_when_json_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["predict", "missing.onnx", "nothing.jpg", "--json"])
    shown = capsys.readouterr()
    error = json.loads(shown.out)["error"]
    assert code in (2, 3, 4)
    assert error["code"].startswith("SE-")
    assert "Traceback" not in shown.err


def test_an_unexpected_error_is_called_a_bug_and_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("samkr_edge.cli.load_command", broken)
    assert run(["doctor"]) == 1
    shown = capsys.readouterr().err
    assert "boom" in shown
    assert "--debug" in shown
    assert "Traceback" not in shown


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("samkr_edge.cli.load_command", interrupted)
    assert run(["doctor"]) == 130
    assert capsys.readouterr().err == "stopped by Ctrl-C\n"  # doctor makes nothing that could be kept


@pytest.mark.parametrize(
    ("line", "nearest", "said"),
    [
        ("build m.onnx --precision int4", "int8", "4 bits"),
        ("build m.onnx --precision fp4", "int8", "4 bits"),
        ("build m.onnx --precision int8-ptq", "int8", ""),
        ("build m.onnx --precision half", "fp16", ""),
        ("build m.onnx --precision INT8", "int8", ""),
        ("build m.onnx --flavour tensorrt-rtx", "tensorrt", ""),
        ("build m.onnx --precision xyz", "", ""),
        ("bench m.onnx --protocol papr", "paper", ""),
        ("eval m.onnx --data d --resize ppaper", "paper", ""),
        ("export m.pt -o m.onnx --precision half", "fp16", ""),
        ("export m.pt -o m.onnx --precision int4", "", "4 bits"),
    ],
)
def test_a_word_that_is_no_choice_is_told_the_nearest(
    line: str, nearest: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if line.startswith("export"):
        line = line.replace("m.pt", "samkr_tiny --untrained")
    assert run([*line.split(), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["facts"].get("nearest", "") == nearest
    assert said in str(error["facts"])
