"""The pages that are made when the site is built: every error by its code, every module of the API."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generated_pages", ROOT / "docs/generated_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_code_in_the_sources_is_on_the_page(made: ModuleType) -> None:
    shown = set(re.findall(r"^### (SE-\w+)$", made.errors_page(), flags=re.MULTILINE))
    sources = [path for package in made.PACKAGES for path in (ROOT / package).rglob("*.py")]
    written = {
        code
        for path in sources
        if path.parent.name not in ("host", "selftest")
        for code in re.findall(r'"(SE-[A-Z]\d\d)",', path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert written - shown == set()
    assert len(shown) > 150


def test_an_error_has_its_message_its_fix_and_its_module(made: ModuleType) -> None:
    file = ROOT / "samkr_edge" / "pose_model.py"
    assert {error.module for error in made.raised_in(file)} == {"samkr_edge.pose_model"}
    source = ast.parse('f"{quoted(path)} is no {kind if known else other}" + " model"', mode="eval").body
    assert made.text_of(source, {}) == "… is no … model"
    either = ast.parse('"this one" if known else f"{card.name} or another"', mode="eval").body
    assert made.text_of(either, {}).split("\0") == ["this one", "… or another"]
    named = ast.parse('f"{what}, so nothing was done{more}"', mode="eval").body
    assert made.text_of(named, {"what": "one\0two"}).split("\0") == [
        "one, so nothing was done…",
        "two, so nothing was done…",
    ]


def test_every_error_reads_without_the_source(made: ModuleType) -> None:
    page = made.errors_page()
    assert "SE-X01" in page
    assert re.findall(r"^.*[{}].*$", page, re.MULTILINE) == []
    for section in re.split(r"^### ", page, flags=re.MULTILINE)[1:]:
        said = [
            line for line in section.splitlines()[2:] if line and not line.startswith(("```", "raised in"))
        ]
        for line in said:
            assert re.search("[A-Za-z-]{2}", line.removeprefix("fix: ").replace("…", "")), section
        assert any(len(re.findall("[A-Za-z]{2,}", line)) > 2 for line in said), section


def test_every_module_that_is_called_is_on_a_page_of_the_api(made: ModuleType) -> None:
    on_pages = [
        module
        for text in made.api_pages().values()
        for module in re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    ]
    assert len(on_pages) == len(set(on_pages))
    assert {"samkr_edge", "samkr_edge.pose.decode", "training.models.heads", "targets.profile"} <= set(
        on_pages
    )
    assert not [module for module in on_pages if ".cli" in module or ".selftest" in module]
    for module in on_pages:
        assert importlib.util.find_spec(module.rpartition(".")[0] or module) is not None, module


def test_the_site_is_built_strictly() -> None:
    """``--quiet`` keeps warnings from being counted, and with them what ``--strict`` fails on."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.findall(r"mkdocs build (.*)", makefile) == ["--strict"]
