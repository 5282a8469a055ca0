"""Addresses of cameras and streams: what one is, and what of it may be shown.

Users and passwords stand before an @, in the path (``/user=admin_password=..._channel=1``), in the query or, of a
pipeline, in the properties of an element. Which part of an address is a secret is known to nobody but its camera, so
only what cannot be one is shown: in messages, results and the names of files.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

# Two letters at least: C:/ is a drive.
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}", re.IGNORECASE)
_STREAMED = {"rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt"}
# Their paths and queries hold the key to a channel.
_KEYED = {"rtmp", "rtmps", "srt"}
# A user and a password, of which either may hold slashes; in a path that begins with a folder, a colon and an @ are a
# time and a size: clips/12:30:05/a@2x.png.
_PASSWORD = re.compile(r"(?://)?[^/\\:@]+:.*@", re.DOTALL)
# The same of one word alone, followed by a host.
_NO_SCHEME = re.compile(r"[^/\\:@\s]+:.*@", re.DOTALL)
# What begins as an address does, its colon or its slashes mistyped or forgotten.
_NAMES = "|".join(sorted(_STREAMED, reverse=True))
_MISTYPED = re.compile(rf"(?:{_NAMES})(?:[^\w\s]?(?://|\\\\)|:(?=[^/]))", re.IGNORECASE)
# The same as a place to write to, which as a path has lost one of two slashes, and a ``./``.
_USER_IN_PLACE = re.compile(rf"(?:(?:{_NAMES})[^\w\s]?/)?[a-z][^/:@\s]*:[^/@\s]+@", re.IGNORECASE)
_HOST = re.compile(r"(\[[0-9a-f:.%]+\]|[^:\[\]]*)(:\d{1,5})?", re.IGNORECASE)
# Of a pipeline: an element with a property.
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
    """Whether a source is the address of a stream, in small letters or capitals."""
    scheme = _SCHEME.match(source)
    return (
        scheme is not None
        and source[scheme.end() - 2 : scheme.end()] == "//"
        and scheme[1].lower() in _STREAMED
    )


def in_small_letters(source: str) -> str:
    """An address with its scheme as FFmpeg knows it; whatever else comes back as it is."""
    scheme, colon, rest = source.partition(":")
    return scheme.lower() + colon + rest if is_stream_address(source) else source


def is_like_address(text: str) -> bool:
    """Whether a text is an address of any kind, holds one, or has what may be a user and a password before an @."""
    text = text.strip()
    found = (_SCHEME.match(text), _MISTYPED.match(text), _PASSWORD.match(text))
    return any(found) or "://" in text


def is_place_like_address(place: Path) -> bool:
    """Whether a place to write to, where nothing is yet, is rather an address."""
    forms = (_SCHEME, _MISTYPED, _USER_IN_PLACE)
    return not os.path.lexists(place) and any(form.match(str(place).strip()) for form in forms)


def without_secrets(source: str) -> str:
    """A source as it may be shown; what is no address and no pipeline comes back as it is, and so do ssh's own."""
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
        # An @ after a slash: of a path, or of a password with a slash in it.
        return shown + _HIDDEN
    path: list[str] = []
    for part in re.split(r"/", re.split(r"[?#]", rest)[0]) if slash == "/" else []:
        if scheme in _KEYED or _MAY_TELL.search(part) or not _reads_as_words(part):
            path.append(_HIDDEN)
            break
        path.append(part)
    return shown + "/".join([host, *path])


def mark_of(source: str) -> str:
    """What tells addresses apart that are shown alike; empty where only a user, a query or a key is hidden.

    Six hex digits of a hash of the path, where no part of it may hold a password: they would confirm a guess at it.
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
    """A text without the secrets of the words of a command line in it.

    Also where an option holds an address (``--on=ssh://...``), and where one was taken for a path, which loses a slash.
    The name of a file that is there is no secret, whatever is in it.
    """
    for word in words:
        value = re.search(r"=(.*)|[a-z][a-z0-9+]*://.*", word, re.DOTALL) if word.startswith("-") else None
        source = word if value is None else value[1] or value[0]
        shown = without_secrets(source)
        if shown == source or os.path.lexists(source):
            continue
        # Folders are named in fixes.
        for place in (source, source.strip(), Path(source), *Path(source).parents):
            name = str(place)
            if without_secrets(name) != name:
                for form in (name, shlex.quote(name), repr(name)[1:-1], shlex.quote(name)[1:-1]):
                    text = text.replace(form, shown)
    return text
