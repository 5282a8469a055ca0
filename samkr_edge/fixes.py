"""Parts of an error's fix, which people paste: names quoted for a shell, and where to look."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from samkr_edge.printable import is_utf8

# What is usual where images stand in the place of something else.
SPREAD_GLOB = "a glob without quotes, which the shell has spread: --photos 'DIR/*.jpg'"
# What others call what an option of ours takes.
_OTHER_NAMES = {
    "half": "fp16", "float16": "fp16", "f16": "fp16", "bf16": "fp16", "mixed": "fp16", "float": "fp32",
    "float32": "fp32", "f32": "fp32", "full": "fp32", "single": "fp32", "i8": "int8", "qdq": "int8", "float8": "fp8",
    "e4m3": "fp8", "minmax": "max", "kl": "entropy",
}  # fmt: skip
_FOUR_BITS = re.compile(r"(u?int|fp|nvfp|mxfp|i|w)4(\W|_|a\d|$)")


def meant(word: str, choices: Sequence[str]) -> dict[str, str]:
    """Facts for a word that is none of the choices: which of them is nearest, and why there is none of 4 bits."""
    said = word.lower()
    if _FOUR_BITS.match(said) and "fp16" in choices:
        cost = {"4 bits": "no engine has them; quantize --bits 4 measures what they would cost"}
        return {"nearest": "int8", **cost} if "int8" in choices else cost
    other = _OTHER_NAMES.get(re.split(r"\W|_", said)[0], "")
    within = [choice for choice in choices if choice in said or (len(said) > 2 and said in choice)]
    near = [*({other} & {*choices}), *within, *difflib.get_close_matches(said, choices, n=1)]
    return {"nearest": near[0]} if near else {}


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
