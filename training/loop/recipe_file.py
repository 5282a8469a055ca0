"""Recipes as files: reading one, what it extends, ``--set`` on top, and errors that name the nearest key."""

from __future__ import annotations

import difflib
import itertools
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from samkr_edge.errors import SamkrError, reason_of
from samkr_edge.files.named import NO_FILE, missing_file
from samkr_edge.files.yaml_file import own_or_shipped, read_yaml, yaml_of
from training.loop.recipe import Recipe

RECIPES = Path(__file__).parents[1] / "recipes"
_LENGTHS = {"epochs", "steps", "minutes"}


def recipe_names() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load_recipe(name: str, overrides: list[str] | None = None) -> Recipe:
    """A shipped recipe by name, or a YAML file by path; ``overrides`` are ``section.key=value``.

    A file may start from a shipped recipe, ``extends: NAME``, and then holds only what differs.

    Raises:
        SamkrError: SE-A23 no such file, SE-U30 no recipe of this name, SE-U31 not valid; for an unknown key
            it names the nearest one.
    """
    content = _read(name)
    for override in overrides or []:
        _apply(content, override)
    return _validated(content, name)


def as_taught(recipe: Recipe, facts: dict[str, Any], decoding: str) -> Recipe:
    """The recipe with the targets and the loss that its network was trained with, where it does not name its own.

    A network that is fine-tuned on Gaussians of another width would have to learn those first.

    Args:
        recipe: of a fine-tuning.
        facts: the ``training`` part of a card's provenance; without a record the recipe stays as it is.
        decoding: the network's.

    Raises:
        SamkrError: SE-U31 what the recipe names contradicts the record.
    """
    changes: dict[str, Any] = {
        name: {**facts[name], **getattr(recipe, name).model_dump(exclude_unset=True)}
        for name in ("data", "loss")
        if isinstance(facts.get(name), dict)
    }
    if "data" in changes and decoding == "offsets":  # old cards lack newer keys
        changes["data"].setdefault("smallest_extent", 1.0)
        if changes["data"].get("parity"):
            changes["data"].setdefault("crop", "short")
    named = f"{recipe.name}, with data and loss from the network's card," if changes else recipe.name
    return _validated({**recipe.model_dump(exclude_unset=True), **changes}, named)


def recipe_about(name: str) -> str:
    """The first sentence of a recipe."""
    text = " ".join(line.lstrip("# ") for line in recipe_comment(name))
    return f"{text.partition('. ')[0].rstrip('.')}."


def recipe_comment(name: str) -> list[str]:
    """The comment at a recipe's top, by line; if it is one line, the rest comes from the recipe it extends."""
    text = own_or_shipped(name, RECIPES).read_text(encoding="utf-8-sig")
    lines = list(itertools.takewhile(lambda line: line.startswith("#"), text.splitlines()))
    base = yaml_of(text).get("extends")
    return lines if len(lines) > 1 or base is None else [*lines, *recipe_comment(base)[1:]]


def _validated(content: dict[str, Any], name: str) -> Recipe:
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise _invalid(name, dict(map(_explain, error.errors()[:4]))) from error


def _read(name: str) -> dict[str, Any]:
    """The mapping in a recipe file, what it extends included."""
    path = own_or_shipped(name, RECIPES)
    try:
        content = read_yaml(path)
    except NO_FILE as error:
        if path == Path(name):
            raise missing_file(path, "recipe") from error
        near = difflib.get_close_matches(name, recipe_names(), n=3, cutoff=0.4)
        raise SamkrError(
            "SE-U30",
            f"there is no recipe {name!r}",
            {"nearest": ", ".join(near)} if near else {"shipped": f"{len(recipe_names())} recipes"},
            fix="samkr-edge recipes",
        ) from error
    except ValueError as error:
        raise _invalid(str(path), {"reason": reason_of(error)}) from error
    content.setdefault("name", path.stem)
    base = content.pop("extends", None)
    if base is None:
        return content
    if base not in recipe_names() or path == RECIPES / f"{base}.yaml":
        raise _invalid(str(path), {"extends": f"{base!r}, which is no other shipped recipe"})
    return _merged(_read(base), content)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes``, section by section; a new length replaces the old unit."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            if key == "schedule" and not _LENGTHS.isdisjoint(value):
                old = {name: setting for name, setting in old.items() if name not in _LENGTHS}
            merged[key] = {**old, **value}
        else:
            merged[key] = value
    return merged


def _invalid(path: str, facts: dict[str, str]) -> SamkrError:
    return SamkrError(
        "SE-U31",
        f"{path} is not a valid recipe",
        facts,
        fix="samkr-edge recipes --keys   # all settings, with valid values",
    )


def _apply(content: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator:
        raise _invalid(f"--set {override}", {"expected": "section.key=value, for example optimizer.lr=5e-4"})
    *sections, last = key.strip().split(".")
    place = content
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise _invalid(f"--set {override}", {section: "is not a section"})
    try:
        parsed = yaml_of(value)  # YAML 1.1 reads 5e-4 as text; the schema makes a number of it
    except ValueError as error:
        raise _invalid(f"--set {override}", {"reason": reason_of(error)}) from error
    if sections[-1:] == ["schedule"] and last in _LENGTHS:
        for other in _LENGTHS:
            place.pop(other, None)
    place[last] = parsed


def _explain(item: Any) -> tuple[str, str]:
    """A setting and what is wrong with it."""
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        return key or "schedule", item["msg"].removeprefix("Value error, ")
    model: Any = Recipe
    for part in item["loc"][:-1]:
        model = model.model_fields[part].annotation
    near = difflib.get_close_matches(str(item["loc"][-1]), list(model.model_fields), n=1, cutoff=0.4)
    return key, "no such key" + (f"; nearest: {near[0]}" if near else "")
