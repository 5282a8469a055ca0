"""YAML that people write: recipes, policies, suites, descriptions of keypoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from samkr_edge.errors import words_of

_ENDINGS = (".yaml", ".yml")


def own_or_shipped(name: str, folder: Path) -> Path:
    """The user's file if ``name`` ends as one, else the shipped one of this name in ``folder``; it need not exist."""
    return Path(name) if is_own(name) else folder / f"{name}.yaml"


def is_own(name: str) -> bool:
    """Whether a word for a policy or recipe means the user's file of this name, and not a shipped one."""
    return name.endswith(_ENDINGS)


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Raises:
        FileNotFoundError: there is none; OSError: the system refuses it.
        ValueError: it is not UTF-8, not YAML or not a mapping; the text says which, in one line.
    """
    content = yaml_of(path.read_text(encoding="utf-8-sig"))
    if not isinstance(content, dict):
        found = "nothing" if content is None else f"a {type(content).__name__}"
        raise ValueError(f"it holds {found}, not keys with values")
    return content


def yaml_of(text: str) -> Any:
    """The value of a YAML text; raises ValueError with one line of reason."""
    try:
        return yaml.safe_load(text)
    # ValueError: a date that does not exist; RecursionError: endless nesting.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # As `targets.profile` words it, which imports nothing of this package.
        mark = getattr(error, "problem_mark", None)
        if mark is None:
            raise ValueError(words_of(error, 200)) from error
        place = f"line {mark.line + 1}, column {mark.column + 1}"
        raise ValueError(f"{place}: {getattr(error, 'problem', None)}") from error
