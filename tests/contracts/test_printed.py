"""What is printed means what it says, arrives whole, and never breaks a command whose work is done."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
from own_sources import sources

from samkr_edge import child_process, terminal
from samkr_edge.cli import COMMANDS, run
from samkr_edge.cli.console import emit, heading, show
from samkr_edge.errors import SamkrError
from samkr_edge.printable import counted, one_line, printable
from samkr_edge.progress import progress
from samkr_edge.terminal import console, say

ODD = "clips [final]/[/b]/:warning: [0-9] samkr-edge[train]"


def encoded(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace", write_through=True)


@pytest.fixture
def full() -> Iterator[TextIO]:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    stream = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115
    yield stream
    nowhere = os.open(os.devnull, os.O_WRONLY)  # what it still holds
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    stream.close()


@pytest.fixture
def unread() -> Iterator[TextIO]:
    """A pipe whose reader has gone."""
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w", encoding="utf-8")
    yield stream
    nowhere = os.open(os.devnull, os.O_WRONLY)  # what it still holds
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
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


def test_all_that_is_printed_in_colour_goes_through_one_place() -> None:
    """A console made elsewhere would take names for markup."""
    made = {
        path for path, text in sources() if re.search(r"(?<!-> )\bConsole\(|rich\.markup|rich import", text)
    }
    assert made == {"samkr_edge/terminal.py"}


# Lines for the process that started this one, and scripts that print their own measurements and no names.
_PRINT_THEMSELVES = {
    "benchmarks/scripts/eval_memory.py", "benchmarks/scripts/eval_overhead.py", "benchmarks/scripts/preflight_cost.py",
    "benchmarks/scripts/host_cost.py", "benchmarks/scripts/serve_rate.py", "benchmarks/scripts/stream_rate.py",
    "benchmarks/measure/peak_memory.py", "benchmarks/selftest/child.py",
    "samkr_edge/doctor/gpu_trial.py", "samkr_edge/doctor/trial_import.py", "samkr_edge/launch.py",
    "samkr_edge/terminal.py",
}  # fmt: skip


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call in our packages, with its file."""
    for path, text in sources():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call):
                yield path, node


def test_nothing_is_printed_past_the_terminal() -> None:
    """A bare print sends control characters on, and fails where stdout does."""
    made = {path for path, call in calls() if isinstance(call.func, ast.Name) and call.func.id == "print"}
    assert {path for path in made if not path.startswith("benchmarks/host/")} <= _PRINT_THEMSELVES


def test_text_in_files_is_utf_8_in_any_locale() -> None:
    silent = []
    for path, call in calls():
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        values = [*call.args, *(word.value for word in call.keywords)]
        modes = [str(value.value) for value in values if isinstance(value, ast.Constant)]
        modes = [mode for mode in modes if re.fullmatch(r"[rwax][bt+]*", mode)]
        # What opens without a mode is a file by `open` alone: archives, cameras and videos have a method of that name.
        opens = name == "open" and (isinstance(call.func, ast.Name) or modes)
        text = name in ("read_text", "write_text") or (opens and not any("b" in mode for mode in modes))
        if text and not {word.arg for word in call.keywords} & {"encoding", "format"}:
            silent.append(f"{path}:{call.lineno}")
    assert silent == []


