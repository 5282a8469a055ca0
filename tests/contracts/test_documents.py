"""The documents cannot drift from the program: commands parse, links lead somewhere."""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from samkr_edge.cli import COMMANDS, load_command
from training.loop.recipe_file import recipe_comment, recipe_names

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
GUIDES = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
DOCUMENTS = (*GUIDES, "CONTRIBUTING.md", "CHANGELOG.md")
# Pages that are made when the site is built: docs/generated_pages.py.
MADE = {"docs/errors.md"}
# Programs of others, whose options are not ours to check.
OTHERS = {"torchrun", "trtexec", "uv", "pip", "python3", "lint-imports", "git"}
PROGRAMS = "|".join(("samkr-edge", "python", "make", *sorted(OTHERS)))
EXTRAS = re.compile(r"(?:samkr-edge|\.|\.whl)\[([a-z0-9,-]+)\]")


@functools.cache
def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", read(document), flags=re.DOTALL)


def command_lines(document: str) -> Iterator[str]:
    """Every line of its shell blocks without the comment, and every command between backticks."""
    for block in blocks(document, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            if command := line.split(" # ")[0].split("   #")[0].strip():
                yield from re.split(r" && | \| ", command)
    prose = re.sub(r"```.*?```", "", read(document), flags=re.DOTALL)
    for command in re.findall(rf"`((?:[\w.]+/bin/)?(?:{PROGRAMS}) [^`]+)`", prose):
        yield " ".join(command.split())
    for command in re.findall(rf"`((?:{'|'.join(COMMANDS)}) --[^`]+)`", prose):
        yield f"samkr-edge {' '.join(command.split())}"


def recipe_commands() -> Iterator[str]:
    """The test lines in the recipes of papers."""
    for name in recipe_names():
        for line in recipe_comment(name):
            if line.lstrip("# ").startswith("samkr-edge "):
                yield line.lstrip("# ")


def ours() -> list[str]:
    lines = [*(line for document in DOCUMENTS for line in command_lines(document)), *recipe_commands()]
    return list(dict.fromkeys(re.sub(r"^torchrun .*?--no-python ", "", line) for line in lines))


@functools.cache
def reader_of(name: tuple[str, ...]) -> Any:
    """A command that reads its command line and does nothing: what it would call, and asks about places, is gone."""
    command: Any = typer.main.get_command(load_command(name[0]))
    if len(name) > 1:
        command = command.commands[name[1]]
    command.callback = None
    for parameter in command.params:
        parameter.callback = None
    return command


def parse(words: list[str], *, whole: bool) -> None:
    """Read a command line as the command does; raises what the command would.

    ``whole``: what is required must be there, values of options too. A mention in a sentence may leave it out.
    """
    assert words[0] in COMMANDS, f"there is no `samkr-edge {words[0]}`"
    split = 2 if words[0] == "data" or words[:2] == ["zoo", "get"] else 1
    try:
        reader_of(tuple(words[:split])).main(words[split:], standalone_mode=False)
    except Exception as error:
        if whole or type(error).__name__ not in ("MissingParameter", "BadOptionUsage"):
            raise AssertionError(f"`samkr-edge {' '.join(words)}`: {error}") from error


@pytest.mark.parametrize("line", [line for line in ours() if line.startswith("samkr-edge ")])
def test_a_command_of_a_document_parses(line: str) -> None:
    words = shlex.split(line)[1:]
    if not words[0].startswith("-"):
        parse(words, whole=len(words) > 2 and line in whole_lines())


@functools.cache
def whole_lines() -> frozenset[str]:
    """Lines of shell blocks, which can be pasted as they are; others are mentions in sentences."""
    return frozenset(
        re.sub(r"^torchrun .*?--no-python ", "", line.split("   #")[0].split(" # ")[0].strip())
        for document in DOCUMENTS
        for block in blocks(document, "sh")
        for whole in block.replace("\\\n", " ").splitlines()
        for line in whole.split(" && ")
    )


@functools.cache
def options() -> frozenset[str]:
    """Every option of every command."""
    names: set[str] = {"--help"}
    for name in COMMANDS:
        command: Any = typer.main.get_command(load_command(name))
        for one in (command, *getattr(command, "commands", {}).values()):
            names |= {
                word for parameter in one.params for word in (*parameter.opts, *parameter.secondary_opts)
            }
    return frozenset(names)


@pytest.mark.parametrize("document", GUIDES)
def test_an_option_that_a_document_mentions_exists(document: str) -> None:
    for mention in re.findall(r"`(--[^`]+)`", re.sub(r"```.*?```", "", read(document), flags=re.DOTALL)):
        assert {word for word in mention.split() if word.startswith("--")} <= options(), mention


def test_a_wrong_command_does_not_parse() -> None:
    with pytest.raises(AssertionError, match="no `samkr-edge trian`"):
        parse(["trian"], whole=True)
    for words in (["--sice", "1"], ["--decode", "device"], ["--batch", "0"], ["--batch"]):
        with pytest.raises(AssertionError):
            parse(["export", "a.pt", "-o", "a.onnx", *words], whole=True)
    parse(["export", "a.pt"], whole=False)
    with pytest.raises(AssertionError, match="Missing"):
        parse(["export", "a.pt"], whole=True)


@pytest.mark.parametrize("line", [line for line in ours() if line.startswith("python ")])
def test_a_script_of_a_document_takes_these_options(line: str) -> None:
    words = shlex.split(line)[1:]
    if words[0] == "-m":
        found = importlib.util.find_spec(words[1])
        assert found is not None, line
        assert found.origin is not None, line
        file, rest = Path(found.origin), words[2:]
    else:
        file, rest = ROOT / words[0], words[1:]
    if words[:2] == ["-m", "samkr_edge"]:
        return
    known = {
        argument.value
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    } | {"--help"}
    assert {word for word in rest if word.startswith("-")} <= known, line


def test_every_other_command_is_known() -> None:
    targets = set(re.findall(r"^([a-z-]+):", read_make(), flags=re.MULTILINE))
    variables = set(
        re.findall(r"\b([A-Z_]+) \?=|\$\(([A-Z]+)\)|^export (.+)$", read_make(), flags=re.MULTILINE)
    )
    settable = {word for groups in variables for group in groups for word in group.split()}
    for line in ours():
        words = shlex.split(line)
        program = words[0].rpartition("/")[2]
        if program == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets, line
            assert {word.partition("=")[0] for word in words[1:] if "=" in word} <= settable, line
        assert program in {"samkr-edge", "python", "make", *OTHERS}, line


def written(line: str) -> Iterator[str]:
    """What a command line of a page writes into the folder that it is run in."""
    words = shlex.split(line)
    for option, value in pairwise(words):
        if option in ("-o", "--out"):
            yield value
            if value.endswith((".onnx", ".engine")) and words[1] == "build":
                yield f"{value}.json"
    if words[1:3] == ["data", "synth"]:
        yield words[3]
    if words[1:3] in (["data", "subset"], ["data", "split"]):
        yield words[4]


def test_git_ignores_what_the_commands_of_the_pages_write() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("needs a checkout")
    names = {name for line in whole_lines() if line.startswith("samkr-edge ") for name in written(line)}
    found = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"],
        input="\n".join(sorted(name if Path(name).suffix else f"{name}/" for name in names)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert names - {name.rstrip("/") for name in found.stdout.split()} == set()


def test_a_wheel_is_named_as_it_is_built() -> None:
    from samkr_edge import __version__

    for document in GUIDES:
        for name in re.findall(r"[\w.-]+\.whl", read(document)):
            assert name == f"samkr_edge-{__version__}-py3-none-any.whl", document


def test_files_of_the_repository_that_documents_name_are_there() -> None:
    folders = "|".join(("samkr_edge", "targets", "training", "calibration", "benchmarks", "tests", "docs"))
    for document in (*GUIDES, "CONTRIBUTING.md"):
        for name in re.findall(rf"`((?:{folders})/[\w./-]*)`", read(document)):
            assert (ROOT / name).exists() or f"docs/{name}" in MADE, f"{document}: {name}"


@functools.cache
def read_make() -> str:
    return (ROOT / "Makefile").read_text(encoding="utf-8")


def test_every_extra_of_the_documents_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for document in DOCUMENTS:
        for extras in EXTRAS.findall(read(document)):
            assert set(extras.split(",")) <= set(project["optional-dependencies"]), f"{document}: {extras}"


def test_no_command_hides_in_an_indented_block() -> None:
    for document in DOCUMENTS:
        assert not re.search(r"^ {4,}(?:samkr-edge|python|make) ", read(document), flags=re.MULTILINE), (
            document
        )


def test_python_and_data_in_the_documents_parse() -> None:
    import yaml

    for document in DOCUMENTS:
        for block in blocks(document, "python"):
            names = {
                node.attr
                for node in ast.walk(ast.parse(block))
                if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "samkr_edge"
            }
            module = importlib.import_module("samkr_edge")
            assert names <= set(module.__all__), document
        for block in blocks(document, "yaml"):
            assert yaml.safe_load(block), document
        for block in blocks(document, "json"):
            assert json.loads(block), document


def test_the_documents_show_most_commands() -> None:
    shown = {shlex.split(line)[1] for line in whole_lines() if line.startswith("samkr-edge ")}
    assert set(COMMANDS) - shown <= {"models"}


def anchors(document: str) -> set[str]:
    """The headings of a document as links name them."""
    text = re.sub(r"```.*?```", "", read(document), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_leads_to_a_file_and_a_heading(document: str) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)", read(document)):
        file = (ROOT / document).parent / target if target else ROOT / document
        name = str(file.resolve().relative_to(ROOT))
        assert file.exists() or name in MADE, f"{document} links to {target}"
        if anchor and name not in MADE:  # their anchors are checked when the site is built
            assert anchor in anchors(name), f"{document} links to {target}#{anchor}"


def test_every_page_is_in_the_navigation() -> None:
    navigation = read("mkdocs.yml")
    for document in GUIDES[1:]:
        assert Path(document).name in navigation, document


def test_no_document_names_a_place_of_one_machine() -> None:
    for document in DOCUMENTS:
        assert not re.search(r"/(?:home|root|work|tmp/w)/|https?://(?:\d+\.|localhost)", read(document)), (
            document
        )


def test_a_code_that_was_merged_away_has_one_in_its_place() -> None:
    rows = re.findall(r"^\| (SE-[A-Z]\d\d) \| (SE-[A-Z]\d\d)\b", read("CHANGELOG.md"), flags=re.MULTILINE)
    sources = [
        path
        for name in ("samkr_edge", "targets", "training", "calibration", "benchmarks")
        for path in (ROOT / name).rglob("*.py")
    ]
    written = "\n".join(path.read_text(encoding="utf-8") for path in sources) if rows else ""
    for gone, now in rows:
        assert f'"{gone}"' not in written, f"{gone} is raised again"
        assert f'"{now}"' in written, f"{now} is raised nowhere"


def test_the_changelog_begins_with_this_version() -> None:
    from samkr_edge import __version__

    assert re.findall(r"^## \[([^]]+)\]", read("CHANGELOG.md"), flags=re.MULTILINE)[0] == __version__


def test_what_papers_measure_is_the_last_epoch() -> None:
    lines = [line for document in GUIDES for line in command_lines(document)]
    by_papers = [line for line in lines if re.search("--protocol paper|--resize paper", line)]
    assert [line for line in by_papers if "best.pt" in line] == []
    assert any("final.pt" in line for line in by_papers)
