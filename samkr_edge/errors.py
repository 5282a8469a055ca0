"""The one error a user sees: what happened, the facts, and the command that fixes it.

Every mistake that is not a bug of ours is raised as ``SamkrError`` and printed once, by the command line's root,
without a traceback. The letter of the code is its family, which decides the exit code:

    SE-U usage 2 | SE-D data 3 | SE-A artefact 4 | SE-B build 5 | SE-Q quality gate 6 | SE-V device 7
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from samkr_edge.printable import one_line, printable

EXIT_CODES = {"U": 2, "D": 3, "A": 4, "B": 5, "Q": 6, "V": 7}
_CODE = re.compile(r"SE-([UDABQV])\d{2}")
_COLUMN = 10  # labels are padded to this width


def reason_of(error: BaseException) -> str:
    """Another library's exception as one line for a fact; its class if it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()[:160]


def words_of(error: BaseException, most: int = 160) -> str:
    """The full text of another library's exception on one line; its class if it has none."""
    return (" ".join(str(error).split()) or type(error).__name__)[:most]


def files_of(error: BaseException) -> list[str]:
    """Files of the traceback, from where an exception was caught to where it was raised, last."""
    traceback, files = error.__traceback__, []
    while traceback is not None:
        files.append(traceback.tb_frame.f_code.co_filename)
        traceback = traceback.tb_next
    return files


class SamkrError(Exception):
    """One clear error.

    Args:
        code: ``SE-`` + family letter + two digits; stable, so that users can search for it.
        message: one line: what happened, and so what was or was not done.
        facts: label -> value, expected against found, up to about four lines in the order given. A list is one line
            for each of its entries, under one label; None and an empty list are left out. Other types are kept as
            their text.
        fix: one runnable command, or the shortest sentence if no command can help.
    """

    def __init__(
        self, code: str, message: str, facts: Mapping[str, object] | None = None, fix: str | None = None
    ) -> None:
        matched = _CODE.fullmatch(code)
        if matched is None:
            raise ValueError(f"{code!r} is not an error code")
        super().__init__(message)
        self.code = code
        self.message = message
        self.facts: dict[str, Any] = {
            label: _plain(value)
            for label, value in (facts or {}).items()
            if value is not None and value != []
        }
        self.fix = fix
        self.exit_code = EXIT_CODES[matched.group(1)]

    def __str__(self) -> str:
        lines = [
            f"error {self.code}: {one_line(self.message)}",
            *(f"  {one_line(line)}" for line in fact_lines(self.facts)),
        ]
        if self.fix:
            lines.append(f"fix: {printable(self.fix)}")
        return "\n".join(lines)

    def sentence(self) -> str:
        """Message and facts without code and fix, on one line: for a note, or a fact of another error."""
        return "; ".join((self.message, *(" ".join(line.split()) for line in fact_lines(self.facts))))

    def to_dict(self) -> dict[str, object]:
        """The same, for ``--json``."""
        return {"code": self.code, "message": self.message, "facts": self.facts, "fix": self.fix}


def fact_lines(facts: Mapping[str, object]) -> list[str]:
    """Facts as they are printed: the labels padded to one column, and a line for each entry of a list."""
    column = max((len(label) for label in facts), default=0)
    return [
        f"{label:<{max(column, _COLUMN)}} {entry}"
        for label, value in facts.items()
        for entry in (value if isinstance(value, list) else [value])
    ]


def _plain(value: object) -> Any:
    if isinstance(value, (list, tuple)):
        return [one if isinstance(one, (str, int, float)) else str(one) for one in value]
    return value if isinstance(value, (str, int, float)) else str(value)
