"""A command line that we print can be pasted: the command and its options exist, and names are quoted."""

import ast
import functools
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from own_sources import sources

from samkr_edge.cli import COMMANDS, load_command
from samkr_edge.fixes import look_beside, quoted

# Values that are put into commands as they are: numbers, words of our own choice, and what is quoted already.
PLAIN = {
    "OPSET", "_DATA", "images", "job", "len(shown)", "min(highest, 19)", "precision", "target", "target.name",
    "wishes.batch", "near[0] if near else names[0]", "flag", "others[0][1]",
}  # fmt: skip
# Sentences begin so, and no command.
PROSE = {"needs", "on", "uses"}
# Where a command begins: at the beginning of a line, or behind what leads to one.
_LEAD = r"(?:^ *|(?<=: )|(?<=&& )|(?<=; )|(?<=`)|(?<=or ))"
_OURS = re.compile(rf"{_LEAD}samkr-edge ([a-z]+\b[^\n`]*)", re.MULTILINE)
_ANY = re.compile(
    rf"{_LEAD}(?:samkr-edge (?:{'|'.join(COMMANDS)})"
    r"|ls|mv|cd|file|find|ffprobe|ffmpeg|magick|namei|df|ssh|trtexec)\b(?= \S)"
)
# Behind these no word belongs to the command any more.
_END = re.compile(r" {3}#| && |; |, | \+| \|")


@functools.cache
def texts() -> tuple[tuple[str, str, ast.expr], ...]:
    """(place, text with ``{code}`` where a value is put in, node) of all that our sources hold as text."""
    found = []
    for path, source in sources():
        tree = ast.parse(source)
        parts = {
            id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(
                    part.value if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}"  # type: ignore[attr-defined, misc]
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
                text = node.value
            else:
                continue
            found.append((f"{path}:{node.lineno}", text, node))
    return tuple(found)


def commands() -> Iterator[tuple[str, list[str]]]:
    """(place, words behind ``samkr-edge``) of every command line of ours in a text."""
    for place, text, _ in texts():
        for found in _OURS.finditer(re.sub(r"\{[^}]*\}+", "X", text)):
            yield place, re.sub(r"[()'\"]", "", _END.split(found[1])[0]).rstrip(".:,").split()


@functools.cache
def parameters(command: tuple[str, ...]) -> tuple[set[str], list[set[str]], bool] | None:
    """Options, names of those that are required, whether there are arguments; None where there is no such command."""
    if command[0] not in COMMANDS:
        return None
    found: Any = typer.main.get_command(load_command(command[0]))
    if len(command) > 1:
        found = found.commands.get(command[1])
    if found is None:
        return None
    options = [one for one in found.params if one.param_type_name == "option"]
    required = [set(one.opts) for one in options if one.required]
    names = {name for one in options for name in (*one.opts, *one.secondary_opts)}
    return {*names, "--help"}, required, any(one.param_type_name == "argument" for one in found.params)


def test_commands_that_are_printed_exist_with_their_options() -> None:
    wrong, seen = [], 0
    for place, words in commands():
        name = tuple(words[: 2 if words[0] == "data" or words[:2] == ["zoo", "get"] else 1])
        if words[0] in PROSE:
            continue
        known = parameters(name)
        if known is None:
            wrong.append(f"{place}: there is no `samkr-edge {' '.join(words)}`")
            continue
        seen += 1
        options, required, arguments = known
        rest = [word.split("=")[0] for word in words[len(name) :]]
        lacking = {word for word in rest if word.startswith("-") and word != "-"} - options
        if rest and arguments and not rest[0].startswith("-"):  # a whole command, not a mention of one
            lacking |= {max(names) for names in required if not names & set(rest)}
        wrong += [f"{place}: {option} of `samkr-edge {' '.join(words)}`" for option in sorted(lacking)]
    assert wrong == []
    assert seen > 100


def test_names_in_commands_that_are_printed_are_quoted() -> None:
    bare = []
    for place, text, node in texts():
        found = _ANY.search(text)
        if found is None or not isinstance(node, ast.JoinedStr):
            continue
        command = text[found.start() :].split("   #")[0]
        codes = [ast.unparse(part.value) for part in node.values if isinstance(part, ast.FormattedValue)]
        bare += [
            f"{place}: {code} in {command}"
            for code in codes
            if f"{{{code}}}" in command and not code.startswith(("quoted(", "shlex.")) and code not in PLAIN
        ]
    assert bare == []


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("a.pt", "a.pt"),
        ("my run [2]/a.pt", "'my run [2]/a.pt'"),
        ("it's", """'it'"'"'s'"""),
        ("-a.mp4", "./-a.mp4"),
    ],
)
def test_a_name_is_one_word_of_a_shell(name: str, word: str) -> None:
    assert quoted(Path(name)) == quoted(name) == word
    assert shlex.split(word) in ([name], [f"./{name}"])


def test_a_name_that_is_no_utf8_is_its_bytes_for_a_shell() -> None:
    name = "m\udce9 '\\x.onnx"
    said = subprocess.run(["bash", "-c", f"printf %s {quoted(name)}"], capture_output=True, check=True).stdout
    assert quoted(name).isascii()
    assert os.fsdecode(said) == name


def test_where_to_look_is_a_folder_that_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    folder.mkdir()
    assert look_beside(folder / "typo" / "a.pt") == f"ls '{folder}'"
    assert look_beside("typo/a.pt") == "ls ."
    assert look_beside("") == "ls ."
