"""What is printed means what it says, arrives whole, and never breaks a command whose work is done."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from samkr_edge.cli import run, streams
from samkr_edge.cli.console import console, emit, heading, say, show
from samkr_edge.errors import SamkrError, printable

ROOT = Path(__file__).parents[2]
ODD = "clips [final]/[/b]/:warning: [0-9] samkr-edge[train]"


def encoded(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace", write_through=True)


@pytest.fixture
def full() -> Iterator[TextIO]:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    stream = open("/dev/full", "w")  # noqa: SIM115
    yield stream
    streams.give_up(stream)
    stream.close()


@pytest.fixture
def unread() -> Iterator[TextIO]:
    """A pipe whose reader has gone."""
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w")
    yield stream
    streams.give_up(stream)
    stream.close()


def test_names_are_no_markup_and_lines_are_not_broken_outside_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = f"{ODD} {'/long' * 60}"
    emit({}, line, False)
    show(line, "bold")
    say(line)
    printed, said = capsys.readouterr()
    assert printed == f"{line}\n{line}\n"
    assert said == f"{line}\n"


def test_a_table_in_a_pipe_has_every_cell_whole(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table()
    table.add_column("file")
    table.add_column("ap")
    table.add_row(f"{ODD} {'/long' * 60}", "46.1")
    emit({}, table, False)
    heading("1/13  Train")
    printed = capsys.readouterr().out
    assert f"{ODD} {'/long' * 60}" in printed
    assert max(map(len, printed.splitlines()[-1:])) <= 110


def test_json_is_json_where_a_number_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"ap": float("nan"), "rows": [{"ms": float("inf"), "p50": 1.5}], "pair": (1, 2)}, "", True)
    printed = capsys.readouterr().out
    assert json.loads(printed, parse_constant=pytest.fail) == {
        "schema_version": 1, "ap": None, "rows": [{"ms": None, "p50": 1.5}], "pair": [1, 2],
    }  # fmt: skip


def sources() -> Iterator[tuple[Path, str]]:
    for package in ("samkr_edge", "training", "calibration", "benchmarks", "targets"):
        for path in (ROOT / package).rglob("*.py"):
            yield path, path.read_text(encoding="utf-8")


def test_all_that_is_printed_in_colour_goes_through_one_place() -> None:
    """A console made elsewhere would take names for markup."""
    made = {
        path.name
        for path, text in sources()
        if re.search(r"(?<!-> )\bConsole\(|rich\.markup|rich import", text)
    }
    assert made == {"console.py"}


def test_what_other_programs_print_is_read_in_any_locale() -> None:
    """Python decodes it strictly and by the locale unless told otherwise: a name in it would end our command."""
    strict = []
    for path, text in sources():
        for call in ast.walk(ast.parse(text)):
            words = {word.arg for word in call.keywords} if isinstance(call, ast.Call) else set()
            if "text" in words and not words >= {"encoding", "errors"}:
                strict.append(f"{path.relative_to(ROOT)}:{call.lineno}")  # type: ignore[attr-defined]
    assert strict == []


def test_a_terminal_without_a_letter_gets_its_number_and_json_stays_json(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "größe-\udce9-日本.onnx"
    for encoding in ("ascii", "utf-8", "latin-1"):
        out = encoded(encoding)
        monkeypatch.setattr(sys, "stdout", out)
        emit({"file": name}, "", True)
        emit({}, name, False)
        first, second = out.buffer.getvalue().decode(encoding).splitlines()  # type: ignore[attr-defined]
        assert json.loads(first)["file"] == name
        assert "\\udce9" in second
        assert ("größe" in second) == (encoding != "ascii")


def test_streams_that_were_closed_are_written_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    streams.make_ready()
    assert run(["targets"]) == 0
    assert run(["targets", "--json"]) == 0
    assert run(["predict"]) == 2
    assert streams.flushed(0) == 0
    sys.stdout.close()
    sys.stderr.close()


def test_a_stream_says_letters_it_lacks_in_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    streams.make_ready()
    print("größe")
    out.flush()
    assert out.buffer.getvalue() == rb"gr\xf6\xdfe" + b"\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize("arguments", [["targets"], ["targets", "--json"]])
def test_a_full_disk_behind_stdout_is_named(
    arguments: list[str], full: TextIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", full)
    assert run(arguments) == 3
    assert "SE-D06" in capsys.readouterr().err


def test_what_is_lost_at_the_last_flush_is_told(
    full: TextIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", full)
    print("kept in the buffer")
    assert streams.flushed(0) == 3
    assert "SE-D06" in capsys.readouterr().err


def test_where_stderr_is_full_too_the_exit_code_is_left(
    full: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", full)
    monkeypatch.setattr(sys, "stderr", full)
    assert run(["targets"]) == 3


@pytest.mark.parametrize("arguments", [["targets"], ["targets", "--json"]])
def test_a_reader_that_has_gone_is_no_error(
    arguments: list[str], unread: TextIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", unread)
    assert run(arguments) == 0
    assert streams.flushed(0) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "said", "fix"),
    [
        (["predict", "--json"], "Missing argument", "samkr-edge predict --help"),
        (["targets", "--nope", "--json"], "--nope", "samkr-edge targets --help"),
        (["nosuch", "--json"], "nosuch", "samkr-edge --help"),
    ],
)
def test_json_has_one_object_for_a_command_line_that_is_not_taken(
    arguments: list[str], said: str, fix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    printed, told = capsys.readouterr()
    error = json.loads(printed)["error"]
    assert error["code"] == "SE-U00"
    assert said in error["message"]
    assert error["fix"] == fix
    assert said in told


def test_json_has_one_object_for_what_is_not_known_yet(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("by \x1b[31mnothing")

    monkeypatch.setattr("targets.profile.all_targets", broken)
    assert run(["targets", "--json"]) == 1
    printed, told = capsys.readouterr()
    assert json.loads(printed)["error"]["code"] == "SE-X01"
    assert "\x1b" not in told
    assert r"ZeroDivisionError: by \x1b[31mnothing" in told


def test_control_characters_of_names_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b]0;owned\x07\x9b2J\r\x08.pt"
    error = SamkrError("SE-A30", f"{name} is not readable", [f"file  {name}"])
    say(name)
    show(name)
    assert printable("tab\tand\nline") == "tab\tand\nline"
    for text in (str(error), *capsys.readouterr()):
        assert r"a\x1b]0;owned\x07\x9b2J\r\x08.pt" in text
        assert not set(text) & set("\x1b\x07\x9b\r\x08")
    assert console().width > 1000  # no terminal
