"""Text that came from users and their files cannot steer a terminal: control characters are shown, not sent."""

from __future__ import annotations

# C0 but tab and newline, delete, C1 (0x9b alone begins a sequence), line separators, and what reverses the direction
# of the text after it, so that a name could look like another.
_CONTROLS = (
    *(code for code in range(0x20) if code not in (0x09, 0x0A)),
    *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A),
)  # fmt: skip
_SHOWN = {code: repr(chr(code))[1:-1] for code in _CONTROLS}
_NEWLINE = {ord("\n"): "\\n"}


def printable(text: str) -> str:
    """``text`` with control characters as Python writes them: ``\\x1b``; tabs and line ends stay."""
    return text.translate(_SHOWN)


def one_line(text: str) -> str:
    """The same for what has to be one line: a name with a line end in it begins none of its own."""
    return printable(text).translate(_NEWLINE)


def is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8; names of files need not be, and Python reads the rest as surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)
