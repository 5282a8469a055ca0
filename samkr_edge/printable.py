"""Text from users and their files cannot control a terminal: control characters are shown, not sent."""

from __future__ import annotations

# C0 except tab and newline, delete, C1 (0x9b alone begins a sequence), line separators, and characters that reverse the
# direction of text, with which one name could look like another.
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
    """The same on one line: a line end in a name is shown too."""
    return printable(text).translate(_NEWLINE)


def is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8. File names may be other bytes, which Python reads as surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def counted(number: int, one: str, many: str = "") -> str:
    """``1 image``, ``2 images``; ``many`` where it is not ``one`` with an s."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"
