"""The table of keys is the schema's, and the document's is the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.cli.train import recipes
from training.loop.recipe_keys import markdown, recipe_keys

DOCUMENT = Path(__file__).parents[3] / "docs" / "recipes.md"
KEYS = {key.key: key for key in recipe_keys()}


@pytest.mark.parametrize("key", KEYS)
def test_every_key_says_what_it_means(key: str) -> None:
    assert KEYS[key].meaning not in ("", "None")


@pytest.mark.parametrize(
    ("key", "default", "allowed", "papers"),
    [
        ("name", "", "text", ""),
        ("data.input_size", "null", "[integer, integer] or null", ""),
        ("data.scale", "[0.75, 1.5]", "[number, number]", ""),
        ("data.crop", "fit", "fit, short", "short"),
        ("data.center_sigma", "4.0", "number ≥ 0.6", "2 (crowdpose)"),
        ("data.parity", "false", "true, false", ""),
        (
            "loss.kind",
            "null",
            "dekr, higherhrnet, swahr or null",
            "dekr (dekr, samkr w48); higherhrnet (higherhrnet); swahr (swahr, samkr w32)",
        ),
        ("loss.offset_weight", "0.007", "number ≥ 0", "0.03"),
        (
            "accumulate",
            "1",
            "integer ≥ 1",
            "4 (higherhrnet, dekr w32, samkr w32); 8 (swahr, dekr w48, samkr w48)",
        ),
        ("optimizer.lr", "0.001", "number > 0", "0.002 (swahr w32); 0.00096 (swahr w48)"),
        ("data.offset_extent", "person", "person, image", "image"),
        ("ema", "null", "number > 0, < 1 or null", ""),
    ],
)
def test_a_key_with_its_default_its_bounds_and_what_papers_set(
    key: str, default: str, allowed: str, papers: str
) -> None:
    found = KEYS[key]
    assert (found.default, found.allowed, found.papers) == (default, allowed, papers)


def test_the_document_holds_the_table() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    table = text[text.index("| key |") :]
    assert table == markdown([*KEYS.values()]), (
        "docs/recipes.md: put what `markdown(recipe_keys())` gives there"
    )


def test_recipes_prints_the_keys(capsys: pytest.CaptureFixture[str]) -> None:
    recipes(None, keys=True, as_json=True)
    assert [entry["key"] for entry in json.loads(capsys.readouterr().out)["keys"]] == [*KEYS]


def test_a_key_of_one_decoding_says_so() -> None:
    assert KEYS["data.max_people"].meaning.startswith("grouping: ")
    assert KEYS["data.offset_radius"].meaning.startswith("offsets: ")
    assert ":" not in KEYS["data.flip"].meaning
