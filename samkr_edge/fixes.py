"""Parts of an error's fix, which people paste: names quoted for a shell, and where to look."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from samkr_edge.printable import is_utf8


def quoted(name: str | Path) -> str:
    """A name as one shell word that no program takes for an option."""
    text = f"./{name}" if str(name).startswith("-") else str(name)
    if not is_utf8(text):  # escaped bytes, which bash and zsh read
        return f"$'{''.join(map(_byte, os.fsencode(text)))}'"
    return shlex.quote(text)


def _byte(value: int) -> str:
    return chr(value) if 0x20 <= value < 0x7F and value not in b"'\\" else f"\\x{value:02x}"


def look_beside(path: str | Path) -> str:
    """For a missing file: the command that lists the nearest existing folder on its path."""
    folder = next((place for place in Path(path).parents if os.path.isdir(place)), Path("."))
    return f"ls {quoted(folder)}"
