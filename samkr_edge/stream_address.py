"""Addresses of cameras and streams: what counts as one, and which part of it may be shown.

Users and passwords come before an @, in the path (``/user=admin_password=..._channel=1``), in the query or, in a
pipeline, in the properties of an element. Only the camera knows which part of an address is secret, so messages,
results and file names show only what cannot be.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

# At least two letters: C:/ is a drive.
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}", re.IGNORECASE)
_STREAMED = {"rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt"}
# Their paths and queries hold the key to a channel.
_KEYED = {"rtmp", "rtmps", "srt"}
# A user and a password, either of which may contain slashes. In a path that begins with a folder, a colon and an @ are
# a time and a size: clips/12:30:05/a@2x.png.
_PASSWORD = re.compile(r"(?://)?[^/\\:@]+:.*@", re.DOTALL)
# The same with a single word, followed by a host.
_NO_SCHEME = re.compile(r"[^/\\:@\s]+:.*@", re.DOTALL)
# What begins like an address, with the colon or slashes mistyped or forgotten.
_NAMES = "|".join(sorted(_STREAMED, reverse=True))
_MISTYPED = re.compile(rf"(?:{_NAMES})(?:[^\w\s]?(?://|\\\\)|:(?=[^/]))", re.IGNORECASE)
# The same as an output path, where `Path` has dropped one of two slashes, and a ``./``.
_USER_IN_PLACE = re.compile(rf"(?:(?:{_NAMES})[^\w\s]?/)?[a-z][^/:@\s]*:[^/@\s]+@", re.IGNORECASE)
_HOST = re.compile(r"(\[[0-9a-f:.%]+\]|[^:\[\]]*)(:\d{1,5})?", re.IGNORECASE)
# In a pipeline: an element with a property.
_ELEMENT = re.compile(r"\s*[a-z][\w-]*\s+[\w-]+\s*=", re.IGNORECASE)
_MAY_TELL = re.compile(
    r"[@=&;%:,]|user|usr|login|admin|pass|pwd|token|key|auth|secret|sign|session|cred", re.IGNORECASE
)
# A part of a path that reads as words and numbers (ch1, Streaming, videoMain, h264Preview_01_main, axis-media) or as
# the name of a recording (IMG_20261128.mp4), as a token of a camera hardly does.
_WORD = r"(?:(?:h26[45])?[A-Za-z]?[a-z]{0,11}(?:[A-Z][a-z]{3,11})?\d{0,4}|[A-Z]{1,5}\d{0,4})"
_STEM = r"[A-Za-z]{0,16}\d{0,8}(?:T\d{1,6})?"
_WORDS = re.compile(
    rf"{_WORD}(?:[._-]{_WORD})*|{_STEM}(?:[._-]{_STEM})*\.(?:mp4|m4v|mov|mkv|webm|avi|ts|mts|flv|mpe?g|mjpe?g)",
)
_LONGEST_WORDS = 60
_HIDDEN = "..."


def is_stream_address(source: str) -> bool:
    """Whether a source is the address of a stream, in lower or upper case."""
    scheme = _SCHEME.match(source)
    return (
        scheme is not None
        and source[scheme.end() - 2 : scheme.end()] == "//"
        and scheme[1].lower() in _STREAMED
    )


def in_small_letters(source: str) -> str:
    """An address with its scheme as FFmpeg spells it; anything else unchanged."""
    scheme, colon, rest = source.partition(":")
    return scheme.lower() + colon + rest if is_stream_address(source) else source


def is_like_address(text: str) -> bool:
    """Whether a text is or contains an address of any kind, or what may be a user and a password before an @."""
    text = text.strip()
    found = (_SCHEME.match(text), _MISTYPED.match(text), _PASSWORD.match(text))
    return any(found) or "://" in text


def is_place_like_address(place: Path) -> bool:
    """Whether an output path that does not exist yet is really an address."""
    forms = (_SCHEME, _MISTYPED, _USER_IN_PLACE)
    return not os.path.lexists(place) and any(form.match(str(place).strip()) for form in forms)


def without_secrets(source: str) -> str:
    """A source as it may be shown; ssh addresses, and what is neither address nor pipeline, are unchanged."""
    text = source.strip()
    matched = _SCHEME.match(text)
    scheme = matched[1].lower() if matched else ""
    if scheme == "ssh" and not _PASSWORD.match(text[len("ssh:") :]):
        return source
    if matched is None and not _NO_SCHEME.match(text):
        if _is_pipeline(text):
            names = (re.match(r"[A-Za-z][\w/-]*", element.strip()) for element in text.split("!"))
            return " ! ".join(name[0] if name else _HIDDEN for name in names)
        mistyped = _MISTYPED.match(text)
        return (mistyped[0] if mistyped else "") + _HIDDEN if is_like_address(text) else source
    shown = f"{scheme}://" if scheme else ""
    authority, slash, rest = _split(text[matched.end() if matched else 0 :])
    host = authority.rpartition("@")[2]
    if "@" in rest or not _HOST.fullmatch(host):
        # An @ after a slash: in a path, or after a password with a slash in it.
        return shown + _HIDDEN
    path: list[str] = []
    for part in re.split(r"/", re.split(r"[?#]", rest)[0]) if slash == "/" else []:
        if scheme in _KEYED or _MAY_TELL.search(part) or not _reads_as_words(part):
            path.append(_HIDDEN)
            break
        path.append(part)
    return shown + "/".join([host, *path])


def mark_of(source: str) -> str:
    """A suffix to distinguish addresses that are shown alike; empty if only a user, a query or a key is hidden.

    Six hex digits of the path's hash, unless the path may hold a password: they would confirm a guess at it.
    """
    scheme, _, rest = source.strip().partition("://")
    path = re.split(r"[?#]", rest)[0].split("/")[1:]
    told = scheme.lower() in _KEYED or any(map(_MAY_TELL.search, path))
    if not path or told or not without_secrets(source).endswith(_HIDDEN):
        return ""
    return hashlib.sha256("/".join(path).encode("utf-8", "surrogateescape")).hexdigest()[:6]


def _is_pipeline(text: str) -> bool:
    if " ! " in text:
        return True
    return "!" in text and ("://" in text or any(map(_ELEMENT.match, text.split("!"))))


def _reads_as_words(part: str) -> bool:
    return len(part) <= _LONGEST_WORDS and _WORDS.fullmatch(part) is not None


def _split(text: str) -> tuple[str, str, str]:
    """User, host and port; the character that ends them; and the rest."""
    end = re.search(r"[/?#]", text)
    return (text[: end.start()], end[0], text[end.end() :]) if end else (text, "", "")


def hide_secrets(text: str, words: Iterable[str]) -> str:
    """A text with the secrets of a command line's words removed.

    Covers options that hold an address (``--on=ssh://...``), and addresses taken for a path, which lose a slash. The
    name of an existing file is no secret, whatever it contains.
    """
    for word in words:
        value = re.search(r"=(.*)|[a-z][a-z0-9+]*://.*", word, re.DOTALL) if word.startswith("-") else None
        source = word if value is None else value[1] or value[0]
        shown = without_secrets(source)
        if shown == source or os.path.lexists(source):
            continue
        # Fixes name folders.
        for place in (source, source.strip(), Path(source), *Path(source).parents):
            name = str(place)
            if without_secrets(name) != name:
                for form in (name, shlex.quote(name), repr(name)[1:-1], shlex.quote(name)[1:-1]):
                    text = text.replace(form, shown)
    return text
