"""A command line that we print can be pasted: the command and its options exist, and names are quoted."""

import ast
import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from samkr_edge.cli import COMMANDS, load_command
from samkr_edge.fixes import look_beside, quoted

ROOT = Path(__file__).parents[2]
PACKAGES = ("samkr_edge", "targets", "training", "calibration", "benchmarks")
# What is put into commands as it is: numbers, and words that we choose ourselves.
PLAIN = {
    "OPSET", "again", "allowed // MIB", "built", "cause.fix", "count", "flag", "folder", "height", "highest",
}  # fmt: skip
# Programs that a fix may begin with, at the beginning of a text or behind the words that lead to a command.
_PROGRAMS = "samkr-edge|ls|mv|cd|file|find|ffprobe|ffmpeg|namei|df|ssh|trtexec|torchrun"
_COMMAND = re.compile(
    rf"(?:^|(?<=: )|(?<=&& )|(?<=; )|(?<=`)|(?<=or ))(?:{_PROGRAMS})\b(?= \S)", re.MULTILINE
)


@functools.cache
def texts() -> tuple[tuple[str, str, ast.expr], ...]:
    """(place, text with ``{code}`` where a value is put in, node) of all that our sources hold as text."""
    found = []
    for path in (path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))):
        tree = ast.parse(path.read_text(encoding="utf-8"))
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
            found.append((f"{path.relative_to(ROOT)}:{node.lineno}", text, node))
    return tuple(found)


def commands() -> Iterator[tuple[str, list[str]]]:
    """(place, words behind ``samkr-edge``) of every command line of ours in a text."""
    for place, text, _ in texts():
        for found in re.finditer(
            r"(?:^|(?<=: )|(?<=&& )|(?<=; )|(?<=`)|(?<=or )) *samkr-edge ([^\n`]*)", text, re.MULTILINE
        ):
            line = re.split(r" {3}#| && |; |, | \+| \|", re.sub(r"\{.*?\}", "X", found[1]))[0]
            yield place, re.sub(r"[()'\"]", "", line).rstrip(".:,").split()


@functools.cache
def parameters(command: tuple[str, ...]) -> tuple[set[str], set[str], list[Any]] | None:
    """Options, those that are required, and arguments of a command; None where there is no such one."""
    if command[0] not in COMMANDS:
        return None
    found: Any = typer.main.get_command(load_command(command[0]))
    if len(command) > 1:
        found = found.commands.get(command[1])
    if found is None:
        return None
    options = [one for one in found.params if one.param_type_name == "option"]
    required = {one.opts[-1] for one in options if one.required}
    names = {name for one in options for name in (*one.opts, *one.secondary_opts)}
    return {*names, "--help"}, required, [one for one in found.params if one.param_type_name == "argument"]


def test_commands_that_are_printed_exist_with_their_options() -> None:
    wrong, seen = [], 0
    for place, words in commands():
        if not words or not re.fullmatch(r"[a-z]+", words[0]):  # `samkr-edge --version`, a table's column
            continue
        name = tuple(words[: 2 if words[0] == "data" else 1])
        known = parameters(name)
        if known is None:
            wrong.append(f"{place}: samkr-edge {' '.join(words)}: no such command")
            continue
        seen += 1
        options, required, arguments = known
        given = words[len(name) :]
        wrong += [
            f"{place}: {word} is not an option of samkr-edge {' '.join(name)}"
            for word in given
            if word.startswith("-") and word.split("=")[0] not in options
        ]
        if given and "--help" not in given and not given[0].startswith("-") and arguments:
            lacking = required - {word.split("=")[0] for word in given}
            wrong += [f"{place}: samkr-edge {' '.join(words)} needs {option}" for option in sorted(lacking)]
    assert wrong == []
    assert seen > 100


def test_names_in_commands_that_are_printed_are_quoted() -> None:
    bare = []
    for place, text, node in texts():
        first = _COMMAND.search(text)
        if not isinstance(node, ast.JoinedStr) or first is None:
            continue
        for part in node.values:
            if not isinstance(part, ast.FormattedValue):
                continue
            code = ast.unparse(part.value)
            if (
                text.index(f"{{{code}}}") > first.start()
                and not code.startswith(("quoted(", "shlex."))
                and code not in PLAIN
            ):
                bare.append(f"{place}: {code} in {text}")
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


def test_where_to_look_is_a_folder_that_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    folder.mkdir()
    assert look_beside(folder / "typo" / "a.pt") == f"ls '{folder}'"
    assert look_beside("typo/a.pt") == "ls ."
    assert look_beside("") == "ls ."
