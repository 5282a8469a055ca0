"""The keys of a recipe as a table: meanings come from the schema, the papers' values from their recipes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from training.loop.recipe import Recipe, Section, decoding_keys
from training.loop.recipe_file import load_recipe, recipe_names
from training.models.zoo import model_config

COLUMNS = ("key", "default", "allowed", "papers", "meaning")


@dataclass(frozen=True)
class Key:
    """One key, all as text.

    Attributes:
        key: ``section.key``.
        default: as in YAML; empty where it must be given.
        allowed: type and bounds.
        papers: what the papers' recipes set instead of the default, and which ones where they differ; a key of one
            decoding is compared among its recipes alone.
        meaning: for people; begins with the decoding whose networks alone have the key.
    """

    key: str
    default: str
    allowed: str
    papers: str
    meaning: str


def recipe_keys() -> list[Key]:
    """All keys, in the schema's order."""
    names = [
        name
        for name in recipe_names()
        if name.endswith(("_coco", "_crowdpose"))
        # which are variants, and networks of no paper
        and not any(part in name for part in ("_from_", "_w18_"))
    ]
    papers = {name: load_recipe(name).model_dump(mode="json") for name in names}
    decodings = {name: model_config(values["model"]).decoding for name, values in papers.items()}
    return list(_keys(Recipe, papers, decodings))


def markdown(keys: list[Key]) -> str:
    """The table as Markdown, one key a line."""
    rows = [COLUMNS, tuple("---" for _ in COLUMNS)]
    for key in keys:
        values = [f"`{value}`" if value else "" for value in (key.key, key.default)]
        rows.append((*values, key.allowed, key.papers, key.meaning))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _keys(
    section: type[Section], papers: dict[str, Any], decodings: dict[str, str], prefix: str = ""
) -> Iterator[Key]:
    """The keys of one section; ``papers`` has its values by recipe, ``decodings`` how the recipe's network decodes."""
    marked = decoding_keys().get(prefix.rstrip("."), {})
    properties = section.model_json_schema(mode="validation")["properties"]
    for name, field in section.model_fields.items():
        inner, values = field.annotation, {recipe: values[name] for recipe, values in papers.items()}
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from _keys(inner, values, decodings, f"{name}.")
            continue
        default = None if field.is_required() else json.loads(json.dumps(field.default))
        own = name in ("name", "model") and not prefix  # each recipe has its own
        only = marked.get(name)
        values = {recipe: value for recipe, value in values.items() if only in (None, decodings[recipe])}
        yield Key(
            prefix + name,
            "" if field.is_required() else json.dumps(default).strip('"'),
            _allowed(properties[name]),
            "" if own else _set(values, default),
            f"{only}: {field.description}" if only else str(field.description),
        )


def _set(values: dict[str, Any], default: Any) -> str:
    """``40 (w48), 10 (w32)``: what recipes set instead of the default; no name where all agree."""
    groups: dict[str, set[str]] = {}
    for recipe, value in values.items():
        if value != default:
            shown = f"{value:.4g}" if isinstance(value, float) else json.dumps(value).strip('"')
            groups.setdefault(shown, set()).add(recipe)
    if [*groups.values()] == [set(values)]:
        return next(iter(groups))
    return "; ".join(f"{shown} ({_called(group, set(values))})" for shown, group in groups.items())


def _called(group: set[str], names: set[str]) -> str:
    """The group by words of its names: ``swahr, samkr w32``. Each part is words that names of the group alone have.

    The part that covers most comes first, of equals the one of the fewest words.
    """
    places = {word: place for name in group for place, word in enumerate(name.split("_"))}
    words = sorted(places, key=lambda word: (places[word], word))
    parts = {
        " ".join(chosen): covered
        for count in range(1, 4)
        for chosen in combinations(words, count)
        if (covered := {name for name in names if set(chosen) <= set(name.split("_"))}) and covered <= group
    }
    called, left = [], set(group)
    while left:
        best = max(parts, key=lambda part: (len(parts[part] & left), -len(part.split())))
        called.append(best)
        left -= parts[best]
    return ", ".join(called)


def _allowed(schema: dict[str, Any]) -> str:
    """Type and bounds of a JSON schema, for people."""
    if "anyOf" in schema:
        return " or ".join(_allowed(part) for part in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(schema["enum"])
    if schema["type"] == "array":
        parts = schema.get("prefixItems")
        items = [*map(_allowed, parts)] if parts else [_allowed(schema["items"]), "..."]
        return f"[{', '.join(items)}]"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = ", ".join(f"{sign} {schema[name]:g}" for name, sign in signs.items() if name in schema)
    kind = {"boolean": "true, false", "string": "text"}.get(schema["type"], schema["type"])
    return f"{kind} {bounds}".strip()
