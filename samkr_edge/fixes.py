"""Parts of the last line of an error, which people paste: names as a shell takes them, and where to look."""

from __future__ import annotations

import os
import shlex
from pathlib import Path


def quoted(name: str | Path) -> str:
    """A name as one word of a shell, which no program takes for an option."""
    text = str(name)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def look_beside(path: str | Path) -> str:
    """For a file that is not there: the command that lists the nearest folder on the way to it that is."""
    folder = next((place for place in Path(path).parents if os.path.isdir(place)), Path("."))
    return f"ls {quoted(folder)}"