def test_what_other_programs_print_is_read_in_any_locale() -> None:
    """Python decodes it strictly and by the locale unless told otherwise: a name in it would end our command."""
    strict = []
    for path, call in calls():
        words = {word.arg for word in call.keywords}
        if "text" in words and not words >= {"encoding", "errors"}:
            strict.append(f"{path}:{call.lineno}")
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


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What a POSIX shell makes of a line in which ``E`` is our command."""
    text = f'E() {{ {shlex.join(child_process.command())} "$@"; }}; {line}'
    return subprocess.run(["sh", "-c", text], capture_output=True, text=True, encoding="utf-8", cwd=folder)


@pytest.mark.parametrize(
    ("line", "code", "printed", "said"),
    [
        ("E --version >&- 2>&- <&-", 0, "", ""),
        ("E inspect none.onnx 2>&-", 4, "", ""),
        ("E inspect none.onnx 2>/dev/full", 4, "", ""),
        ("E --version >/dev/full", 3, "", "SE-D06"),
        ("{ E --help; echo $? >&2; } | true", 0, "", "0"),
    ],
)
def test_streams_as_a_shell_gives_them(line: str, code: int, printed: str, said: str, tmp_path: Path) -> None:
    done = shell(line, tmp_path)
    assert (done.returncode, done.stdout) == (code, printed)
    assert done.stderr.strip() == said or (said and said in done.stderr)
    assert "Exception ignored" not in done.stderr  # Python's own, at its end


def test_what_is_printed_does_not_get_into_a_file_where_stderr_was_closed(tmp_path: Path) -> None:
    """The first file that a process opens would be number 2, where OpenCV and FFmpeg print."""
    code = (
        "from samkr_edge.terminal import open_streams; import os, sys; open_streams();"
        "file = open('file', 'w', encoding='utf-8'); os.write(2, b'noise'); sys.exit(file.fileno() <= 2)"
    )
    done = subprocess.run(["sh", "-c", f"{shlex.join([sys.executable, '-c', code])} 2>&-"], cwd=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "file").read_bytes() == b""


def test_a_stderr_that_cannot_be_written_ends_nothing(full: TextIO, unread: TextIO) -> None:
    for stream in (full, unread):
        heedless = io.TextIOWrapper(
            io.BufferedWriter(terminal._Heedless(stream.fileno())), write_through=True
        )
        print("x" * 100_000, file=heedless, flush=True)
        assert not heedless.isatty()


def test_a_stream_says_letters_it_lacks_in_numbers(tmp_path: Path) -> None:
    """Also with UTF-8 switched off, where names in another alphabet are bytes."""
    done = shell("LC_ALL=C PYTHONUTF8=0 E inspect größe.onnx --json", tmp_path)
    assert json.loads(done.stdout)["error"]["message"] in done.stderr.encode().decode("unicode_escape")
    assert r"gr\udcc3\udcb6" in done.stderr
    assert r"gr\xf6" in shell("PYTHONIOENCODING=ascii E inspect größe.onnx", tmp_path).stderr


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
    assert terminal.delivered(0) == 3
    assert "SE-D06" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["targets"], ["targets", "--json"]])
def test_a_reader_that_has_gone_is_no_error(
    arguments: list[str], unread: TextIO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", unread)
    assert run(arguments) == 0
    assert terminal.delivered(0) == 0
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


def test_one_of_a_thing_is_not_several() -> None:
    assert [counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [counted(number, "person", "people") for number in (1, 3)] == ["1 person", "3 people"]


def test_no_plural_is_made_by_hand() -> None:
    by_hand = re.compile(r"""['"]{2} if .* == 1 else ['"]s['"]|['"]person['"] if """)
    root = Path(__file__).parents[2]
    names = ("samkr_edge", "targets", "training", "calibration", "benchmarks")
    found = [
        str(path.relative_to(root))
        for path in (path for name in names for path in (root / name).rglob("*.py"))
        if by_hand.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_control_characters_of_names_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b]0;owned\x07\x9b2J\r\x08.pt"
    error = SamkrError("SE-A30", f"{name} is not readable", {"file": name})
    say(name)
    show(name)
    assert printable("tab\tand\nline") == "tab\tand\nline"
    for text in (str(error), *capsys.readouterr()):
        assert r"a\x1b]0;owned\x07\x9b2J\r\x08.pt" in text
        assert not set(text) & set("\x1b\x07\x9b\r\x08")
    assert console().width > 1000  # no terminal


def test_control_characters_in_tables_and_bars_are_shown_too(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table("\x1b[2Jmodule", title="\x9b31m")
    table.add_row("\x1b]0;cell\x07")
    emit({}, Group(table, Text("\x1b[31mnote")), False)
    with progress("a\x1b[31m\nb", 1) as advance:
        advance(1, "\x1b[31m")
    printed, said = capsys.readouterr()
    assert not set(printed + said) & set("\x1b\x07\x9b")
    for shown in (r"\x1b[2Jmodule", r"\x9b31m", r"\x1b]0;cell", r"\x1b[31mnote"):
        assert shown in printed
    assert r"a\x1b[31m\nb" in said


def test_a_name_begins_no_line_of_an_error_and_turns_no_text_around() -> None:
    error = SamkrError("SE-A30", "a\nfix: rm -rf b", {"b\nc": "d\ne"}, fix="two\nlines")
    assert str(error) == "error SE-A30: a\\nfix: rm -rf b\n  b\\nc        d\\ne\nfix: two\nlines"
    assert printable("gpj.\u202etxt") == r"gpj.\u202etxt"
    assert one_line("photo\n.jpg") == r"photo\n.jpg"


def test_json_is_ascii_and_holds_nothing_that_steers_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "\x7f\x9b\x1b\u202e日本\udce9"
    emit({"file": name}, "", True)
    printed = capsys.readouterr().out
    assert json.loads(printed)["file"] == name
    assert printed.rstrip("\n").isprintable()
    assert printed.isascii()


@pytest.mark.parametrize("columns", ["20", "40"])
def test_help_keeps_its_words_on_a_narrow_terminal(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for words, kept in (
        (["--help"], [*COMMANDS, "--version", "--debug"]),
        (["predict", "--help"], ["--no-overlays", "--max-people", "--cuda-graph"]),
    ):
        assert run(words) == 0
        shown = capsys.readouterr().out
        assert [word for word in kept if not re.search(rf"{word}\b", shown)] == []
        assert "…" not in shown
