"""The README cannot drift from the program: its commands exist, its options are known, its links lead somewhere."""

import json
import re
import shlex
from pathlib import Path

import pytest

from samkr_edge.cli import COMMANDS, run
from training.loop.recipe_file import recipe_comment, recipe_names

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def readme_commands() -> list[str]:
    """Every `samkr-edge ...` line of the README's shell blocks."""
    lines: list[str] = []
    for block in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            command = line.split("#")[0].strip()
            if command.startswith("samkr-edge "):
                lines.append(command)
    return lines


def test_the_readme_begins_with_the_two_commands() -> None:
    first_block = re.search(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    assert first_block is not None
    assert [line.split("#")[0].strip() for line in first_block.group(1).splitlines()] == [
        "make demo",
        "make test",
    ]


def recipe_commands() -> list[str]:
    """The test lines in the recipes of papers, each once."""
    lines = (line.lstrip("# ") for name in recipe_names() for line in recipe_comment(name))
    return list(dict.fromkeys(line for line in lines if line.startswith("samkr-edge ")))


@pytest.mark.parametrize("command", [*readme_commands(), *recipe_commands()])
def test_a_command_of_a_document_and_its_options_exist(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(command)[1:]
    name = words[:2] if words[0] == "data" else words[:1]
    assert name[0] in COMMANDS
    assert run([*name, "--help"]) == 0
    shown = capsys.readouterr().out
    for option in (word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)):
        assert option in shown, f"{option} is not an option of {' '.join(name)}"


def test_the_readme_shows_most_commands() -> None:
    shown = {shlex.split(command)[1] for command in readme_commands()}
    assert shown >= {
        "demo",
        "data",
        "train",
        "eval",
        "quantize",
        "qat",
        "export",
        "build",
        "predict",
        "bench",
        "report",
    }


def test_every_relative_link_of_the_documents_leads_to_a_file() -> None:
    for document in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (ROOT / target).exists(), f"{document} links to {target}"


def test_what_the_attention_is_worth_is_what_was_measured() -> None:
    kept = json.loads((ROOT / "benchmarks/results/attention.json").read_text(encoding="utf-8"))
    told = re.search(r"- \*\*What the attention is worth\.\*\*(.*?)\n- ", README, flags=re.DOTALL)
    assert told is not None
    rendered, photographs = kept["networks"].values()
    figures = [rendered["ap"], rendered["ap_without"], *rendered["difference"]["ap"]]
    figures += [photographs["ap"], photographs["ap_without"]]
    found = re.findall(r"-?\d+\.\d\d", told[1])
    assert list(dict.fromkeys(found)) == list(dict.fromkeys(f"{figure:.2f}" for figure in figures))


def test_what_papers_measure_is_the_last_epoch() -> None:
    by_papers = [line for line in readme_commands() if re.search("--protocol paper|--resize paper", line)]
    assert [line for line in by_papers if "best.pt" in line] == []
    assert any("final.pt" in line for line in by_papers)
